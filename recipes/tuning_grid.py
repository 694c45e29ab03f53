"""The tuning grid: learning rates and weight decays on a logarithmic grid around a centre.

Neighbouring values differ by half a decade and are written as people write them (1, 3, 10, 30, ...). Cells are
taken in a fixed order from the centre outwards, so that the first 9 are the 3 by 3 block around it, a larger budget
only adds cells, and every optimizer's grid has the same shape. There is one more value between neighbouring learning
rates, a quarter of a decade from both.
"""

import functools
import itertools
import math

REACH = 6  # half decades: the grid ends at a thousand times the centre and a thousandth
MOST = (2 * REACH + 1) ** 2  # trials of one optimizer

Point = tuple[float, float]  # learning rate, weight decay
Cell = tuple[float, float]  # half decades from the centre; a learning rate may be halfway between two


def around(centre: Point, trials: int) -> list[Point]:
    """The `trials` points nearest to a centre, the centre first.

    Raises:
        ValueError: the centre's learning rate is not above 0, its weight decay is negative, or there are not so many
            points within a factor of 1,000.
    """
    lr, weight_decay = centre
    if not lr > 0 or weight_decay < 0:
        raise ValueError(f"a grid needs lr above 0 and weight_decay of at least 0, not {lr:g} and {weight_decay:g}")
    cells = _cells(centre)
    if trials > len(cells):
        decay = f"weight decay {weight_decay:g}" if weight_decay > 0 else "no weight decay"
        raise ValueError(
            f"{trials} trials are more than the {len(cells)} settings within a factor of 1,000 of lr {lr:g} "
            f"and {decay}; choose trials={len(cells)} or fewer"
        )
    return [_point(centre, cell) for cell in cells[:trials]]


def neighbour(centre: Point, point: Point, axis: int, direction: int) -> Point | None:
    """The next point of the grid along an axis (0: learning rate, 1: weight decay) in a direction (-1 or 1).

    None if it is more than a factor of 1,000 from the centre, or the axis has a single value.
    """
    cell = list(_cell_of(centre, point))
    between = cell[axis] % 1 != 0
    cell[axis] += direction * (0.5 if between else 1)
    if abs(cell[axis]) > REACH or (axis == 1 and centre[1] == 0):
        return None
    return _point(centre, (cell[0], cell[1]))


def between(centre: Point, point: Point) -> list[Point]:
    """The points a quarter of a decade below and above a learning rate, at the same weight decay."""
    i, j = _cell_of(centre, point)
    if i % 1 != 0:
        return []  # its neighbours are half a cell away already
    return [_point(centre, (i + side, j)) for side in (-0.5, 0.5)]


def _cells(centre: Point) -> list[Cell]:
    """The cells within reach of the centre, in rings; within a ring, those that differ in one value come first."""
    reach = range(-REACH, REACH + 1)
    return sorted(itertools.product(reach, reach if centre[1] > 0 else (0,)), key=_distance)


def _distance(cell: Cell) -> tuple[float, float, Cell]:
    i, j = abs(cell[0]), abs(cell[1])
    return max(i, j), i + j, cell


def _point(centre: Point, cell: Cell) -> Point:
    return moved(centre[0], cell[0]), moved(centre[1], cell[1])


@functools.cache
def _cell_of(centre: Point, point: Point) -> Cell:
    """The cell of a point that `around`, `neighbour` or `between` gave."""
    rates = (half / 2 for half in range(-2 * REACH - 1, 2 * REACH + 2))
    decays = range(-REACH, REACH + 1) if centre[1] > 0 else (0,)
    return next(cell for cell in itertools.product(rates, decays) if _point(centre, cell) == point)


def moved(value: float, half_decades: float) -> float:
    """A value times 10 ** (half_decades / 2), rounded to two digits; 1 and 3 times powers of ten stay such.

    A quarter decade is always computed from the value below.
    """
    below = math.floor(half_decades)
    if half_decades != below:
        return float(f"{moved(value, below) * 10**0.25:.1e}")
    if value == 0 or below == 0:
        return value
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = round(value / 10.0**exponent, 9)
    if mantissa in (1.0, 3.0):
        steps = 2 * exponent + (mantissa == 3.0) + below
        return float(f"{(1, 3)[steps % 2]}e{steps // 2}")
    return float(f"{value * 10 ** (below / 2):.1e}")

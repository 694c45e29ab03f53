"""The points at which an optimizer is tried: a logarithmic grid of learning rate and weight decay around a centre.

Neighbouring values differ by half a decade and are written as people write them (1, 3, 10, 30, ...). Cells are
taken in a fixed order from the centre outwards, so that the first 9 are the 3 by 3 block around it, a larger budget
only adds cells, and every optimizer's grid has the same shape.
"""

import itertools
import math
from collections.abc import Iterable

REACH = 6  # half decades: a thousand times the centre and a thousandth; what lies beyond is no centre's neighbour
MOST = (2 * REACH + 1) ** 2  # trials of one optimizer

Point = tuple[float, float]  # learning rate, weight decay
Cell = tuple[int, int]  # half decades from the centre


def around(centre: Point, trials: int) -> list[Point]:
    """The `trials` points nearest to a centre, the centre first.

    Raises:
        ValueError: the centre's learning rate is not above 0, its weight decay is negative, or there are not so many
            points within a factor of 1,000.
    """
    lr, weight_decay = centre
    if not lr > 0 or weight_decay < 0:
        raise ValueError(f"a grid needs lr above 0 and weight_decay of at least 0, not {lr:g} and {weight_decay:g}")
    cells = _cells(centre, (0, 0))
    if trials > len(cells):
        beside = f"weight decay {weight_decay:g}" if weight_decay > 0 else "no weight decay"
        raise ValueError(
            f"{trials} trials are more than the {len(cells)} settings that lie within a factor of 1,000 of lr {lr:g} "
            f"and {beside}; choose trials={len(cells)} or fewer"
        )
    return _points(centre, cells[:trials])


def extended(centre: Point, tried: Iterable[Point], best: Point, trials: int) -> list[Point]:
    """The `trials` points of the same grid nearest to `best` that were not tried, such as those beyond its edge.

    Fewer, where there are not so many within a factor of 1,000 of `best`.
    """
    at = {point: cell for cell, point in _neighbourhood(centre)}
    done = {at[point] for point in tried}
    return _points(centre, [cell for cell in _cells(centre, at[best]) if cell not in done][:trials])


def _cells(centre: Point, middle: Cell) -> list[Cell]:
    """The cells within reach of `middle`, in rings; within a ring, those that differ in one value come first."""
    reach = range(-REACH, REACH + 1)
    cells = itertools.product(reach, reach if centre[1] > 0 else (0,))
    return [(middle[0] + i, middle[1] + j) for i, j in sorted(cells, key=_distance)]


def _distance(cell: Cell) -> tuple[int, int, Cell]:
    i, j = abs(cell[0]), abs(cell[1])
    return max(i, j), i + j, cell


def _points(centre: Point, cells: Iterable[Cell]) -> list[Point]:
    return [(moved(centre[0], i), moved(centre[1], j)) for i, j in cells]


def _neighbourhood(centre: Point, reach: int = 40) -> Iterable[tuple[Cell, Point]]:
    across = range(-reach, reach + 1)
    for i, j in itertools.product(across, across if centre[1] > 0 else (0,)):
        yield (i, j), (moved(centre[0], i), moved(centre[1], j))


def moved(value: float, half_decades: int) -> float:
    """A value times 10 ** (half_decades / 2), two digits of it; 1 and 3 times powers of ten stay such."""
    if value == 0 or half_decades == 0:
        return value
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = round(value / 10.0**exponent, 9)
    if mantissa in (1.0, 3.0):
        steps = 2 * exponent + (mantissa == 3.0) + half_decades
        return float(f"{(1, 3)[steps % 2]}e{steps // 2}")
    return float(f"{value * 10 ** (half_decades / 2):.1e}")

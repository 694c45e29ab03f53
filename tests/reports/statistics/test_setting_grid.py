"""Where the cells of a heat map lie, which of them tie, and over what its colours go."""

import math

import numpy as np
import pytest

from reports.records.reader import read_records
from reports.statistics.selection import comparisons
from reports.statistics.setting_grid import SettingGrid, colour_limits, setting_grid


def grid_of(*values):
    shape = (1, len(values))
    none = np.zeros(shape, dtype=bool)
    return SettingGrid([1.0] * len(values), [0.1], np.array([values], dtype=float), none, none, None, False)


def test_cells_ties_and_the_open_side(write_run, outputs):
    trials = [(1e-3, 0.1, 0.9), (1e-3, 0.3, 0.89), (3e-4, 0.1, 0.5), (1e-2, 0.1, None)]
    for rate, decay, final in trials:
        status = "diverged" if final is None else "completed"
        write_run(lr=rate, weight_decay=decay, seed=1000, status=status, final=final)
    for seed, final in enumerate((0.88, 0.92, 0.90)):
        write_run(lr=1e-3, weight_decay=0.1, seed=seed, final=final)
    grid = setting_grid(comparisons(read_records([outputs]).runs)[0].contenders[0])
    assert (grid.learning_rates, grid.weight_decays, grid.chosen) == ([3e-4, 1e-3, 1e-2], [0.1, 0.3], (0, 1))
    np.testing.assert_array_equal(grid.values, [[0.5, 0.9, math.nan], [math.nan, 0.89, math.nan]])
    assert np.argwhere(grid.tied).tolist() == [[0, 1], [1, 1]]
    assert np.argwhere(grid.diverged).tolist() == [[0, 2]]
    assert grid.open  # no decay below 0.1 was tried


@pytest.mark.parametrize(
    ("values", "goal", "limits"),
    [
        ((0.9, 0.8, 0.7, 0.1), "max", (0.45, 0.9)),  # distances 0, 0.1, 0.2, 0.8: median 0.15, three times 0.45
        ((0.9, 0.8), "max", (0.8, 0.9)),  # the worst lies within
        ((30.0, 32.0, 34.0, 500.0), "min", (30.0, 39.0)),
        ((30.0, 30.0, 30.0, 500.0), "min", (30.0, 500.0)),  # most are the best: nothing to clip by
        ((0.5,), "max", (0.5 - 1e-6, 0.5)),
        ((math.nan,), "min", (0.0, 1.0)),
    ],
)
def test_colours_go_from_the_best_to_three_times_the_median_distance(values, goal, limits):
    assert colour_limits([grid_of(*values)], goal) == pytest.approx(limits)

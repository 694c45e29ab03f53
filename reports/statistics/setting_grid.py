"""The trials of one optimizer as a grid over learning rate and weight decay, for heatmaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.statistics.selection import SETTING, Contender


@dataclass(frozen=True)
class SettingGrid:
    """Final validation values at [weight decay, learning rate], both ascending.

    `values` is nan where nothing was tried or every run diverged; `diverged` says where any run did. `chosen` is the
    [row, column] of the chosen setting, None where there is none.
    """

    learning_rates: list[float]
    weight_decays: list[float]
    values: NDArray[np.float64]
    diverged: NDArray[np.bool_]
    chosen: tuple[int, int] | None


def setting_grid(contender: Contender) -> SettingGrid:
    """Lay the settings that one optimizer was tried at out as a grid."""
    settings = contender.settings
    rates, decays = (sorted(settings[axis].dropna().unique().tolist()) for axis in SETTING)
    values = np.full((len(decays), len(rates)), math.nan)
    diverged = np.zeros(values.shape, dtype=bool)
    for setting in settings.dropna(subset=SETTING).to_dict("records"):
        place = decays.index(setting["weight_decay"]), rates.index(setting["lr"])
        values[place], diverged[place] = setting["final"], setting["diverged"] > 0
    chosen = None
    if contender.chosen is not None and not pd.isna(contender.chosen["lr"]):
        chosen = decays.index(contender.chosen["weight_decay"]), rates.index(contender.chosen["lr"])
    return SettingGrid(rates, decays, values, diverged, chosen)


def colour_limits(grids: Sequence[SettingGrid], goal: str) -> tuple[float, float]:
    """Return the ends of a colour scale over all grids, the lower one first.

    Of a metric to be lowered, values beyond ten times the best share one colour: a few bad trials would leave no
    contrast between the good ones.
    """
    finite = np.concatenate([grid.values[np.isfinite(grid.values)] for grid in grids])
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if goal == "min" and low > 0:
        high = min(high, 10 * low)
    return low, high if high > low else low + 1e-6

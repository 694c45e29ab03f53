"""The trials of one optimizer as a grid over learning rate and weight decay, for heatmaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.statistics.selection import SETTING, Contender, on_border
from reports.statistics.ties import tied_settings

FAR = 3.0  # times the median distance from the best: values beyond share one colour


@dataclass(frozen=True)
class SettingGrid:
    """Final validation values at [weight decay, learning rate], both ascending.

    `values` is nan where nothing was tried or every run diverged; `diverged` marks settings with a diverged run, `tied`
    those that tie with the chosen one. `chosen` is the [row, column] of the chosen setting, None if there is none, and
    `open` tells whether the trials do not enclose it.
    """

    learning_rates: list[float]
    weight_decays: list[float]
    values: NDArray[np.float64]
    diverged: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    chosen: tuple[int, int] | None
    open: bool


def setting_grid(contender: Contender) -> SettingGrid:
    """Arrange the settings of one optimizer's trials as a grid."""
    settings = contender.settings
    rates, decays = (sorted(settings[axis].dropna().unique().tolist()) for axis in SETTING)
    values = np.full((len(decays), len(rates)), math.nan)
    diverged, tied = np.zeros(values.shape, dtype=bool), np.zeros(values.shape, dtype=bool)
    ties = set(tied_settings(contender).index)
    for label, setting in settings.dropna(subset=SETTING).to_dict("index").items():
        place = decays.index(setting["weight_decay"]), rates.index(setting["lr"])
        values[place], diverged[place], tied[place] = setting["final"], setting["diverged"] > 0, label in ties
    chosen, unenclosed = None, False
    if contender.chosen is not None and not pd.isna(contender.chosen["lr"]):
        chosen = decays.index(contender.chosen["weight_decay"]), rates.index(contender.chosen["lr"])
        unenclosed = any(on_border(settings, contender.chosen, axis) for axis in SETTING)
    return SettingGrid(rates, decays, values, diverged, tied, chosen, unenclosed)


def colour_limits(grids: Sequence[SettingGrid], goal: str) -> tuple[float, float]:
    """Return the ends of a colour scale over all grids, the lower one first.

    Values further from the best than three times the median distance share one colour, so that a few bad trials do not
    remove the contrast between the good ones.
    """
    finite = np.concatenate([grid.values[np.isfinite(grid.values)] for grid in grids])
    if not finite.size:
        return 0.0, 1.0
    best, worst = (finite.max(), finite.min()) if goal == "max" else (finite.min(), finite.max())
    reach = min(abs(worst - best), FAR * float(np.median(np.abs(finite - best)))) or abs(worst - best) or 1e-6
    ends = float(best), float(best - reach if goal == "max" else best + reach)
    return min(ends), max(ends)

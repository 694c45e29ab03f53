"""Settings that tie with the chosen one: trials not shown to be worse."""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from reports.statistics.intervals import mean_and_sd
from reports.statistics.selection import SETTING, Contender


def tied_settings(contender: Contender) -> pd.DataFrame:
    """Return the rows of a contender's settings, without those that diverged, that tie with the chosen one.

    Two single runs of one setting differ by the square root of two times the standard deviation over seeds, here of
    the chosen setting's fresh seeds: a trial within that times the 97.5% point of Student's t of the chosen one is a
    tie. There are none if no setting was chosen.
    """
    tried = contender.settings
    if contender.chosen is None:
        return tried.iloc[:0]
    finals = contender.by_seed("final").dropna()
    margin = float(stats.t.ppf(0.975, max(len(finals) - 1, 1))) * math.sqrt(2) * mean_and_sd(finals)[1]
    return tried[(tried["diverged"] == 0) & ((tried["final"] - contender.chosen["final"]).abs() <= margin)]


def tied_values(contender: Contender, axis: str) -> tuple[float, float, float]:
    """Return the chosen value of an axis, and the smallest and largest at which a trial ties with the chosen one.

    An end on the edge of what was tried is open, 0 or inf: values beyond it were not tried.
    """
    chosen, tried = contender.chosen, contender.settings
    if chosen is None:
        return math.nan, 0.0, math.inf
    ties = tied_settings(contender)[axis]
    low, high = (float(end) for end in (min([chosen[axis], *ties]), max([chosen[axis], *ties])))
    edges = tried[axis].min(), tried[axis].max()
    return float(chosen[axis]), 0.0 if low <= edges[0] else low, math.inf if high >= edges[1] else high


def is_flat(contender: Contender, axis: str) -> bool:
    """Whether all values of an axis tie that were tried at the chosen value of the other axis."""
    if contender.chosen is None:
        return False
    other = SETTING[1 - SETTING.index(axis)]
    line = contender.settings[contender.settings[other] == contender.chosen[other]]
    return len(line) > 1 and bool(line.index.isin(tied_settings(contender).index).all())

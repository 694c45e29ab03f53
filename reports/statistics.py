"""The statistics of a table: means and spreads over seeds, and differences with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """One optimizer's value minus the reference's.

    `value` is the mean difference over the `seeds` that both have; with fewer than two common seeds it is the
    difference of the two means, and `low` and `high`, the ends of the interval, are nan.
    """

    value: float
    low: float
    high: float
    seeds: int

    def verdict(self, goal: str) -> str:
        """Say better, worse or no difference shown; empty where there is no interval to say it from."""
        if math.isnan(self.low):
            return ""
        if self.low <= 0 <= self.high:
            return NO_DIFFERENCE
        return "better" if (self.value > 0) == (goal == "max") else "worse"


def mean_and_sd(values: pd.Series[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, nan where there are too few values."""
    known = values.dropna().to_numpy(dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):  # huge losses give an infinite spread
        mean = float(np.mean(known)) if known.size else math.nan
        return mean, float(np.std(known, ddof=1)) if known.size > 1 else math.nan


def paired_difference(ours: pd.Series[float], reference: pd.Series[float], confidence: float = 0.95) -> Difference:
    """Compare two series of values indexed by seed, with the interval of a paired t test (Student, 1908)."""
    ours, reference = ours.dropna(), reference.dropna()
    pairs = pd.DataFrame({"ours": ours, "reference": reference}).dropna()
    if len(pairs) < 2:
        return Difference(mean_and_sd(ours)[0] - mean_and_sd(reference)[0], math.nan, math.nan, len(pairs))
    mean, sd = mean_and_sd(pairs["ours"] - pairs["reference"])
    half = float(stats.t.ppf((1 + confidence) / 2, len(pairs) - 1)) * sd / math.sqrt(len(pairs))
    return Difference(mean, mean - half, mean + half, len(pairs))

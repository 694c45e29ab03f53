"""The statistics of a table: means over seeds and differences to a reference, each with its interval.

A table that holds k optimizers against one reference makes k comparisons. At 95% each, one of six would be called a win
by chance in far more than 5% of tables; so intervals are simultaneous over the k comparisons by Bonferroni's
inequality, which asks for no independence: all share the reference's runs and the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """One optimizer's value minus the reference's.

    `value` is the mean difference over the `seeds` that both have; with fewer than two common seeds it is the
    difference of the two means, and `low` and `high`, the ends of the interval, are nan, as is `p`. `p` is the
    two-sided p-value of the paired t test by itself, corrected for nothing; `holm` corrects the p-values of a table.
    """

    value: float
    low: float
    high: float
    seeds: int
    p: float = math.nan

    def verdict(self, goal: str) -> str:
        """Return better, worse or no difference shown; empty without an interval."""
        if math.isnan(self.low):
            return ""
        if self.low <= 0 <= self.high or self.low == self.high:  # equal in every seed: the metric is coarse, not exact
            return NO_DIFFERENCE
        return "better" if (self.value > 0) == (goal == "max") else "worse"


def mean_and_sd(values: pd.Series[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation, nan for too few values."""
    present = values.dropna().to_numpy(dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):  # huge losses give an infinite spread
        mean = float(np.mean(present)) if present.size else math.nan
        return mean, float(np.std(present, ddof=1)) if present.size > 1 else math.nan


def mean_interval(values: pd.Series[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean over seeds and the ends of its Student's t interval, nan below two values."""
    mean = mean_and_sd(values)[0]
    half = float(half_width(values.dropna().to_numpy(dtype=float), confidence))
    return mean, mean - half, mean + half


def prediction_interval(values: pd.Series[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the ends of the interval in which one more seed's value lies with this confidence, nan below two values.

    Student's t interval of a new observation from the same normal distribution: mean ± t * sd * sqrt(1 + 1/n).
    """
    mean, low, high = mean_interval(values, confidence)
    half = (high - low) / 2 * math.sqrt(values.count() + 1)  # the mean's is t * sd * sqrt(1/n)
    return mean - half, mean + half


def half_width(values: NDArray[np.floating[Any]], confidence: float) -> NDArray[np.floating[Any]]:
    """Return half the width of the t interval (Student, 1908) of means over the last axis, nan below two values."""
    count = values.shape[-1]
    if count < 2:
        return np.full(values.shape[:-1], math.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.std(values, axis=-1, ddof=1) / math.sqrt(count)
    return np.asarray(stats.t.ppf((1 + confidence) / 2, count - 1) * error)


def paired_difference(
    ours: pd.Series[float],
    reference: pd.Series[float],
    confidence: float = 0.95,
    comparisons: int = 1,
    choice_variance: float = 0.0,
) -> Difference:
    """Compare two series of values indexed by seed, with the interval of a paired t test (Student, 1908).

    With several `comparisons` the intervals of all of them hold together with at least this confidence, whatever their
    dependence: each leaves out a share (1 - confidence) / comparisons (Bonferroni; Dunn, 1961). Where every seed has
    the same difference, the interval is that point.

    Seeds do not measure how well each optimizer's setting was chosen: with enough seeds, two equal optimizers differ
    significantly if one had the luckier choice. `choice_variance` is the variance that the choice adds to the mean
    difference, as a share of the variance of one seed's difference; it is added to the 1 / n of the seeds.
    """
    ours, reference = ours.dropna(), reference.dropna()
    pairs = pd.DataFrame({"ours": ours, "reference": reference}).dropna()
    if len(pairs) < 2:
        return Difference(mean_and_sd(ours)[0] - mean_and_sd(reference)[0], math.nan, math.nan, len(pairs))
    differences = pairs["ours"] - pairs["reference"]
    mean, low, high = mean_interval(differences, 1 - (1 - confidence) / comparisons)
    wider = math.sqrt(1 + choice_variance * len(pairs))
    half = wider * (high - low) / 2
    return Difference(mean, mean - half, mean + half, len(pairs), _p_value(differences, wider))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests so that all can be compared with one level (Holm, 1979).

    Those below the level are rejected; the chance of any false rejection is at most the level, whatever the
    dependence. A nan is not a test: it stays nan and is not counted.
    """
    raw = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(raw))
    order = tested[np.argsort(raw[tested], kind="stable")]
    adjusted = np.full(len(raw), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(order), 0, -1)), 1)
    return [float(p) for p in adjusted]


def _p_value(differences: pd.Series[float], wider: float) -> float:
    mean, sd = mean_and_sd(differences)
    if sd == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / (sd * wider) * math.sqrt(len(differences)), len(differences) - 1))

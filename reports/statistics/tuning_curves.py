"""Tuning curves: the expected best of k trials of an optimizer.

Confidence bands are those of Lourie, Cho and He (2023, arXiv:2311.09480), from their library opda.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd


def tuning_curve(
    values: Sequence[float] | pd.Series[float],
    goal: str,
    ks: Sequence[int],
    confidence: float = 0.95,
    *,
    worst: float,
    best: float | None = None,
) -> pd.DataFrame:
    """Return the expected best of k trials with a confidence band that holds for all k at once.

    `expected` is exact: the mean of the best of k draws with replacement from the trials that were run (Dodge et al.,
    2019). The band has at least this coverage, in practice far more, where trials are independent draws from one
    distribution, as points drawn at random from a search space are; ties only widen it.

    The points of a grid are not such draws: they are spread evenly and do not repeat. The curve of a grid still tells
    how fast a random order through it finds a good point (slightly too slowly, since that order would not repeat
    points), but its band has no stated coverage: it shows the uncertainty of as many random trials. Neither holds for
    another search space: a grid around a well-placed centre makes any optimizer look easy to tune.

    Args:
        values: Final validation value of each trial; nan for one that diverged.
        goal: max or min.
        ks: Numbers of trials, from 1 on.
        confidence: Coverage of the band.
        worst: The worst value of the metric, such as that of a guess. A diverged trial counts as this, and no trial
            counts as worse. Give the same to every optimizer.
        best: The best value that the metric can take; None where it has no bound, which leaves the band's better side
            infinite: a few trials cannot exclude that a rare one is far better.

    Returns:
        Columns k, expected, low and high.

    Raises:
        ValueError: There are no trials, or one is better than `best`.
    """
    from opda.nonparametric import EmpiricalDistribution  # imported late: it loads scipy.optimize

    minimize = goal == "min"
    trials = np.asarray(values, dtype=float)
    trials = np.where(np.isnan(trials), worst, trials)
    trials = np.minimum(trials, worst) if minimize else np.maximum(trials, worst)
    bound = best if best is not None else -math.inf if minimize else math.inf
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicates detected", RuntimeWarning)  # ties make the band wider, not wrong
        lower, point, upper = EmpiricalDistribution.confidence_bands(
            trials,
            confidence,
            a=min(worst, bound),
            b=max(worst, bound),
            method="ld_equal_tailed",
            generator=_generator(len(trials), confidence),
            n_jobs=1,
        )
    # The cumulative distribution that rises last is that of the largest values.
    curves = {"expected": point, "low": upper, "high": lower}
    return pd.DataFrame(
        {
            "k": list(ks),
            **{name: cdf.average_tuning_curve(list(ks), minimize=minimize) for name, cdf in curves.items()},
        }
    )


@cache
def _generator(trials: int, confidence: float) -> np.random.Generator:
    """Return the generator by which a band's critical value is simulated: the same trials give the same band.

    The library keeps what it simulates by number of trials, confidence and generator.
    """
    return np.random.default_rng(0)

"""Scores over time and over tasks: steps to a target, performance profiles, mean ranks.

Optimizers are ranked within each task, so no task counts more because its numbers are larger.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Points = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps and values of a curve
TAU_MAX = 4.0  # AlgoPerf's: more than four times the fastest time scores nothing on the task


@dataclass(frozen=True)
class Speedup:
    """How many times fewer steps an optimizer needs to reach the `target`, the reference's own final figure.

    `factor` is `reference_step` over `step`: 2 is twice as fast. If the target is not `reached`, `step` is inf and
    `factor` 0; if a curve is empty, both are nan.
    """

    target: float
    reference_step: float
    step: float
    factor: float
    reached: bool


def points(curve: pd.DataFrame) -> Points:
    """Return the points of a mean curve, columns step and mean, rising in step."""
    return curve["step"].to_numpy(dtype=float), curve["mean"].to_numpy(dtype=float)


def steps_to_target(curve: Points, target: float, goal: str) -> float | None:
    """Return the step at which a curve first reaches `target`, or None if it never does.

    Args:
        curve: The steps and values of a metric measured along training. Values that are not finite are skipped.
        target: The value to reach; a measurement of just this value has reached it.
        goal: max or min.

    The curve is interpolated linearly between measurements. A target reached at the first measurement is given the
    first measurement's step, since nothing is known of what was before.
    """
    finite = np.isfinite(curve[1])
    steps, values = curve[0][finite], curve[1][finite]
    reached = values >= target if goal == "max" else values <= target
    if not reached.any():
        return None
    after = int(reached.argmax())
    if after == 0:
        return float(steps[0])
    before = after - 1
    share = (target - values[before]) / (values[after] - values[before])
    return float((1 - share) * steps[before] + share * steps[after])


def speedup(reference_curve: Points, other_curve: Points, goal: str) -> Speedup:
    """Compare one optimizer's curve with the reference's, as the paper's figures do: steps to the same figure.

    The target is the last value of the reference's curve. The reference's step is where its curve first reaches that
    value, which may be before the end, as for the other optimizer.
    """
    finite_values = reference_curve[1][np.isfinite(reference_curve[1])]
    target = float(finite_values[-1]) if len(finite_values) else math.nan
    reference = steps_to_target(reference_curve, target, goal)
    if reference is None or not np.isfinite(other_curve[1]).any():
        return Speedup(target, math.nan if reference is None else reference, math.nan, math.nan, False)
    step = steps_to_target(other_curve, target, goal)
    if step is None:
        return Speedup(target, reference, math.inf, 0.0, False)
    factor = 1.0 if step == reference else reference / step if step else math.inf
    return Speedup(target, reference, step, factor, True)


def ratios_to_best(times: pd.DataFrame) -> pd.DataFrame:
    """Divide each time by the best of its task: 1 for the fastest, inf where the target was not reached.

    Args:
        times: Time to target, a row a task, a column an optimizer; inf or nan where it was not reached.

    Raises:
        ValueError: A time is not above zero.
    """
    if (times <= 0).any(axis=None):
        raise ValueError("a time to target is not above zero, so no ratio to it can be formed")
    reached = times.astype(float).fillna(math.inf)
    return reached.div(reached.min(axis=1), axis=0).where(np.isfinite(reached), math.inf)


def performance_profiles(times: pd.DataFrame, taus: Sequence[float]) -> pd.DataFrame:
    """Return each optimizer's performance profile (Dolan and Moré, 2002), a row a tau, a column an optimizer.

    rho(tau) is the share of tasks whose target an optimizer reached within tau times the best optimizer's time. A task
    whose target no optimizer reached counts too: it lowers all profiles alike. Without any task the profiles are nan.
    Arguments as for `ratios_to_best`.
    """
    within = ratios_to_best(times).to_numpy() <= np.asarray(taus, dtype=float)[:, None, None]  # tau, task, optimizer
    shares = within.sum(axis=1) / (len(times) or math.nan)
    return pd.DataFrame(shares, index=pd.Index(taus, name="tau", dtype=float), columns=times.columns)


def profile_scores(times: pd.DataFrame, tau_max: float = TAU_MAX) -> pd.Series[float]:
    """Return the normalised integral of each profile from 1 to `tau_max`, AlgoPerf's score (Dahl et al., 2023).

    1 is for the fastest on every task, 0 for reaching no target within tau_max times the best. The profile is a
    staircase, a step up a task, so the integral is exact: (tau_max - ratio) / (tau_max - 1) a task, at least 0, then
    the mean over tasks. Tasks whose target no optimizer reached give 0 to all.
    """
    ratios = ratios_to_best(times)
    return ((tau_max - ratios) / (tau_max - 1)).clip(lower=0).mean()


def compared_alike(ran: pd.DataFrame) -> pd.DataFrame:
    """Return the part of `ran` (True where an optimizer ran on a task) in which every optimizer ran on every task.

    An optimizer that ran on few of the tasks would shift the ranks and profiles of the others. Of all ways to keep
    those that ran on at least k tasks, and the tasks on which all of these ran, it is the one with the most results;
    of equals, that with the most tasks.

    Args:
        ran: A row a task, a column an optimizer.
    """
    parts = []
    for least in sorted(set(ran.sum())):
        optimizers = ran.columns[ran.sum() >= least]
        parts.append(ran.loc[ran[optimizers].all(axis=1), optimizers])
    return max(parts, key=lambda part: (part.size, len(part)), default=ran)


def mean_ranks(finals: pd.DataFrame, goals: Mapping[str, str]) -> pd.Series[float]:
    """Return each optimizer's rank (1 the best) as a mean over tasks; ties share the mean of their ranks.

    Args:
        finals: Final values, a row a task, a column an optimizer; nan where there is none, as where all runs diverged:
            the worst rank of the task, shared among all that have none.
        goals: max or min for each task.
    """
    sign = np.array([-1.0 if goals[task] == "max" else 1.0 for task in finals.index])
    badness = sign[:, None] * finals.to_numpy(dtype=float)
    ranks = stats.rankdata(np.where(np.isnan(badness), math.inf, badness), axis=1)
    return pd.DataFrame(ranks, columns=finals.columns).mean()


def rank_agreement(finals: pd.DataFrame, goals: Mapping[str, str]) -> float:
    """Return the mean Kendall tau between the orders of two tasks: 1 for one order everywhere, 0 for none in common.

    Args:
        finals: A row a task, a column an optimizer.
        goals: "min" or "max" of each task.
    """
    sign = np.array([-1.0 if goals[task] == "max" else 1.0 for task in finals.index])
    badness = np.nan_to_num(sign[:, None] * finals.to_numpy(dtype=float), nan=math.inf)
    taus = [stats.kendalltau(one, other).statistic for one, other in itertools.combinations(badness, 2)]
    return float(np.mean(taus)) if taus else math.nan

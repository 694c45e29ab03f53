"""Learning curves: each optimizer's validation metric by training step, and where runs diverged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from reports.number_format import short_number
from reports.records.reader import read_metrics
from reports.statistics.selection import SETTING, Contender, at_setting

DRAWABLE = 1e100


@dataclass(frozen=True)
class Stop:
    """A diverged run: its validation values (columns step, seconds, value) and where it stopped."""

    values: pd.DataFrame
    step: float
    seconds: float


@dataclass(frozen=True)
class Curve:
    """The curves of one optimizer: `mean` has columns step, seconds, mean, low and high; may be empty."""

    optim: str
    setting: str
    mean: pd.DataFrame
    stops: list[Stop]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw: runs that failed before they measured anything."""
        return self.mean.empty and not any(math.isfinite(stop.step) for stop in self.stops)

    @property
    def last(self) -> float:
        """The final mean, nan if no run completed."""
        return float(self.mean["mean"].iloc[-1]) if len(self.mean) else math.nan


@lru_cache(maxsize=512)  # tables, figures and the page draw the same curves
def read_curve(contender: Contender, metric: str) -> Curve:
    """Read the curves of one optimizer at its chosen setting.

    A step counts if every seed measured it. If no run completed, the setting that lasted longest is used.
    """
    completed, diverged = contender.at_choice("completed"), contender.at_choice("diverged")
    if contender.chosen is None:
        diverged = _longest_lasting(contender.with_status("diverged"))
    mean = mean_curve(seed_curves(contender, metric))
    stops = [_stop(str(run["path"]), run["diverged_step"], metric) for _, run in diverged.iterrows()]
    return Curve(contender.label, _setting(completed, diverged), mean, stops)


@lru_cache(maxsize=512)
def seed_curves(contender: Contender, metric: str) -> pd.DataFrame:
    """Return validation values at the chosen setting: columns seed, step, value and seconds, a row a seed and step."""
    runs = contender.at_choice()
    read = [
        _finite(read_metrics(path, "val", metric)).assign(seed=seed)
        for path, seed in zip(runs["path"], runs["seed"].fillna(-1), strict=True)
    ]
    if not any(len(run) for run in read):
        return pd.DataFrame(columns=["seed", "step", "value", "seconds"], dtype=float)
    return pd.concat(read).groupby(["seed", "step"], as_index=False)[["value", "seconds"]].mean()


def mean_curve(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Return columns step, seconds, mean, low and high over the seeds; a step counts if every seed measured it."""
    if by_seed.empty:
        return pd.DataFrame(columns=["step", "seconds", "mean", "low", "high"], dtype=float)
    steps = by_seed.groupby("step", as_index=False).agg(
        seconds=("seconds", "mean"),
        mean=("value", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        seeds=("value", "size"),
    )
    return steps[steps["seeds"] == steps["seeds"].max()].drop(columns="seeds")


def values_at(by_seed: pd.DataFrame, step: float) -> pd.Series[float]:
    """Return each seed's value at a step, between measurements on a straight line.

    After its last measurement a seed has the value of that, before its first one nan.

    Args:
        by_seed: As `seed_curves` returns.
        step: Need not be whole.
    """
    values = {
        seed: float(np.interp(step, curve["step"], curve["value"], left=math.nan))
        for seed, curve in by_seed.groupby("seed")
    }
    return pd.Series(values, dtype=float)


def _finite(measured: pd.DataFrame) -> pd.DataFrame:
    """Keep values that can be drawn: before divergence they exceed an axis long before they are inf."""
    return measured[measured["value"].abs() < DRAWABLE]


def _setting(completed: pd.DataFrame, diverged: pd.DataFrame) -> str:
    """Describe the setting of a curve and its number of runs."""
    shown = completed if len(completed) else diverged
    words = [f"{axis.replace('_', ' ')} {short_number(shown[axis].iloc[0])}" for axis in SETTING if len(shown)]
    seeds = completed["seed"].nunique(dropna=False)
    words.append(f"{seeds} seed" + ("s" if seeds > 1 else "") if seeds else "none completed")
    return ", ".join(words + ([f"{len(diverged)} diverged"] if len(diverged) else []))


def _longest_lasting(diverged: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs of the setting at which a run got furthest."""
    if diverged.empty:
        return diverged
    lasted = diverged["diverged_step"].fillna(0)
    return diverged[at_setting(diverged, diverged[lasted == lasted.max()].iloc[0])]


def _stop(path: str, diverged_step: int | None, metric: str) -> Stop:
    measured = read_metrics(path)
    step = float(measured["step"].max()) if pd.isna(diverged_step) else float(diverged_step)
    until = measured[measured["step"] <= step]
    values = _finite(until[(until["split"] == "val") & (until["name"] == metric)])
    return Stop(values[["step", "seconds", "value"]], step, float(until["seconds"].max()))

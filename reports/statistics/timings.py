"""The speed of an optimizer in a comparison, from the timings of scripts/speed.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from reports.records.speeds import STEPS
from reports.statistics.selection import Comparison


@dataclass(frozen=True)
class Timing:
    """One optimizer's speed: all nan, and no `step`, if it was not timed.

    `ratio` with its quartiles is nan too if the reference was not timed with this kind of step.
    """

    step: str = ""
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    steps_per_second: float = math.nan
    optimizer_step_ms: float = math.nan


def timing(speeds: pd.DataFrame | None, comparison: Comparison, reference: str, optim: str) -> Timing:
    """Return the speed of an optimizer in the conditions of a comparison, with the fastest kind of step compared."""
    if speeds is None or speeds.empty:
        return Timing()
    same = (speeds["reference"] == reference) & (speeds["optim"] == optim)
    for column in ("task", "scale", "model", "batch_size"):
        same &= speeds[column] == getattr(comparison, column)
    rows = sorted(speeds[same].to_dict("records"), key=lambda r: (math.isnan(r["ratio"]), STEPS.index(r["step"])))
    if not rows:
        return Timing()
    names = ("step", "ratio", "low", "high", "steps_per_second", "optimizer_step_ms")
    return Timing(**{name: rows[0][name] for name in names})

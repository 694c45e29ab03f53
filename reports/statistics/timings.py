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

    `ratio` with its quartiles is to the reference with the same kind of step, and nan if that was not timed.
    `of_fastest` is to the reference's fastest kind of step: `ratio` times that of the reference's two kinds.
    """

    step: str = ""
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    of_fastest: float = math.nan
    steps_per_second: float = math.nan
    optimizer_step_ms: float = math.nan


def timing(speeds: pd.DataFrame | None, comparison: Comparison, reference: str, optim: str) -> Timing:
    """Return the speed of an optimizer in the conditions of a comparison, with the fastest kind of step compared."""
    if speeds is None or speeds.empty:
        return Timing()
    same = speeds["reference"] == reference
    for column in ("task", "scale", "model", "batch_size"):
        same &= speeds[column] == getattr(comparison, column)
    here = speeds[same]
    ours = here[here["optim"] == optim].to_dict("records")
    rows = sorted(ours, key=lambda row: (math.isnan(row["ratio"]), STEPS.index(row["step"])))
    if not rows:
        return Timing()
    names = ("step", "ratio", "low", "high", "steps_per_second", "optimizer_step_ms")
    of_reference = here[here["optim"] == reference].set_index("step")["steps_per_second"]
    kind = of_reference.get(rows[0]["step"], math.nan) / of_reference.max()
    return Timing(**{name: rows[0][name] for name in names}, of_fastest=rows[0]["ratio"] * kind)

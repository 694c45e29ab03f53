"""Readable names of tasks, metrics and families (names.yaml), for headings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from reports.statistics.selection import Comparison

OTHER = "Other tasks"


@cache
def _names() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))


def task_name(comparison: Comparison) -> str:
    """Name a task by its model and data: "ViT-B/16 design on digits"; at scale paper the model is no small design."""
    model, data = _names()["models"].get(comparison.task), comparison.data
    if model is None:
        return comparison.task
    design = "" if comparison.scale == "paper" else " design"
    return f"{model}{design}" + (f" on {_names()['data'].get(data, data)}" if data else "")


def metric_name(comparison: Comparison) -> str:
    """Name a metric in words: "Fréchet distance (our features)" for ema_frechet_own_features."""
    metric = (comparison.metric or "unknown metric").removeprefix("ema_")
    return _names()["metrics"].get(metric, metric.replace("_", " "))


def family_of(task: str) -> str:
    """Return the family of a task; OTHER for one that is not in the list."""
    return next((family for family, tasks in _names()["families"].items() if task in tasks), OTHER)


def families() -> list[str]:
    """Return all families in the order in which they are shown."""
    return [*_names()["families"], OTHER]

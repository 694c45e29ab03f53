"""What a run expects: what tuned runs of its conditions reached, or what is published for its setting.

conf/expected/embedded.yaml holds the first, by task and hash of the conditions: a setting for each optimizer, and the
interval in which one more seed of it lies with 95% confidence. conf/expected/gpu.yaml and paper.yaml hold the second,
for settings as they stand in conf/setting. Of other data, steps or models nothing is known, and nothing is said.
"""

import math
from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf import DictConfig

from recipes.figure_format import unit
from recipes.runs import run_id
from recipes.settings import schema

EXPECTED = schema.CONF / "expected"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, if PyYAML was built with it: 4 ms, not 55
AVERAGED = "ema_"  # before the metric of averaged weights


def line(cfg: DictConfig, summary: Mapping[str, Any]) -> str | None:
    """Say what a finished run was expected to reach, and whether it did; None if nothing is known of it.

    Args:
        cfg: the run's config.
        summary: of its record.
    """
    path, metric = EXPECTED / f"{cfg.scale.name}.yaml", summary.get("metric") or ""
    known: Any = yaml.load(path.read_text(encoding="utf-8"), LOADER) if path.is_file() else {}
    tuned = known.get(cfg.task.name, {}).get(summary.get("conditions"))
    if tuned is not None:
        return _compared_with_tuned(tuned, summary) if metric == tuned["metric"] else None
    augment = "" if cfg.augment.name == schema.Augment.name else f"_{cfg.augment.name}"
    published = known.get(f"{cfg.task.name}{augment}")
    if published is None or metric.removeprefix(AVERAGED) != published.get("metric"):
        return None
    return _published(published, summary) if _is_as_published(cfg) else None


def _compared_with_tuned(tuned: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    name, rows = summary["optim"], tuned["optimizers"]
    best = (max if tuned["goal"] == "max" else min)(rows, key=lambda optim: rows[optim]["mean"])
    row = rows.get(name, rows[best])
    reached = unit(tuned["goal"], [each["mean"] for each in rows.values()]).range(row["low"], row["high"])
    figure = f"{tuned['split']} {tuned['metric']} {reached}"
    basis = f"(95% prediction interval, {row['seeds']} seeds)"
    if name not in rows:
        return f"{name} is not tuned here; the best that is, {best}, has {figure} {basis}"
    if not _is_at(row, summary):
        words = [f"optim.{key}={row[key]:g}" for key in ("lr", "weight_decay")]
        theirs, ours = row["optim_args"], _arguments(summary)
        differing = {key: value for key, value in theirs.items() if key in ours and ours[key] != value}
        words += [f"optim.{key}={value}".replace(" ", "") for key, value in differing.items()]
        return f"tuned {name}: {figure} at {' '.join(words)} {basis}"
    return f"{_verdict(row, tuned, summary)}: this setting has {figure} {basis}"


def _is_at(row: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    """Whether a run has a row's class, arguments, learning rate and weight decay."""
    same_kind = row["optim_class"] == summary.get("optim_class") and row["optim_args"] == _arguments(summary)
    return same_kind and all(math.isclose(row[key], summary.get(key, math.nan)) for key in ("lr", "weight_decay"))


def _arguments(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer's recorded arguments, without the text that older records have among them."""
    return {key: value for key, value in (summary.get("optim_args") or {}).items() if key != "refuses_shards"}


def _verdict(row: Mapping[str, Any], tuned: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    figure = summary.get("test" if tuned["split"] == "test" else "final")
    if summary["status"] == "diverged":
        return "worse than expected"
    if figure is None:
        return "not judged"
    if row["low"] <= figure <= row["high"]:
        return "as expected"
    return "better than expected" if (figure > row["high"]) == (tuned["goal"] == "max") else "worse than expected"


def _published(published: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    figures = published["figures"]
    shown = unit(summary["goal"], figures.values())
    own_first = sorted(figures, key=lambda name: name != summary["optim"])
    words = ", ".join(f"{shown.figure(figures[name])} with {name}" for name in own_first)
    return f"published: {published['metric']} {words} ({published['source']})"


def _is_as_published(cfg: DictConfig) -> bool:
    """Whether a run is of its task's setting as it stands in conf/, wherever the data lie."""
    overrides = [f"task={cfg.task.name}", f"scale={cfg.scale.name}"]
    if cfg.augment.name != schema.Augment.name:
        overrides.append(f"augment={cfg.augment.name}")
    return run_id.conditions(cfg, of_place=False) == run_id.conditions(schema.composed(overrides), of_place=False)

"""The settings in which comparisons with the same heading differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from reports.statistics.selection import Comparison

# Settings that differ within a comparison, or decide nothing.
FREE = {"optim", "seed", "tracker", "tuned", "output_dir", "dry_run", "device_memory", "log_every", "checkpoint_every"}
NOT_IN_HEADINGS = ("conditions", "contenders", "schedule", "warmup_steps")
SHOWN = 4
LONGEST = 60


def notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a note for each comparison: empty if its heading is unique, else the settings that differ."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, comparison in enumerate(comparisons):
        facts = vars(comparison)
        key = tuple(value for name, value in facts.items() if name not in NOT_IN_HEADINGS)
        groups.setdefault(key, []).append(place)
    words = [""] * len(comparisons)
    for places in groups.values():
        if len(places) > 1:
            for place, note in zip(places, _differing_settings([comparisons[place] for place in places]), strict=True):
                words[place] = note
    return words


def _differing_settings(alike: Sequence[Comparison]) -> list[str]:
    configs = [_config(comparison) for comparison in alike]
    keys = sorted({key for config in configs for key in config})
    differing = [key for key in keys if len({config.get(key, "none") for config in configs}) > 1]
    texts = [", ".join(f"{key} {config.get(key, 'none')}"[:LONGEST] for key in differing[:SHOWN]) for config in configs]
    hashes = [f"conditions {comparison.conditions or 'unknown'}" for comparison in alike]
    if all(configs) and len(set(texts)) == len(texts):
        return texts
    return [f"{text}, {named}" if text else named for text, named in zip(texts, hashes, strict=True)]


def _config(comparison: Comparison) -> dict[str, str]:
    """Return the settings of a comparison's runs by their keys, from the first config that can be read.

    Archived runs have no config; only their schedule and warm-up are known.
    """
    for contender in comparison.contenders:
        for path in contender.runs["path"]:
            if config := _flat(str(path)):
                return config
    schedule = {"schedule.name": comparison.schedule, "schedule.warmup_steps": comparison.warmup_steps}
    return {key: str(value) for key, value in schedule.items() if value is not None}


@lru_cache(maxsize=256)
def _flat(path: str) -> dict[str, str]:
    try:
        content = yaml.safe_load((Path(path) / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    return dict(_leaves("", {key: value for key, value in content.items() if key not in FREE}))


def _leaves(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [
            leaf for key, item in value.items() for leaf in _leaves(f"{prefix}.{key}" if prefix else str(key), item)
        ]
    return [(prefix, " ".join(str(value).split()))]

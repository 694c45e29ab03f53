"""Check what a study's text says against the figures that the same study published.

Each kind of statement in studies.yaml is a function here: from the study and the entry to a description of what the
figures show and one of the words below.

    lowest  the lowest (or, of a goal of max, highest) value of some rows is `value`, to `within`
    better  the best of `ours` is better than `than` on every data set and model
    ratio   Lion's chosen rate is so many times smaller, or its decay so many times larger, than the baseline's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recipes.errors import ConfigError
from reports.evidence.ledger import Ledger, Run, Study
from reports.evidence.pairs import Pair, best, pairs_of

AGREES, CONTRADICTED, IN_PART = "agrees", "contradicted", "contradicted in part"
ROUNDING = 1.01  # 3 and 10 are included, and a ratio of rounded rates is not exact


@dataclass(frozen=True)
class CheckedStatement:
    """One statement and what the study's figures show."""

    study: str
    says: str
    source: str
    computed: str
    verdict: str
    note: str


def check_all(ledger: Ledger) -> list[CheckedStatement]:
    """Check every statement of the ledger against its study's figures, in the order of studies.yaml."""
    return [_checked(study, stated) for study in ledger.studies for stated in study.stated]


def _checked(study: Study, stated: Mapping[str, Any]) -> CheckedStatement:
    computed, verdict = CHECKS[stated["kind"]](study, stated)
    return CheckedStatement(study.name, stated["says"], stated["source"], computed, verdict, stated.get("note", ""))


def lowest(study: Study, stated: Mapping[str, Any]) -> tuple[str, str]:
    """Compare a stated best value with the best published row, and say whether a pair's reading depends on it."""
    wanted = stated["rows"]
    rows = [run for run in study.compared() if all(getattr(run, key, None) == value for key, value in wanted.items())]
    if not rows:
        raise ConfigError(f"studies.yaml, {study.name}: no row has {wanted}, which a statement is about")
    shown, value = best(rows), float(stated["value"])
    if shown.value is None:
        raise ConfigError(f"studies.yaml, {study.name}: the rows of {wanted} have no value to hold a statement against")
    words = f"best row {shown.value:.4f}, stated {value:.4f}"
    if abs(shown.value - value) <= stated["within"]:
        return words, AGREES
    for pair in pairs_of(study):
        if pair.baseline == shown and pair.difference is not None:
            with_stated = pair.difference + shown.value - value
            words += f"; Lion minus baseline {pair.difference:+.4f} by the rows, {with_stated:+.4f} by the statement"
    return words, CONTRADICTED


def better(study: Study, stated: Mapping[str, Any]) -> tuple[str, str]:
    """Compare optimizers on every experiment by the last and, where it is recorded, by the lowest value."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in study.compared():
        if run.variant == stated["variant"]:
            groups.setdefault(run.experiment, []).append(run)
    behind: dict[str, list[str]] = {"value": [], "lowest": []}
    count = 0
    for runs in groups.values():
        sides = [
            [r for r in runs if r.optimizer in stated["ours"]],
            [r for r in runs if r.optimizer == stated["than"]],
        ]
        if not all(sides):
            continue
        count += 1
        for column, places in behind.items():
            ours, theirs = (_best_of(side, column) for side in sides)
            if ours is not None and theirs is not None and not _ahead(ours, theirs, runs[0].goal):
                places.append(f"{runs[0].dataset} {runs[0].model} ({ours:.3f} to {theirs:.3f})")
    if not count:
        raise ConfigError(f"studies.yaml, {study.name}: no experiment has {stated['ours'][0]} and {stated['than']}")
    words = f"behind on {len(behind['value'])} of {count} by the last value"
    words += f": {', '.join(behind['value'])}" if behind["value"] else ""
    words += f"; on {len(behind['lowest'])} by the lowest seen"
    if not behind["value"]:
        return words, AGREES
    return words, CONTRADICTED if behind["lowest"] else IN_PART


def _best_of(runs: list[Run], column: str) -> float | None:
    values = [value for run in runs if (value := getattr(run, column)) is not None]
    return (max if runs[0].goal == "max" else min)(values, default=None)


def _ahead(one: float, other: float, goal: str | None) -> bool:
    return one > other if goal == "max" else one < other


def ratio(study: Study, stated: Mapping[str, Any]) -> tuple[str, str]:
    """Count the study's pairs whose ratio of learning rates or weight decays is in the stated range."""
    low, high = stated["between"]
    ratios = [ratio for pair in pairs_of(study) if (ratio := setting_ratio(pair, stated["axis"])) is not None]
    if not ratios:
        raise ConfigError(f"studies.yaml, {study.name}: no pair has a {stated['axis']} of both sides")
    inside = sum(low / ROUNDING <= ratio <= high * ROUNDING for ratio in ratios)
    words = f"{inside} of {len(ratios)} of its own pairs lie within; {min(ratios):.3g} to {max(ratios):.3g}"
    return words, AGREES if inside == len(ratios) else IN_PART if inside else CONTRADICTED


def setting_ratio(pair: Pair, axis: str) -> float | None:
    """Return the baseline's over Lion's rate, or Lion's over the baseline's decay; None if either is 0 or unknown."""
    ours, theirs = getattr(pair.lion, axis), getattr(pair.baseline, axis)
    if not ours or not theirs:
        return None
    return float(theirs / ours if axis == "lr" else ours / theirs)


CHECKS: Mapping[str, Callable[[Study, Mapping[str, Any]], tuple[str, str]]] = {
    "lowest": lowest,
    "better": better,
    "ratio": ratio,
}

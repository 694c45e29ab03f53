"""The comparison table: one row for each optimizer, with its trials, results and costs.

Every run counts: runs that diverged, failed or were interrupted are in the numbers of their row, and an optimizer
without a completed run has a row too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from reports.protocol import FRESH_SEEDS
from reports.statistics.families import Family, difference, families
from reports.statistics.intervals import mean_and_sd, mean_interval
from reports.statistics.learning_curves import read_curve, seed_curves, values_at
from reports.statistics.scoring import points, speedup
from reports.statistics.selection import SAME, Comparison, Contender, comparisons, on_border
from reports.statistics.setting_differences import notes
from reports.statistics.timings import Timing, timing

FIELD, VARIANTS = "field of 2026", "variants"  # further parts of a comparison


@dataclass(frozen=True)
class Row:
    """One optimizer's row. Numbers that do not exist, such as the mean of no runs, are nan.

    `trials` are the settings that took part in the choice and completed or diverged, `most_trials` the largest number
    of any row. `val_*` and `test_*` are over the `seeds` completed at the chosen setting (`*_low` and `*_high`: 95%
    interval of Student's t), where `diverged_there` runs diverged and `repeated` says that a seed was run more than
    once; `fresh` says that these seeds had no part in the choice, `untuned` that there were fewer trials or fresh seeds
    than the protocol asks for. `variant` is the class that ran with its recorded arguments. Memory is the median over
    the runs that completed or diverged. `difference` is to the reference row, on the split that the table compares; its
    interval is simultaneous over the `comparisons` of the row's `family` (Bonferroni) and allows for the choice of
    settings; there is a `verdict` only if neither row is untuned. `target_step` is where the mean validation curve
    first reaches the reference's final value, `speedup` the reference's step over it; inf and 0 if it never does, nan
    if that is unknown. Speeds are of scripts/speed.py, where optimizers took turns in one process: `timed_step` is the
    kind of step (fused, foreach, loop), `speed_ratio` its steps per second over the reference's with the same kind of
    step, with the quartiles. `in_time_step` is the step that the optimizer reaches in the time of the reference's full
    run with its fastest kind of step, at most the full run; `in_time_*` are the validation values of its seeds there.
    """

    optim: str
    variant: str
    is_reference: bool
    family: Family
    lr: float
    weight_decay: float
    lr_on_border: bool
    weight_decay_on_border: bool
    untuned: bool
    trials: int
    most_trials: int
    runs: int
    completed: int
    diverged: int
    failed: int
    interrupted: int
    seeds: int
    diverged_there: int
    repeated: bool
    fresh: bool
    val_mean: float
    val_sd: float
    val_low: float
    val_high: float
    test_mean: float
    test_sd: float
    test_low: float
    test_high: float
    difference: float
    difference_low: float
    difference_high: float
    common_seeds: int
    comparisons: int
    verdict: str
    target_step: float
    speedup: float
    timed_step: str
    speed_ratio: float
    speed_low: float
    speed_high: float
    in_time_step: float
    in_time_mean: float
    in_time_low: float
    in_time_high: float
    steps_per_second: float
    optimizer_step_ms: float
    optimizer_state_bytes: float
    run_ids: str

    @property
    def open(self) -> bool:
        """Whether the trials do not enclose the chosen setting."""
        return self.lr_on_border or self.weight_decay_on_border

    def compared(self, split: str) -> tuple[float, float, float]:
        """Return mean, low and high of a split."""
        if split == "test":
            return self.test_mean, self.test_low, self.test_high
        return self.val_mean, self.val_low, self.val_high


@dataclass(frozen=True)
class Table:
    """The rows of one comparison, the reference first; `split` is the one whose values are compared.

    `target` is the reference's final validation value, the target of speed-ups; nan if there is none. `note`
    distinguishes it from other tables with the same heading; else empty. `part` is the part of the comparison that the
    table shows: "" for the main one, VARIANTS or FIELD.
    """

    comparison: Comparison
    reference: str
    split: str
    rows: list[Row]
    target: float = math.nan
    note: str = ""
    part: str = ""

    @property
    def tuned(self) -> bool:
        """Whether every row followed the protocol."""
        return not any(row.untuned for row in self.rows)


def build_tables(runs: pd.DataFrame, reference: str, speeds: pd.DataFrame | None = None) -> list[Table]:
    """Build a table for each comparison among the runs, as read by `read_records`."""
    compared = comparisons(runs)
    tables = []
    for comparison, note in zip(compared, notes(compared), strict=True):
        for part, labels in _parts(comparison, reference).items():
            words = ", ".join(filter(None, [note, part]))
            tables.append(replace(build_table(comparison, reference, speeds, labels), note=words, part=part))
    return tables


def _parts(comparison: Comparison, reference: str) -> dict[str, set[str]]:
    """Return the labels of a comparison's main table and, if there are any, of the field of 2026 and the variants.

    The field is compared with the reference and Lion, variants with the optimizer that they vary.
    """
    named = families([contender.label for contender in comparison.contenders], reference)
    field = {label for label, family in named.items() if family == "field"}
    variants = {label for label, family in named.items() if family == "variants"}
    of_main = {label for label, family in named.items() if label not in variants | field}
    if not of_main or not variants | field:
        return {"": set(named)}
    leaders = {label for label, family in named.items() if family in ("", "primary")}
    parts = {"": of_main}
    if field:
        parts[FIELD] = leaders | field
    if variants:
        parts[VARIANTS] = {reference, *variants, *(label.partition(" (")[0] for label in variants)}
    return parts


def build_table(
    comparison: Comparison, reference: str, speeds: pd.DataFrame | None = None, labels: set[str] | None = None
) -> Table:
    """Build a table of one comparison.

    Differences are of test values if any chosen setting has them, else of validation values. Families of comparisons
    are those of the whole comparison, so a difference has one interval in all of its tables.

    Args:
        comparison: all of its optimizers.
        reference: the optimizer with which the others are compared.
        speeds: those of `reports.records.speeds.read_speeds`; the ones of this task, scale, model and batch are taken.
        labels: the optimizers to show; None for all.
    """
    contenders = comparison.contenders
    split = "test" if any(c.at_choice()["test"].notna().any() for c in contenders) else "val"
    base = next((c for c in contenders if c.label == reference), None)
    named = families([c.label for c in contenders], base.label if base else "")
    column = "test" if split == "test" else "final"
    counts = Counter(named[c.label] for c in contenders if c.at_choice()[column].notna().any())
    shown = [c for c in contenders if labels is None or c.label in labels]
    most = max(len(c.settings) for c in shown)
    rows = []
    for contender in shown:
        family = named[contender.label]
        timed = timing(speeds, comparison, reference, contender.label)
        rows.append(_row(contender, base, split, comparison, most, timed, family, counts[family]))
    rows.sort(key=lambda row: (not row.is_reference, row.optim))
    target = mean_interval(base.by_seed("final"))[0] if base is not None else math.nan
    return Table(replace(comparison, contenders=shown), reference, split, rows, target)


def batch_groups(tables: Sequence[Table]) -> list[list[Table]]:
    """Group comparisons of several batch sizes at equal epochs, from the smallest batch to the largest.

    They differ in batch size, and so in steps and steps of warm-up, and are trained on as many examples, to within the
    last batch.
    """
    free = {"batch_size", "steps", "warmup_steps", "conditions"}
    alike: dict[tuple[object, ...], list[Table]] = {}
    for table in tables:
        if not table.part and table.comparison.steps and table.comparison.batch_size:
            key = tuple(getattr(table.comparison, column) for column in SAME if column not in free)
            alike.setdefault(key, []).append(table)
    groups: list[list[Table]] = []
    for of_key in alike.values():
        group: list[Table] = []
        for table in sorted(of_key, key=_examples_seen):
            if group and _examples_seen(table) - _examples_seen(group[-1]) >= max(map(_batch_size, (table, group[-1]))):
                groups.append(group)
                group = []
            group.append(table)
        groups.append(group)
    return [sorted(group, key=_batch_size) for group in groups if len({*map(_batch_size, group)}) > 1]


def _batch_size(table: Table) -> int:
    return table.comparison.batch_size or 0


def _examples_seen(table: Table) -> int:
    return (table.comparison.steps or 0) * _batch_size(table)


def to_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """Return all rows of all tables as numbers, each with what its comparison has in common."""
    frame = pd.DataFrame(
        {
            **{key: getattr(table.comparison, key) for key in SAME},
            "reference": table.reference,
            "compared_on": table.split,
            **asdict(row),
        }
        for table in tables
        for row in table.rows
    )
    return frame.astype({"num_parameters": "Int64", "batch_size": "Int64", "steps": "Int64"})


def _row(
    contender: Contender,
    base: Contender | None,
    split: str,
    comparison: Comparison,
    most_trials: int,
    timed: Timing,
    family: Family,
    family_size: int,
) -> Row:
    metric, completed = comparison.metric or "", contender.at_choice()
    ended = contender.runs[contender.runs["status"].isin(["completed", "diverged"])]
    return Row(
        optim=contender.label,
        variant=contender.described,
        is_reference=base is contender,
        family=family,
        **_setting(contender),
        untuned=not contender.by_protocol,
        trials=len(contender.settings),
        most_trials=most_trials,
        runs=len(contender.runs),
        completed=len(contender.with_status("completed")),
        diverged=len(contender.with_status("diverged")),
        failed=len(contender.with_status("failed")),
        interrupted=len(contender.with_status("interrupted")),
        seeds=completed["seed"].nunique(dropna=False),
        diverged_there=len(contender.at_choice("diverged")),
        repeated=bool(completed["seed"].duplicated().any()),
        fresh=contender.fresh,
        **_moments("val", contender.by_seed("final")),
        **_moments("test", contender.by_seed("test")),
        **_difference(contender, base, split, comparison, family_size),
        **_speedup(contender, base, comparison),
        timed_step=timed.step,
        speed_ratio=timed.ratio,
        speed_low=timed.low,
        speed_high=timed.high,
        **_in_reference_time(contender, metric, comparison.steps, timed.of_fastest),
        steps_per_second=timed.steps_per_second,
        optimizer_step_ms=timed.optimizer_step_ms,
        optimizer_state_bytes=float(ended["optimizer_state_bytes"].astype("float64").median()),
        run_ids=" ".join(sorted(completed["run_id"].dropna())),
    )


def _setting(contender: Contender) -> dict[str, Any]:
    """Return the chosen setting and which of its sides the trials do not enclose; nan where nothing was chosen."""
    chosen, settings = contender.chosen, contender.settings
    if chosen is None:
        return {"lr": math.nan, "weight_decay": math.nan, "lr_on_border": False, "weight_decay_on_border": False}
    return {
        "lr": float(chosen["lr"]),
        "weight_decay": float(chosen["weight_decay"]),
        "lr_on_border": on_border(settings, chosen, "lr"),
        "weight_decay_on_border": on_border(settings, chosen, "weight_decay"),
    }


def _difference(
    contender: Contender, base: Contender | None, split: str, comparison: Comparison, family_size: int
) -> dict[str, Any]:
    """Return the difference to the reference with its interval, and the verdict where both followed the protocol."""
    if base is None or base is contender:
        none = dict.fromkeys(("difference", "difference_low", "difference_high"), math.nan)
        return {**none, "common_seeds": 0, "comparisons": 0, "verdict": ""}
    gap = difference(contender, base, "test" if split == "test" else "final", family_size)
    judged = contender.by_protocol and base.by_protocol and gap.seeds >= FRESH_SEEDS
    return {
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "common_seeds": gap.seeds,
        "comparisons": family_size,
        "verdict": _verdict(gap.verdict(comparison.goal or "max"), contender, base) if judged else "",
    }


def _speedup(contender: Contender, base: Contender | None, comparison: Comparison) -> dict[str, Any]:
    """Return where the mean curve reaches the reference's final value, and the reference's steps over it."""
    faster = None
    if base is not None:
        theirs, ours = (points(read_curve(each, comparison.metric or "").mean) for each in (base, contender))
        faster = speedup(theirs, ours, comparison.goal or "max")
    return {"target_step": faster.step if faster else math.nan, "speedup": faster.factor if faster else math.nan}


def _verdict(verdict: str, contender: Contender, base: Contender) -> str:
    """Return the verdict, or none if it favours an optimizer of which a fresh seed diverged: means leave that out."""
    broken, base_broken = (len(each.at_choice("diverged")) > 0 for each in (contender, base))
    if (broken and verdict != "worse") or (base_broken and verdict != "better"):
        return ""
    return verdict


def _in_reference_time(contender: Contender, metric: str, steps: int | None, ratio: float) -> dict[str, Any]:
    """Return step, mean and interval where the reference's time for a whole run ends; nan without a measured ratio."""
    at, mean, low, high = (math.nan,) * 4
    if steps is not None and not math.isnan(ratio):
        at = steps * min(ratio, 1.0)
        mean, low, high = mean_interval(values_at(seed_curves(contender, metric), at))
    return {"in_time_step": at, "in_time_mean": mean, "in_time_low": low, "in_time_high": high}


def _moments(split: str, values: pd.Series[float]) -> dict[str, Any]:
    mean, low, high = mean_interval(values)
    return {f"{split}_mean": mean, f"{split}_sd": mean_and_sd(values)[1], f"{split}_low": low, f"{split}_high": high}

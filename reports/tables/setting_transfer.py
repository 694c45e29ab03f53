"""Whether tuned settings transfer: how the best ones move with width, number of steps and batch size.

A study is one comparison in which the settings of both optimizers were tuned. A ladder is the studies of a task that
differ in one factor alone, the smallest first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from reports.number_format import NONE, short_number
from reports.protocol import REFERENCE, SUBJECT, TRIALS
from reports.statistics.selection import Contender, at_setting, on_border
from reports.statistics.ties import tied_settings, tied_values
from reports.tables.comparison import Table
from reports.tables.names import task_name
from reports.tables.overviews import Grid
from reports.tables.units import difference, unit_of

FACTORS = ("width", "steps", "batch size")
# What published scaling rules let expect of a factor that is k times as large: the exponent of k, and of what.
SCALING_RULES = {"width": ("rate", -1.0), "steps": ("rate x decay", -1.0), "batch size": ("rate", 0.5)}
WIDTH = re.compile(r"\b(?:embed_dim|n_embd) (\d+)\b")
HEADS = re.compile(r"\b(?:num_heads|n_head) \d+\b")  # grow with the width
Setting = tuple[float, float]  # learning rate and weight decay
Schedule = tuple[str, float]  # and its share of warm-up
Rule = Callable[[Setting], Setting]  # from AdamW's setting to Lion's


@dataclass(frozen=True)
class Study:
    """One tuned comparison; `times` is its factor's size over that of the ladder's smallest study."""

    table: Table
    times: float = 1.0

    @property
    def size(self) -> str:
        """The size in words, such as "x4"."""
        return f"x{short_number(self.times)}"

    def contender(self, optim: str) -> Contender:
        """Return the contender of an optimizer, which every study has."""
        return next(c for c in self.table.comparison.contenders if c.label == optim)


@dataclass(frozen=True)
class Ladder:
    """Studies of a task that differ in one factor alone, the smallest first."""

    factor: str
    studies: Sequence[Study]

    @property
    def task(self) -> str:
        """The task and its data, as tables name them."""
        return task_name(self.studies[0].table.comparison)


def transfer_ladders(tables: Sequence[Table]) -> list[Ladder]:
    """Find the tuned comparisons of each task that differ in one factor alone; by task, then by factor.

    A comparison in which AdamW or Lion has fewer settings than the protocol asks for is none.
    """
    tuned = [t for t in tables if not t.part and all(_tuned(t, optim) for optim in (REFERENCE, SUBJECT))]
    schedules: dict[tuple[object, ...], set[Schedule]] = {}
    for table in tuned:
        schedules.setdefault(_conditions(table), set()).update(_schedule(table))
    ladders = []
    for place, factor in enumerate(FACTORS):
        groups: dict[tuple[object, ...], dict[float, Table]] = {}
        for table in sorted(tuned, key=lambda table: len(table.rows)):  # of several alike, the one with most rows
            sizes, conditions = _sizes(table), _conditions(table)
            schedule = _schedule(table) or schedules[conditions]  # older records hold none: of one alone it was that
            same = (*conditions, *sorted(schedule), *(size for other, size in enumerate(sizes) if other != place))
            groups.setdefault(same, {})[sizes[place]] = table
        for group in groups.values():
            smallest = min(group)
            studies = [Study(group[size], size / smallest) for size in sorted(group)]
            ladders += [Ladder(factor, studies)] if len(studies) > 1 else []
    return sorted(ladders, key=lambda ladder: (ladder.task, FACTORS.index(ladder.factor)))


def transfer_grid(ladders: Sequence[Ladder], rule: Rule) -> Grid | None:
    """Show each study's best settings, whether the smaller one's hold, and what the rule makes of AdamW's."""
    rows = []
    for ladder in ladders:
        for smaller, study in zip([None, *ladder.studies], ladder.studies, strict=False):
            suggested = rule(chosen_setting(study, REFERENCE))
            for optim in (REFERENCE, SUBJECT):
                contender = study.contender(optim)
                before = chosen_setting(smaller, optim) if smaller else None
                rows.append(
                    {
                        "task": ladder.task,
                        "factor": f"{ladder.factor} {study.size}",
                        "optimizer": optim,
                        "figure": _figure(study.table, optim),
                        "learning rate [ties]": _range(contender, "lr"),
                        "weight decay [ties]": _range(contender, "weight_decay"),
                        "settings": str(len(contender.settings)),
                        "moved by": _decades(chosen_setting(study, optim), before) if before else NONE,
                        "scaling rule": _expected_move(ladder.factor, smaller, study) if smaller else NONE,
                        "the smaller one's setting": _kept(contender, smaller.contender(optim)) if smaller else NONE,
                        "rule from AdamW's, off by": _decades(chosen_setting(study, optim), suggested)
                        if optim == SUBJECT
                        else NONE,
                    }
                )
    notes = [
        "factor: its size over that of the smallest study; all else is the same.",
        f"figure: mean and 95% interval over fresh seeds; in the rows of {SUBJECT} also its difference to {REFERENCE}.",
        "ties: the smallest and largest value among the settings that were not shown to be worse than the chosen one, "
        "by the spread over fresh seeds; open: the edge of what was tried.",
        "†: a side of the chosen value was not tried.",
        "moved by: learning rate and weight decay over those of the row before of the same optimizer, in decades; half "
        "a decade is one step of the grid, and the rate has a quarter beside the best.",
        "scaling rule: what published rules for Adam let expect: the rate as one over the width (of matrices, "
        "arXiv:2203.03466) and as the square root of the batch size (arXiv:2205.10287), rate times decay as one over "
        "the steps (arXiv:2405.13698).",
        "the smaller one's setting: whether the setting that was chosen in the row before of the same optimizer ties "
        "here.",
        "rule: scripts/suggest.py's, asked with AdamW's chosen setting; how far Lion's chosen learning rate and weight "
        "decay are from it, in decades.",
    ]
    if absent := missing(ladders):
        notes.append("Not measured: " + "; ".join(absent) + ".")
    return Grid("How the best settings move", pd.DataFrame(rows), notes) if rows else None


def missing(ladders: Sequence[Ladder]) -> list[str]:
    """Name the factors that a task of these was not measured at."""
    measured: dict[str, set[str]] = {}
    for ladder in ladders:
        measured.setdefault(ladder.task, set()).add(ladder.factor)
    absent = {task: [factor for factor in FACTORS if factor not in factors] for task, factors in measured.items()}
    return [f"{task}: {', '.join(factors)}" for task, factors in absent.items() if factors]


def chosen_setting(study: Study, optim: str) -> Setting:
    """Return the learning rate and weight decay that were chosen for an optimizer."""
    contender = study.contender(optim)
    return tied_values(contender, "lr")[0], tied_values(contender, "weight_decay")[0]


def is_open(contender: Contender, axis: str) -> bool:
    """Whether a side of the chosen value was not tried."""
    return contender.chosen is not None and on_border(contender.settings, contender.chosen, axis)


def _tuned(table: Table, optim: str) -> bool:
    return any(
        c.label == optim and c.chosen is not None and len(c.settings) >= TRIALS for c in table.comparison.contenders
    )


def _conditions(table: Table) -> tuple[object, ...]:
    """Return what is the same in all studies of a ladder, whichever its factor, beside the schedule."""
    comparison = table.comparison
    model = HEADS.sub("", WIDTH.sub("", comparison.model_args or ""))
    return comparison.task, comparison.scale, comparison.data_fingerprint, model


def _schedule(table: Table) -> set[Schedule]:
    """Return the schedule and the share of warm-up; nothing if they are not recorded."""
    comparison = table.comparison
    if comparison.schedule is None or not comparison.steps:
        return set()
    return {(comparison.schedule, round(float((comparison.warmup_steps or 0) / comparison.steps), 2))}


def _sizes(table: Table) -> tuple[float, ...]:
    """Return width, steps and batch size; 1 for what is not recorded."""
    width = WIDTH.search(table.comparison.model_args or "")
    return (
        float(width[1]) if width else 1.0,
        float(table.comparison.steps or 1),
        float(table.comparison.batch_size or 1),
    )


def _figure(table: Table, optim: str) -> str:
    rows = {row.optim: row for row in table.rows}
    figure = unit_of(table).figure(*rows[optim].compared(table.split))
    compared = optim == SUBJECT and rows[REFERENCE].is_reference and rows[optim].common_seeds
    return f"{figure}, {difference(rows[optim], table)}" if compared else figure


def _range(contender: Contender, axis: str) -> str:
    value, low, high = tied_values(contender, axis)
    ends = [short_number(end) if 0 < end < math.inf else "open" for end in (low, high)]
    return f"{short_number(value)}{'†' * is_open(contender, axis)} [{', '.join(ends)}]"


def _kept(contender: Contender, smaller: Contender) -> str:
    if smaller.chosen is None:
        return NONE
    at_before = contender.settings[at_setting(contender.settings, smaller.chosen)]
    if at_before.empty:
        return "not tried"
    return "ties" if at_before.index[0] in tied_settings(contender).index else "is worse"


def _expected_move(factor: str, smaller: Study, study: Study) -> str:
    of, exponent = SCALING_RULES[factor]
    return f"{of} {exponent * math.log10(study.times / smaller.times):+.2f}"


def _decades(setting: Setting, base: Setting) -> str:
    """Write how far a learning rate and a weight decay are from others, in decades."""
    pairs = zip(setting, base, strict=True)
    return " and ".join(f"{math.log10(value / other):+.2f}" if value and other else NONE for value, other in pairs)

"""Whether tuned settings transfer: how the best ones move with width, number of steps and batch size.

A study is one comparison in which the settings of both optimizers were tuned. It differs from the smallest study of its
task in one of the three factors alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from reports.number_format import NONE, short_number
from reports.protocol import REFERENCE, SUBJECT, TRIALS
from reports.statistics.selection import Contender, at_setting
from reports.statistics.ties import tied_settings, tied_values
from reports.tables.comparison import Table
from reports.tables.names import task_name
from reports.tables.overviews import Grid

FACTORS = ("width", "steps", "batch size")
WIDTHS = re.compile(r"\b(?:embed_dim|n_embd) (\d+)\b")
Setting = tuple[float, float]  # learning rate and weight decay
Rule = Callable[[Setting], Setting]  # from AdamW's setting to Lion's


@dataclass(frozen=True)
class Study:
    """One tuned comparison: `factor` is "" for the smallest of its task, else the factor that is `times` as large."""

    table: Table
    factor: str = ""
    times: float = 1.0

    @property
    def change(self) -> str:
        """What is different from the smallest study, in words."""
        return f"{self.factor} x{self.times:g}" if self.factor else "smallest"

    def contender(self, optim: str) -> Contender:
        """Return the contender of an optimizer, which every study has."""
        return next(c for c in self.table.comparison.contenders if c.label == optim)


def transfer_studies(tables: Sequence[Table]) -> list[list[Study]]:
    """Group the tuned comparisons of a task that differ in one factor from the smallest; groups of several only.

    A comparison in which AdamW or Lion has fewer settings than the protocol asks for is none.
    """
    groups: dict[tuple[str | None, ...], list[Table]] = {}
    for table in tables:
        if not table.part and all(_tuned(table, optim) for optim in (REFERENCE, SUBJECT)):
            comparison = table.comparison
            key = (comparison.task, comparison.scale, comparison.data_fingerprint, comparison.schedule)
            groups.setdefault(key, []).append(table)
    studies = [_against_smallest(group) for _, group in sorted(groups.items(), key=lambda item: str(item[0]))]
    return [group for group in studies if len(group) > 1]


def transfer_grid(groups: Sequence[Sequence[Study]], rule: Rule) -> Grid | None:
    """Show each study's best settings, whether the smallest study's still do, and what the rule makes of AdamW's."""
    rows = []
    for study, smallest in ((study, group[0]) for group in groups for study in group):
        suggested = rule(_setting(study.contender(REFERENCE)))
        for optim in (REFERENCE, SUBJECT):
            ours = study.contender(optim)
            rows.append(
                {
                    "task": task_name(study.table.comparison),
                    "change": study.change,
                    "optimizer": optim,
                    "learning rate [ties]": _range(ours, "lr"),
                    "weight decay [ties]": _range(ours, "weight_decay"),
                    "settings": str(len(ours.settings)),
                    "the smallest study's setting": _kept(ours, smallest.contender(optim)) if study.factor else NONE,
                    "rule from AdamW's, off by": _off(suggested, ours) if optim == SUBJECT else NONE,
                }
            )
    notes = [
        "ties: the smallest and largest value among the settings that were not shown to be worse than the chosen one, "
        "by the spread over fresh seeds; open: the edge of what was tried.",
        "the smallest study's setting: whether the setting that was chosen there ties here.",
        "rule: scripts/suggest.py's, asked with AdamW's chosen setting; how far Lion's chosen learning rate and weight "
        "decay are from it, in decades (half a decade is one step of the grid).",
    ]
    if absent := missing(groups):
        notes.append("Not measured: " + "; ".join(absent) + ".")
    return Grid("How the best settings move", pd.DataFrame(rows), notes) if rows else None


def missing(groups: Sequence[Sequence[Study]]) -> list[str]:
    """Name the factors that a task of these was not measured at."""
    words = []
    for group in groups:
        absent = [factor for factor in FACTORS if all(study.factor != factor for study in group)]
        words += [f"{group[0].table.comparison.task}: {', '.join(absent)}"] if absent else []
    return words


def _tuned(table: Table, optim: str) -> bool:
    return any(
        c.label == optim and c.chosen is not None and len(c.settings) >= TRIALS for c in table.comparison.contenders
    )


def _against_smallest(tables: Sequence[Table]) -> list[Study]:
    """Return the smallest comparison as the first study, then those that differ from it in one factor, by factor."""
    sizes = {id(table): _sizes(table) for table in tables}
    smallest = min(tables, key=lambda table: (math.prod(sizes[id(table)]), -len(table.rows)))
    studies = []
    for table in tables:
        times = [size / base for size, base in zip(sizes[id(table)], sizes[id(smallest)], strict=True)]
        changed = [(factor, ratio) for factor, ratio in zip(FACTORS, times, strict=True) if ratio != 1]
        if len(changed) == 1:
            studies.append(Study(table, *changed[0]))
    return [Study(smallest), *sorted(studies, key=lambda study: (FACTORS.index(study.factor), study.times))]


def _sizes(table: Table) -> tuple[float, ...]:
    """Return width, steps and batch size; 1 for what is not recorded."""
    width = WIDTHS.search(table.comparison.model_args or "")
    return (
        float(width[1]) if width else 1.0,
        float(table.comparison.steps or 1),
        float(table.comparison.batch_size or 1),
    )


def _setting(contender: Contender) -> Setting:
    return tied_values(contender, "lr")[0], tied_values(contender, "weight_decay")[0]


def _range(contender: Contender, axis: str) -> str:
    value, low, high = tied_values(contender, axis)
    ends = [short_number(end) if 0 < end < math.inf else "open" for end in (low, high)]
    return f"{short_number(value)} [{', '.join(ends)}]"


def _kept(contender: Contender, smallest: Contender) -> str:
    if smallest.chosen is None:
        return NONE
    at_before = contender.settings[at_setting(contender.settings, smallest.chosen)]
    if at_before.empty:
        return "not tried"
    return "ties" if at_before.index[0] in tied_settings(contender).index else "is worse"


def _off(suggested: Setting, contender: Contender) -> str:
    pairs = zip(_setting(contender), suggested, strict=True)
    return " and ".join(f"{math.log10(best / value):+.2f}" if best and value else NONE for best, value in pairs)

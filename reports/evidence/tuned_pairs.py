"""Pairs of settings that were tuned for both sides, from the ledger and from this suite's records.

The suite's own pairs are read from the records each time. Only tasks tuned by the protocol count (reports/protocol.py).
If a chosen learning rate or weight decay is at the edge of its grid, the optimum may be beyond: that axis is left out,
as is one on which all trials tie. Such pairs of other studies, whose earlier rounds may not be published, are kept and
marked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from recipes.errors import ConfigError
from reports.evidence.ledger import Ledger, Run
from reports.evidence.pairs import Pair, line_along, pairs_of
from reports.records.reader import read_records
from reports.statistics.selection import Comparison, Contender, comparisons, on_border
from reports.statistics.ties import is_flat

Axis = Literal["lr", "weight_decay"]
AXES: tuple[Axis, ...] = ("lr", "weight_decay")
OWN = "lion-bench"
ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "reports" / "published" / "records"
TASKS = ROOT / "conf" / "task"
FAMILIES = {"classification": "images", "language": "language", "contrastive": "image_text", "diffusion": "diffusion"}
EXAMPLES = r"examples|sequences of .*"  # units of batch sizes that are comparable
SHORTEST_LINE = 3  # values of an axis


@dataclass(frozen=True)
class TunedPair:
    """What was chosen for the baseline and for Lion on one task; None where it was not tuned or not closed.

    `batch` is in examples or sequences, `steps` in optimizer steps; None where the source does not say. `edges` are the
    axes on which a side's best value is the smallest or largest of those that the source published.
    """

    study: str
    place: str
    domain: str
    base: dict[Axis, float | None]
    lion: dict[Axis, float | None]
    base_betas: tuple[float, float] | None
    lion_betas: tuple[float, float] | None
    batch: int | None
    steps: int | None
    edges: frozenset[Axis] = frozenset()

    def has(self, axis: Axis) -> bool:
        """Whether both sides have a tuned value, so that a ratio exists."""
        return bool(self.base[axis]) and bool(self.lion[axis])


@dataclass(frozen=True)
class Line:
    """Lion's figures along one axis of a sweep, all else equal; None for a run that diverged."""

    pair: TunedPair
    axis: Axis
    goal: str
    metric: str
    values: tuple[tuple[float, float | None], ...]

    @property
    def best(self) -> float:
        """The best figure on the line."""
        return (max if self.goal == "max" else min)(value for _, value in self.values if value is not None)


def collect(ledger: Ledger, records: Path = RECORDS) -> tuple[list[TunedPair], list[Line]]:
    """Return every tuned pair, and the lines of sweeps on which a suggestion's regret can be computed."""
    pairs, lines = from_ledger(ledger)
    own_pairs, own_lines = from_records(records)
    return pairs + own_pairs, lines + own_lines


def from_ledger(ledger: Ledger) -> tuple[list[TunedPair], list[Line]]:
    """Return the pairs of the studies that tuned at least the rate of both sides."""
    pairs, lines = [], []
    for study in ledger.studies:
        if "lr" not in study.tuned:
            continue
        for pair in pairs_of(study):
            tuned = _tuned_pair(pair)
            pairs.append(tuned)
            lines += [line for axis in AXES if axis in study.tuned and (line := _line(tuned, pair.lion_rows, axis))]
    return pairs, lines


def _tuned_pair(pair: Pair) -> TunedPair:
    sides = [
        {axis: getattr(run, axis) if axis in pair.study.tuned else None for axis in AXES}
        for run in (pair.baseline, pair.lion)
    ]
    run = pair.lion
    in_examples = run.batch_unit is not None and re.fullmatch(EXAMPLES, run.batch_unit)
    return TunedPair(
        study=pair.study.name,
        place=pair.place,
        domain=run.domain,
        base=sides[0],
        lion=sides[1],
        base_betas=_betas(pair.baseline),
        lion_betas=_betas(run),
        batch=run.batch if in_examples else None,
        steps=run.steps,
        edges=frozenset(axis for axis in AXES if axis in pair.study.tuned and pair.on_edge(axis)),
    )


def _betas(run: Run) -> tuple[float, float] | None:
    return None if run.beta1 is None or run.beta2 is None else (run.beta1, run.beta2)


def _line(pair: TunedPair, rows: Sequence[Run], axis: Axis) -> Line | None:
    """Return the longest line along an axis among the rows of a sweep."""
    values = {at: run.value for at, run in line_along(rows, axis).items()}
    return _long_enough(pair, axis, rows[0].goal or "", rows[0].metric, values)


def _long_enough(pair: TunedPair, axis: Axis, goal: str, metric: str, values: dict[float, float | None]) -> Line | None:
    recorded = [value for value in values.values() if value is not None]
    if len(values) < SHORTEST_LINE or not recorded:
        return None
    return Line(pair, axis, goal, metric, tuple(sorted(values.items())))


def from_records(folder: Path = RECORDS) -> tuple[list[TunedPair], list[Line]]:
    """Return the pairs of AdamW and Lion that this suite tuned by its protocol.

    A pair has no rate, or no decay, where that of a side is not enclosed by what was tried, or where everything that
    was tried ties.

    Raises:
        ConfigError: there is no such folder, or a record's task is not in conf/task.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected run records, see scripts/collect.py")
    pairs, lines = [], []
    for comparison in comparisons(read_records([folder]).runs):
        sides = {contender.label: contender for contender in comparison.contenders}
        base, lion = sides.get("adamw"), sides.get("lion")
        if base is None or lion is None or not (base.by_protocol and lion.by_protocol):
            continue
        pair = _own_pair(comparison, base, lion)
        pairs.append(pair)
        lines += [line for axis in AXES if (line := _own_line(comparison, pair, lion, axis))]
    return pairs, lines


def _own_pair(comparison: Comparison, base: Contender, lion: Contender) -> TunedPair:
    settled = {axis: not any(_open(side, axis) or is_flat(side, axis) for side in (base, lion)) for axis in AXES}
    place = f"{comparison.task}, batch {comparison.batch_size}, {comparison.steps} steps"
    return TunedPair(
        study=OWN,
        place=place + ("" if comparison.augment in (None, "none") else f", {comparison.augment}"),
        domain=domain_of(comparison.task),
        base={axis: _chosen(base, axis) if settled[axis] else None for axis in AXES},
        lion={axis: _chosen(lion, axis) if settled[axis] else None for axis in AXES},
        base_betas=_own_betas(base),
        lion_betas=_own_betas(lion),
        batch=comparison.batch_size,
        steps=comparison.steps,
    )


def _open(side: Contender, axis: Axis) -> bool:
    return side.chosen is None or on_border(side.settings, side.chosen, axis)


def _chosen(side: Contender, axis: Axis) -> float | None:
    return None if side.chosen is None else float(side.chosen[axis])


def _own_betas(side: Contender) -> tuple[float, float] | None:
    betas = re.search(r"betas (\S+) ([^\s,]+)", side.described)
    return (float(betas[1]), float(betas[2])) if betas else None


def _own_line(comparison: Comparison, pair: TunedPair, lion: Contender, axis: Axis) -> Line | None:
    if lion.chosen is None or comparison.goal is None:
        return None
    other = AXES[1 - AXES.index(axis)]
    row = lion.settings[lion.settings[other] == lion.chosen[other]]
    values = {
        float(at): None if diverged else float(final)
        for at, diverged, final in zip(row[axis], row["diverged"], row["final"], strict=True)
        if at > 0
    }
    return _long_enough(pair, axis, comparison.goal, comparison.metric or "", values)


def domain_of(task: str) -> str:
    """Return the domain of one of the suite's tasks, by the family of its recipe."""
    path = TASKS / f"{task}.yaml"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file, though there are records of task {task}")
    recipe = str(yaml.safe_load(path.read_text(encoding="utf-8"))["recipe"])
    return FAMILIES[recipe.partition(".")[0]]


def studies_of(pairs: Sequence[TunedPair]) -> list[str]:
    """Return the names of the studies, each once, in order."""
    return list(dict.fromkeys(pair.study for pair in pairs))

"""Pairs of Lion and its baseline on one experiment, and the uncertainty of their difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.evidence.ledger import BASELINES, SUBJECT, Ledger, Run, Study
from reports.protocol import TRIALS

LION, BASELINE, TIE, NO_VALUE = "Lion ahead", "baseline ahead", "not told apart", "settings only"
NO_MARGIN = ", no interval"
COORDINATES = ("lr", "weight_decay", "beta1", "beta2", "batch", "steps", "settings")  # of a sweep
THIRD = 2  # rank of the row whose distance from the best tells how flat a sweep is around its optimum


@dataclass(frozen=True)
class Pair:
    """The best row of Lion and of its baseline, and all rows that each was the best of.

    `margin` is the smallest difference that distinguishes the two, in the unit of the metric; None if the source does
    not allow to estimate it. `basis` says how it was estimated.
    """

    study: Study
    baseline: Run
    lion: Run
    baseline_rows: tuple[Run, ...]
    lion_rows: tuple[Run, ...]

    @property
    def place(self) -> str:
        """The experiment in words."""
        return ", ".join(filter(None, (self.lion.task, self.lion.dataset, self.lion.model, self.lion.variant)))

    @property
    def difference(self) -> float | None:
        """Lion's value minus the baseline's, in the unit of the metric."""
        if self.lion.value is None or self.baseline.value is None:
            return None
        return self.lion.value - self.baseline.value

    @property
    def margin(self) -> float | None:
        """The larger of the source's own noise and, of full sweeps, of the spread around either optimum."""
        if self.difference is None:
            return None
        spreads = [spread(rows) for rows in (self.baseline_rows, self.lion_rows)]
        estimates = [*(spread for spread in spreads if spread is not None), *filter(None, [self.study.noise])]
        return max(estimates) if self.study.noise or None not in spreads else None

    @property
    def basis(self) -> str:
        """What is known about the uncertainty."""
        if self.difference is None:
            return "no figures published"
        seeds = min(self.baseline.seeds or 1, self.lion.seeds or 1)
        if seeds > 1:
            return f"means of {seeds} runs, spread not published"
        counts = [len(rows) for rows in (self.baseline_rows, self.lion_rows)]
        parts = ["single runs"] if max(counts) == 1 else [f"best of {counts[0]} and {counts[1]} single runs"]
        spreads = [spread(rows) for rows in (self.baseline_rows, self.lion_rows)]
        if None not in spreads:
            parts.append(f"third best {spreads[0]:.4f} and {spreads[1]:.4f} behind")
        if self.study.noise:
            parts.append(f"the source counts {self.study.noise:g} as equal")
        return ", ".join(parts)

    def on_edge(self, axis: str) -> list[str]:
        """Name the sides whose best row has the smallest or largest of the several values published of an axis."""
        sides = (("baseline", self.baseline, self.baseline_rows), (SUBJECT, self.lion, self.lion_rows))
        return [name for name, run, rows in sides if _on_edge(run, rows, axis)]

    @property
    def reading(self) -> str:
        """Which side is ahead; without a margin by the sign alone, which the text says."""
        if self.difference is None:
            return NO_VALUE
        if self.difference == 0 or (self.margin is not None and abs(self.difference) <= self.margin):
            return TIE
        words = LION if (self.difference > 0) == (self.lion.goal == "max") else BASELINE
        return words if self.margin is not None else words + NO_MARGIN


def _on_edge(run: Run, rows: Sequence[Run], axis: str) -> bool:
    tried = {value for row in rows if (value := getattr(row, axis)) is not None}
    return len(tried) > 1 and getattr(run, axis) in (min(tried), max(tried))


def spread(rows: Sequence[Run]) -> float | None:
    """Return how far the third best row of a sweep is behind the best; None below the protocol's number of trials."""
    values = sorted((run.value for run in rows if run.value is not None), reverse=rows[0].goal == "max")
    return abs(values[THIRD] - values[0]) if len(rows) >= TRIALS and len(values) > THIRD else None


def pairs(ledger: Ledger) -> list[Pair]:
    """Return every pair of the ledger, in the order of its studies."""
    return [pair for study in ledger.studies for pair in pairs_of(study)]


def pairs_of(study: Study) -> Iterator[Pair]:
    """Yield a pair for each experiment of a study in which Lion and a baseline ran."""
    by_experiment: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in study.compared():
        by_experiment.setdefault(run.experiment, {}).setdefault(run.optimizer, []).append(run)
    for optimizers in by_experiment.values():
        baseline = next((name for name in BASELINES if name in optimizers), None)
        if baseline and SUBJECT in optimizers:
            rows = optimizers[baseline], optimizers[SUBJECT]
            yield Pair(study, best(rows[0]), best(rows[1]), tuple(rows[0]), tuple(rows[1]))


def best(rows: Sequence[Run]) -> Run:
    """Return the row of the best value; of equals, and where no row has a value, the first."""
    valued = [run for run in rows if run.value is not None]
    if not valued:
        return rows[0]
    return (max if valued[0].goal == "max" else min)(valued, key=lambda run: run.value or 0.0)


def line_along(rows: Iterable[Run], axis: str) -> dict[float, Run]:
    """Return the most rows of a sweep that differ in one coordinate alone, by its value; rows of 0 are left out.

    At a fixed number of examples another batch means other steps, so along `batch` the steps may differ.
    """
    others = [name for name in COORDINATES if name != axis and not (axis == "batch" and name == "steps")]
    lines: dict[tuple[object, ...], dict[float, Run]] = {}
    for run in rows:
        if at := getattr(run, axis):
            lines.setdefault(tuple(getattr(run, name) for name in others), {})[float(at)] = run
    return dict(sorted(max(lines.values(), key=len, default={}).items()))

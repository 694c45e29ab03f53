"""A ladder of tasks, each about ten times the work of the one before, that programs of a search climb or fall from.

A search fits its own task sooner or later (meta-overfitting, section 3.3 of Chen et al. 2023). So what it found is
trained on larger tasks, beside AdamW and Lion, each program's update with the best of equally many factors, and goes
on only where it beats AdamW, as in the paper; on the last rung it has to beat both. Nothing is called discovered that
has not passed the last rung.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from lion.discovery.language.analysis import analyse, live
from lion.discovery.language.program import Program, Stmt
from lion.discovery.tasks.proxy import DIVERGED, Proxy

KEEP = 0.25  # share of a rung's programs that may go on, at least one
ERRORS = 2.0  # standard errors of the paired difference by which a program has to be better
WIDE = tuple(10 ** (k / 4) for k in range(-10, 11))  # factors on the first rung
NARROW = (1 / 9, 1 / 3, 1.0, 3.0, 9.0)  # on the others, around the best of the rung before
SHORT = 0.03  # share of fitness that a shorter program may lose


class Rung(Protocol):
    """A task of the ladder. Losses: lower is better."""

    @property
    def name(self) -> str:
        """What it trains, for tables."""
        ...

    def tune(self, program: Program) -> float:
        """The loss by which a factor is chosen; infinity if training diverged."""
        ...

    def score(self, program: Program) -> list[float] | None:
        """The losses of seeds and examples that choose nothing, paired from program to program; None: diverged."""
        ...


@dataclass(frozen=True)
class ProxyRung:
    """A proxy task as a rung: one with its own seeds to tune on, another with fresh seeds and examples to score."""

    name: str
    tuning: Proxy
    scoring: Proxy

    def tune(self, program: Program) -> float:
        """See Rung."""
        return self.tuning.fitness(program)

    def score(self, program: Program) -> list[float] | None:
        """See Rung."""
        losses = self.scoring.losses(program)
        return None if losses is None else [float(loss) for loss in losses]


@dataclass(frozen=True)
class Candidate:
    """A program that would climb.

    Attributes:
        name: where it comes from.
        program: without its dead statements.
        fitness: on the search's own task.
        progress: share of the search's cycles after which it was the best; None if it never was.
    """

    name: str
    program: Program
    fitness: float = math.nan
    progress: float | None = None


@dataclass(frozen=True)
class Result:
    """What one program did on one rung."""

    candidate: Candidate
    factor: float
    losses: list[float] | None
    verdict: str = ""
    difference: float = math.nan  # mean loss less the rival's
    error: float = math.nan  # standard error of that, paired by seed

    @property
    def mean(self) -> float:
        """The mean loss; infinity if it diverged."""
        return DIVERGED if self.losses is None else float(np.mean(self.losses))


@dataclass
class Floor:
    """One rung, climbed.

    Attributes:
        rung: its name.
        baselines: their results.
        rival: the name of the one to beat.
        results: of every candidate that came, the best first.
    """

    rung: str
    baselines: list[Result]
    rival: str = ""
    results: list[Result] = field(default_factory=list)

    @property
    def passed(self) -> list[Result]:
        """Those that went on."""
        return [result for result in self.results if result.verdict == PASSED]


PASSED = "passed"
SURPLUS = "better, but not among the best quarter"
NO_DIFFERENCE = "no better"
FELL = "diverged"

Keep = Callable[[str, Program, Callable[[], Result]], Result]


class _Entry(NamedTuple):
    candidate: Candidate
    centre: float


def climb(
    candidates: Sequence[Candidate],
    baselines: Sequence[Candidate],
    rungs: Sequence[Rung],
    say: Callable[[str, Result], None] = lambda rung, result: None,
    measure: Callable[[Rung, _Entry, tuple[float, ...]], Result] | None = None,
) -> Iterator[Floor]:
    """Send candidates up the ladder, the baselines beside them on every rung.

    Args:
        candidates: of distinct keys.
        baselines: the first, where the search began, has to be beaten on every rung; all of them on the last.
        rungs: from the cheapest on.
        say: told every result that is new, with its rung's name.
        measure: measures a program on a rung; default `measured`. Hand in one that remembers.

    Yields:
        One floor a rung, as soon as it is climbed; the last ones are missing where nothing was left to climb.
    """
    measure = measure or measured
    entries, besides = [_Entry(c, 1.0) for c in candidates], [_Entry(c, 1.0) for c in baselines]
    for number, rung in enumerate(rungs):
        factors = NARROW if number else WIDE
        floor = Floor(rung.name, [])
        for entry in besides:
            floor.baselines.append(measure(rung, entry, factors))
            say(rung.name, floor.baselines[-1])
        rivals = floor.baselines if number == len(rungs) - 1 else floor.baselines[:1]
        rival = min(rivals, key=lambda result: result.mean)
        floor.rival = rival.candidate.name
        for entry in entries:
            floor.results.append(_against(measure(rung, entry, factors), rival))
            say(rung.name, floor.results[-1])
        floor.results.sort(key=lambda result: result.mean)
        most = max(1, math.floor(KEEP * len(floor.results)))
        better = [result for result in floor.results if result.verdict == PASSED]
        floor.results = [_judged(result, SURPLUS) if result in better[most:] else result for result in floor.results]
        yield floor
        entries = [_Entry(result.candidate, result.factor) for result in floor.passed]
        besides = [_Entry(result.candidate, result.factor) for result in floor.baselines]
        if not entries:
            return


def measured(rung: Rung, entry: _Entry, factors: tuple[float, ...]) -> Result:
    """Tune the factor of a program's update on a rung, then score it with the best."""
    candidate, centre = entry
    tried = {centre * factor: rung.tune(scaled(candidate.program, centre * factor)) for factor in factors}
    best = min(tried, key=lambda factor: tried[factor])
    if tried[best] == DIVERGED:
        return Result(candidate, best, None)
    return Result(candidate, best, rung.score(scaled(candidate.program, best)))


def _against(result: Result, rival: Result) -> Result:
    if result.losses is None:
        return _judged(result, FELL)
    if rival.losses is None:
        return _judged(result, PASSED)
    change = np.subtract(result.losses, rival.losses)
    mean, error = float(change.mean()), float(change.std(ddof=1) / math.sqrt(len(change)))
    verdict = PASSED if mean < -ERRORS * error else NO_DIFFERENCE
    return Result(result.candidate, result.factor, result.losses, verdict, mean, error)


def _judged(result: Result, verdict: str) -> Result:
    return Result(result.candidate, result.factor, result.losses, verdict, result.difference, result.error)


def scaled(program: Program, factor: float) -> Program:
    """The program with its whole update times a factor: a learning rate that every program has."""
    if factor == 1:
        return program
    return Program((*program.stmts, Stmt("update", "multiply", ("update", float(factor)))))


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without their dead statements, one for each canonical key, the first of each."""
    first_of_each: dict[int, Candidate] = {}
    for candidate in candidates:
        program = live(candidate.program)
        first_of_each.setdefault(
            analyse(program).canonical, Candidate(candidate.name, program, candidate.fitness, candidate.progress)
        )
    return list(first_of_each.values())


def shortest(candidates: Sequence[Candidate], share: float = SHORT) -> Candidate:
    """The candidate with the fewest live statements among those whose fitness is within a share of the best's."""
    limit = (1 + share) * min(candidate.fitness for candidate in candidates)
    near = [candidate for candidate in candidates if candidate.fitness <= limit]
    return min(near, key=lambda candidate: (len(live(candidate.program)), candidate.fitness))

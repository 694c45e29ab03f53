"""Regularized evolution of programs (Real et al. 2019, arXiv:1802.01548), as in section 3 of Chen et al. 2023.

Each cycle, the better of two programs drawn from the population gets a mutated child, which takes the place of the
oldest. A child whose key was met before costs nothing: nine in ten are. What a search does follows from its settings
alone, the number of workers among them, and from no timing: children are drawn and entered in a fixed order.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from lion.discovery.language.analysis import analyse, live
from lion.discovery.language.program import STATES, Program, ProgramError, load, parse, render
from lion.discovery.search.mutation import Space, mutate
from lion.discovery.search.workers import Evaluator
from lion.discovery.tasks.proxy import DIVERGED

LOG, CHECKPOINT = "log.jsonl", "checkpoint.json"
COUNT_EVERY = 1000  # cycles between two lines of counters in the log
FAME = 100  # how many of the best programs with distinct keys are kept
BATCH = 4  # new programs a worker gets at a time


@dataclass(frozen=True)
class Settings:
    """What decides a search, beside the task.

    Attributes:
        seed: of all that is random.
        population: programs that live at a time (the paper's P, 1,000).
        tournament: programs drawn for a parent (T, 2). With 1 there is no selection: a random search.
        initial: the program that the whole population begins as.
        space: which programs may be written.
        workers: processes that evaluate. One takes a child at a time, as the paper's algorithm does; more take
            batches, drawn while the batch before is evaluated.
        task: the name of the proxy task, so that a checkpoint is not continued with another.
    """

    seed: int = 0
    population: int = 1000
    tournament: int = 2
    initial: Program = field(default_factory=lambda: load("program3"))
    space: Space = field(default_factory=Space)
    workers: int = 1
    task: str = ""

    def fingerprint(self) -> dict[str, Any]:
        """The settings in plain types, by which a checkpoint knows whether it fits."""
        return json.loads(json.dumps(asdict(self) | {"initial": render(self.initial)}))


@dataclass
class Counters:
    """What a search has done so far."""

    cycles: int = 0  # valid children
    invalid: int = 0  # children thrown away, the parent mutated again
    structural_hits: int = 0
    canonical_hits: int = 0  # hits of the canonical key alone
    evaluations: int = 0
    diverged: int = 0  # of the evaluations
    statements: int = 0  # of all valid children
    redundant: int = 0  # of these statements, those that no output of their step depends on: the paper's count
    idle: int = 0  # those that no update of this or a later step depends on: these are left out

    def shares(self) -> dict[str, float]:
        """Cache hits and invalid children of all children; redundant and idle statements of all statements."""
        cycles = max(1, self.cycles)
        return {
            "cache_hits": (self.structural_hits + self.canonical_hits) / cycles,
            "redundant": self.redundant / max(1, self.statements),
            "idle": self.idle / max(1, self.statements),
            "invalid": self.invalid / max(1, self.cycles + self.invalid),
        }


class Member(NamedTuple):
    """A program of the population."""

    program: Program
    key: int
    fitness: float


class Child(NamedTuple):
    """A child that waits for its fitness."""

    program: Program
    key: int
    parent: int  # the parent's key
    kind: str
    live: int
    new: bool  # not met before: it is evaluated


class Search:
    """A search, from its beginning or from a checkpoint in its folder.

    Args:
        settings: what decides it.
        folder: where the log and checkpoints lie; None keeps nothing. A checkpoint there is continued.

    Raises:
        ValueError: the folder holds a search with other settings, or log and checkpoint that do not belong together, or
            the initial program uses a state that may not be.
        ProgramError: the initial program is not valid.
    """

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        used = {name for stmt in settings.initial.stmts for name in (stmt.out, *stmt.args)}
        if forbidden := [state for state in STATES if state in used and state not in settings.space.states]:
            raise ValueError(f"the initial program uses the state {forbidden[0]}, which the search may not use")
        self.settings, self.folder = settings, folder
        self.random = Random(f"lion.discovery/{settings.seed}")
        self.counters = Counters()
        self.seconds = 0.0  # spent in `run`, over all its calls
        self.cpu_seconds = 0.0  # the same of this process's CPU time, without that of other workers
        self.population: list[Member] = []
        self.cache: dict[int, float] = {}
        self.structural: set[int] = set()
        self.fame: dict[int, Member] = {}
        self.best = Member(settings.initial, analyse(settings.initial).canonical, DIVERGED)
        self._pending: list[Child] = []  # drawn, and not yet entered
        self._in_flight: set[int] = set()
        self._log: list[str] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / CHECKPOINT).exists():
                self._restore()
            else:
                (folder / LOG).write_bytes(b"")

    def run(self, evaluator: Evaluator, goes_on: Callable[["Search"], bool]) -> None:
        """Search for as long as `goes_on` says so, which is asked after every batch; writes a checkpoint at the end.

        A later call, with the same settings, gives the same search as if there had been no stop.
        """
        if not self.population:
            self._begin(evaluator)
        ahead = self.settings.workers > 1  # draw a batch while another is evaluated
        result = evaluator.submit(_to_evaluate(self._pending)) if self._pending else None
        before, start = self.seconds, time.monotonic()
        cpu_before, cpu_start = self.cpu_seconds, time.process_time()
        while goes_on(self):
            if result is None:
                self._pending = self._draw()
                result = evaluator.submit(_to_evaluate(self._pending))
            following = self._draw() if ahead else []
            after = evaluator.submit(_to_evaluate(following)) if following else None  # no worker waits for the slowest
            self._enter(self._pending, result())
            self._pending, result = following, after
            self.seconds = before + time.monotonic() - start
            self.cpu_seconds = cpu_before + time.process_time() - cpu_start
        self.save()

    def _begin(self, evaluator: Evaluator) -> None:
        analysis = analyse(self.settings.initial)
        (fitness,) = evaluator.submit([live(self.settings.initial)])()
        self.counters.evaluations += 1
        self.counters.diverged += fitness == DIVERGED
        self.cache[analysis.canonical] = fitness
        self.structural.add(analysis.structural)
        first = Member(self.settings.initial, analysis.canonical, fitness)
        self.population = [first] * self.settings.population
        self._meet(first)

    def _draw(self) -> list[Child]:
        """The next children, from the population as it is."""
        workers = self.settings.workers
        children: list[Child] = []
        new, most_new, most = 0, BATCH * workers, 16 * BATCH * workers
        while not children or (workers > 1 and new < most_new and len(children) < most):
            drawn = [self.random.choice(self.population) for _ in range(self.settings.tournament)]
            parent = min(drawn, key=lambda member: member.fitness)
            program, kind, analysis = self._valid_child(parent.program)
            key = analysis.canonical
            met = key in self.cache or key in self._in_flight
            if met:
                self.counters.structural_hits += analysis.structural in self.structural
                self.counters.canonical_hits += analysis.structural not in self.structural
            else:
                self._in_flight.add(key)
                new += 1
            self.structural.add(analysis.structural)
            count = analysis.live.bit_count()
            self.counters.statements += analysis.length
            self.counters.redundant += analysis.length - analysis.live_one_step.bit_count()
            self.counters.idle += analysis.length - count
            children.append(Child(program, key, parent.key, kind, count, not met))
        return children

    def _valid_child(self, parent: Program) -> tuple[Program, str, Any]:
        while True:
            program, kind = mutate(parent, self.random, self.settings.space)
            try:
                return program, kind, analyse(program)
            except ProgramError:
                self.counters.invalid += 1

    def _enter(self, children: list[Child], fitnesses: list[float]) -> None:
        """Put children in the places of the oldest, in the order in which they were drawn."""
        values = iter(fitnesses)
        for child in children:
            if child.new:
                self.cache[child.key] = fitness = next(values)
                self._in_flight.discard(child.key)
                self.counters.evaluations += 1
                self.counters.diverged += fitness == DIVERGED
            member = Member(child.program, child.key, self.cache[child.key])
            self.population[self.counters.cycles % len(self.population)] = member
            self.counters.cycles += 1
            if child.new:
                self._write(
                    cycle=self.counters.cycles,
                    key=f"{child.key:016x}",
                    parent=f"{child.parent:016x}",
                    fitness=_plain(member.fitness),
                    kind=child.kind,
                    live=child.live,
                    length=len(child.program),
                )
                self._meet(member)
            if self.counters.cycles % COUNT_EVERY == 0:
                self._write(**self.summary())

    def _meet(self, member: Member) -> None:
        """Remember a program just evaluated, if it is one of the best."""
        if member.fitness < self.best.fitness:
            self.best = member
            self._write(cycle=self.counters.cycles, best=member.fitness, program=render(member.program))
        if member.fitness < DIVERGED:
            self.fame[member.key] = member
            if len(self.fame) > 2 * FAME:
                kept = sorted(self.fame.values(), key=lambda other: (other.fitness, other.key))[:FAME]
                self.fame = {other.key: other for other in kept}

    def summary(self) -> dict[str, Any]:
        """Counters, and the population's fitness and length as they are now."""
        fitnesses = sorted(member.fitness for member in self.population)
        return {
            "counters": asdict(self.counters),
            "best": _plain(self.best.fitness),
            "median": _plain(fitnesses[len(fitnesses) // 2]),
            "length": sum(len(member.program) for member in self.population) / len(self.population),
        }

    def hall_of_fame(self) -> list[Member]:
        """The best programs with distinct keys, the best first, at most FAME."""
        return sorted(self.fame.values(), key=lambda member: (member.fitness, member.key))[:FAME]

    # Log and checkpoint ----------------------------------------------------------------------------------------------

    def _write(self, **line: Any) -> None:
        if self.folder is not None:
            self._log.append(json.dumps(line) + "\n")

    def save(self) -> None:
        """Write what is new in the log, and then a checkpoint, under a temporary name first."""
        if self.folder is None:
            return
        with (self.folder / LOG).open("ab") as log:
            log.write("".join(self._log).encode())
            log.flush()
            os.fsync(log.fileno())
            size = log.tell()
        self._log = []
        programs: dict[Program, int] = {}

        def number(program: Program) -> int:
            return programs.setdefault(program, len(programs))

        state = {
            "settings": self.settings.fingerprint(),
            "log_size": size,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "random": self.random.getstate(),
            "counters": asdict(self.counters),
            "population": [(number(m.program), m.key, _plain(m.fitness)) for m in self.population],
            "fame": [(number(m.program), m.key, _plain(m.fitness)) for m in self.fame.values()],
            "best": (number(self.best.program), self.best.key, _plain(self.best.fitness)),
            "pending": [(number(child.program), *child[1:]) for child in self._pending],
            "cache": [(key, _plain(fitness)) for key, fitness in self.cache.items()],
            "structural": list(self.structural),
            "programs": [render(program) for program in programs],
        }
        temporary = self.folder / f"{CHECKPOINT}.new"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(state))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / CHECKPOINT)

    def _restore(self) -> None:
        assert self.folder is not None
        state, programs = _read_checkpoint(self.folder / CHECKPOINT)
        mine = self.settings.fingerprint()
        if different := [name for name in mine if mine[name] != state["settings"].get(name)]:
            raise ValueError(f"{self.folder} holds a search with another {different[0]}: choose another folder")

        def member(saved: list[Any]) -> Member:
            return Member(programs[saved[0]], saved[1], _fitness(saved[2]))

        version, internal, gauss = state["random"]
        self.random.setstate((version, tuple(internal), gauss))
        self.counters = Counters(**state["counters"])
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]
        self.population = [member(saved) for saved in state["population"]]
        self.fame = {saved[1]: member(saved) for saved in state["fame"]}
        self.best = member(state["best"])
        self._pending = [Child(programs[saved[0]], *saved[1:]) for saved in state["pending"]]
        self._in_flight = {child.key for child in self._pending if child.new}
        self.cache = {key: _fitness(value) for key, value in state["cache"]}
        self.structural = set(state["structural"])
        log = self.folder / LOG
        if not log.is_file() or log.stat().st_size < state["log_size"]:
            raise ValueError(f"{log} holds less than its checkpoint: choose another folder, or remove this one")
        os.truncate(log, state["log_size"])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a search's log.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / LOG} cannot be read ({error})") from None


def read_bests(folder: Path) -> tuple[int, list[tuple[int, float, Program]]]:
    """How many cycles a search logged, and each new best: its cycle, fitness and program."""
    lines = read_log(folder)
    bests = [(line["cycle"], line["best"], parse(line["program"], LOG)) for line in lines if "program" in line]
    return max((line["cycle"] for line in lines if "cycle" in line), default=0), bests


def read_fame(folder: Path) -> list[Member]:
    """The best programs of a search with distinct keys, from its checkpoint, the best first."""
    state, programs = _read_checkpoint(folder / CHECKPOINT)
    fame = [Member(programs[number], key, _fitness(fitness)) for number, key, fitness in state["fame"]]
    return sorted(fame, key=lambda member: (member.fitness, member.key))[:FAME]


def _read_checkpoint(file: Path) -> tuple[dict[str, Any], list[Program]]:
    """A checkpoint's content, and its programs.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        return state, [parse(text, CHECKPOINT) for text in state["programs"]]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} cannot be read ({error}): remove it to begin anew") from None


def _to_evaluate(children: list[Child]) -> list[Program]:
    return [live(child.program) for child in children if child.new]


def _plain(fitness: float) -> float | None:
    """JSON has no infinity."""
    return None if fitness == DIVERGED else fitness


def _fitness(value: float | None) -> float:
    return DIVERGED if value is None else value

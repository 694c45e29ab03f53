"""discover.py bench: the cost of the parts of a search on this machine, as CPU time for single processes."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from scripts.discovery import tasks
from scripts.discovery.gathering import BENCH

if TYPE_CHECKING:
    import argparse

    from lion.discovery.search.evolution import Search
    from lion.discovery.search.workers import Evaluator

REPEATS, CALLS = 7, 500
SPEEDUP_EVALUATIONS = 600
ROUNDS = 3  # of one worker and two in turn


def run(options: argparse.Namespace) -> int:
    """Measure and print; writes bench.json into a folder if one is named."""
    report: dict[str, str] = {}

    def say(name: str, value: str) -> None:
        report[name] = value
        print(f"{name}: {value}", flush=True)

    _passes(say)
    _evaluations(say)
    _hits(say, options.hits)
    if not options.no_workers:
        _workers(say)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / BENCH).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _fastest(function: Callable[[], Any], calls: int) -> float:
    """CPU seconds a call, the least of some repeats."""
    least = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(calls):
            function()
        least = min(least, (time.process_time() - start) / calls)
    return least


def _passes(say: Callable[[str, str], None]) -> None:
    from lion.discovery.language.analysis import analyse
    from lion.discovery.language.program import load

    for name in ("program3", "program8"):
        program = load(name)
        seconds = _fastest(partial(analyse, program), CALLS)
        say(f"abstract pass, {name} ({len(program)} statements)", f"{1e6 * seconds:.1f} µs")


def _evaluations(say: Callable[[str, str], None]) -> None:
    from lion.discovery.language.program import load

    task = tasks.of_search("digits").search
    for name in ("program3", "program1"):
        program = load(name)
        factor = 0.03 if name == "program1" else 1.0
        seconds = _fastest(partial(task.fitness, program, factor), 3)
        say(f"evaluation of {name}, digits, {len(task.seeds)} seeds", f"{1e3 * seconds:.1f} ms")


def _hits(say: Callable[[str, str], None], hits: int) -> None:
    """Programs that were cache hits in a search, evaluated again."""
    from lion.discovery.search.evolution import Member, Search, Settings
    from lion.discovery.search.workers import Inline

    task = tasks.digits("search", seeds=(0, 1))
    members: list[Member] = []

    class Watched(Search):
        def _enter(self, children: list[Any], fitnesses: list[float]) -> None:
            cached = [(child, self.cache[child.key]) for child in children if not child.new and child.key in self.cache]
            members.extend(Member(child.program, child.key, fitness) for child, fitness in cached)
            super()._enter(children, fitnesses)

    Watched(Settings(seed=99)).run(Inline(task), lambda search: len(members) < 20 * hits)
    drawn = Random(0).sample(members, hits)
    different = sum(task.fitness(member.program) != member.fitness for member in drawn)
    say("cache hits evaluated anew with another fitness", f"{different} of {hits}")


def _workers(say: Callable[[str, str], None]) -> None:
    """One process against two workers and the one that feeds them, in turn: wall time, and CPU time (Linux).

    On a machine with other work, wall time says little; CPU time says what two free cores would come to.
    """
    from lion.discovery.search.workers import Inline, Processes

    task = tasks.of_search("digits").search
    alone: list[tuple[float, list[float]]] = []
    together: list[tuple[float, list[float]]] = []
    for _ in range(ROUNDS):
        alone.append(_timed(Inline(task)))
        with Processes(task, 2) as evaluator:
            together.append(_timed(evaluator))
    one, two = (statistics.median(wall for wall, _ in measured) for measured in (alone, together))
    say(
        "two workers over none, wall time, in turn",
        f"{one / two:.2f} times ({1 / one:.0f}, {1 / two:.0f} evaluations/s)",
    )
    single = min(sum(cpu) for _, cpu in alone)
    _, cpu = min(together, key=lambda measured: sum(measured[1]))
    bound = max(sum(cpu) / 2, *cpu)
    say(
        "CPU time an evaluation, one process, and two workers with their feeder",
        f"{1e3 * single:.1f} ms, {1e3 * sum(cpu):.1f} ms, of which the busiest process {1e3 * max(cpu):.1f} ms: "
        f"{single / bound:.2f} times on two free cores",
    )


def _timed(evaluator: Evaluator) -> tuple[float, list[float]]:
    """Seconds of wall time, and of CPU time of this process and of each child, an evaluation."""
    from lion.discovery.search.evolution import Search, Settings

    search = Search(Settings(workers=2))  # the same programs for any number of processes
    search.run(evaluator, partial(_until, 200))  # processes have begun, programs have their length
    before, wall, cpu = search.counters.evaluations, time.monotonic(), _cpu()
    search.run(evaluator, partial(_until, before + SPEEDUP_EVALUATIONS))
    count = search.counters.evaluations - before
    return (time.monotonic() - wall) / count, [(b - a) / count for a, b in zip(cpu, _cpu(), strict=True)]


def _cpu() -> list[float]:
    """CPU seconds of this process and of its children."""
    files = [Path(f"/proc/{child.pid}/schedstat") for child in multiprocessing.active_children()]
    return [time.process_time(), *(int(file.read_text().split()[0]) / 1e9 for file in files)]


def _until(evaluations: int, search: Search) -> bool:
    return search.counters.evaluations < evaluations

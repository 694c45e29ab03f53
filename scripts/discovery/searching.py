"""discover.py search: evolve programs, run the baselines, choose a winner and score it."""

from __future__ import annotations

import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.files import locked, write_text
from scripts.discovery import tasks
from scripts.discovery.tasks import FRESH_SEEDS, SWEEP, Tasks

if TYPE_CHECKING:
    import argparse

    from lion.discovery.language.program import Program
    from lion.discovery.search.evolution import Search, Settings
    from lion.discovery.search.workers import Evaluator
    from lion.discovery.tasks.proxy import Proxy

CHECKPOINT_SECONDS = 60
SAY_SECONDS = 30
CANDIDATES = 20  # of the best of a search, among which other seeds choose
SCORES = "scores.json"


def run(options: argparse.Namespace) -> int:
    """Search, run the baselines, choose, score; ends with a line of rates, shares and the best."""
    with locked(options.out):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from lion.discovery.language.ops import OPS, PAPER_OPS
    from lion.discovery.language.program import load, render
    from lion.discovery.search.evolution import Settings
    from lion.discovery.search.mutation import Space

    the_tasks = tasks.of_search(options.task)
    kind, workers = options.workers
    base = Settings(
        population=options.population,
        tournament=options.tournament,
        initial=load(options.start),
        space=Space(
            states=tuple(options.states.split(",")),
            ops=tuple(OPS) if options.all_functions else PAPER_OPS,
            constants_only=options.constants_only,
        ),
        workers=workers,
        task=options.task,
    )
    rounds = options.restarts + options.from_best
    seconds = 60 * options.minutes / rounds
    done: list[Search] = []
    with _evaluator(kind, workers, the_tasks.search) as evaluator:
        for number in range(rounds):
            settings = replace(base, seed=1000 * options.seed + number)
            if number == options.restarts:
                settings = replace(settings, initial=_best(done).best.program)
            name = f"round{number}"
            done.append(_search(settings, options.out / name, name, evaluator, seconds, options.evaluations))
        winners = {"search": done}
        if not options.no_baselines:
            evaluations = sum(search.counters.evaluations for search in done)
            for name, settings in _baselines(base, options.seed).items():
                winners[name] = [_search(settings, options.out / name, name, evaluator, None, evaluations)]
    chosen = {name: _chosen(the_tasks.selection, searches) for name, searches in winners.items()}
    write_text(options.out / "best.py", render(chosen["search"], "The best program of a search."))
    print(f"\n{render(_live(chosen['search']))}")
    scores = _scores(the_tasks, chosen | {"AdamW": load("program3"), "Lion": load("program1")})
    if options.no_baselines:
        print("  no baselines were run (random search, AdamW's constants): they would show whether selection did it")
    _write_scores(options, scores, {name: _measured(searches) for name, searches in winners.items()})
    print(f"search: {_rates(done)}")
    return 0


def _evaluator(kind: str, workers: int, task: Proxy) -> Any:
    """Who evaluates, as a context."""
    from lion.discovery.search.workers import Inline, Processes, RayWorkers

    if kind == "ray":
        try:
            return RayWorkers(task, workers)
        except ImportError:
            raise ValueError("--workers ray needs Ray: pip install '.[ray]'") from None
    return Processes(task, workers) if workers > 1 else nullcontext(Inline(task))


def _baselines(base: Settings, seed: int) -> dict[str, Settings]:
    """Random search has no selection; constants tunes the initial program and leaves its form."""
    constants = replace(base.space, constants_only=True)
    return {
        "random": replace(base, seed=1000 * seed + 900, tournament=1),
        "constants": replace(base, seed=1000 * seed + 901, space=constants),
    }


def _search(
    settings: Settings, folder: Path, name: str, evaluator: Evaluator, seconds: float | None, evaluations: int | None
) -> Search:
    """One search, to its time or to its number of evaluations, with a line now and then."""
    from lion.discovery.search.evolution import Search

    search = Search(settings, folder)
    if search.counters.cycles:
        print(f"{name}: continues from cycle {search.counters.cycles}", flush=True)
    saved = said = time.monotonic()

    def goes_on(search: Search) -> bool:
        nonlocal saved, said
        now = time.monotonic()
        if now - saved > CHECKPOINT_SECONDS:
            search.save()
            saved = now
        if now - said > SAY_SECONDS:
            print(f"{name}: {_rates([search])}", flush=True)
            said = now
        if evaluations is not None:
            return search.counters.evaluations < evaluations
        return seconds is None or search.seconds < seconds

    search.run(evaluator, goes_on)
    print(f"{name}: {_rates([search])}", flush=True)
    return search


def _chosen(selection: Proxy, searches: list[Search]) -> Program:
    """Of the best programs at the end and at earlier moments, the best on seeds and examples that the search never saw.

    The best of thousands on the search's own is in part the luckiest there, and the more so the longer it lasted.
    """
    from lion.discovery.search.evolution import read_bests

    candidates = [member.program for search in searches for member in search.hall_of_fame()[:CANDIDATES]]
    for search in searches:
        assert search.folder is not None
        candidates += [program for _, _, program in read_bests(search.folder)[1]]
    return min(candidates, key=selection.fitness)


def _scores(the_tasks: Tasks, programs: dict[str, Program]) -> dict[str, dict[str, Any]]:
    """Print each program's loss on fresh seeds, its update scaled by what was best on the search's own seeds."""
    from lion.discovery.language.program import render
    from lion.discovery.tasks.proxy import swept

    print(f"validation loss, {len(FRESH_SEEDS)} fresh seeds and examples that no search saw (mean, standard error):")
    scores: dict[str, dict[str, Any]] = {}
    for name, program in programs.items():
        factor, fitness = swept(the_tasks.search, program, SWEEP)
        losses = the_tasks.fresh.losses(program, factor)
        shown = [round(float(loss), 6) for loss in losses] if losses is not None else None
        scores[name] = {"losses": shown, "factor": factor, "search": finite(fitness), "program": render(_live(program))}
        if losses is None:
            print(f"  {name:10} diverged (search's seeds: {fitness:.4f})")
            continue
        error = losses.std(ddof=1) / len(losses) ** 0.5
        print(f"  {name:10} {losses.mean():.4f} ± {error:.4f}  (search's seeds: {fitness:.4f}, update x {factor:.3g})")
    return scores


def finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if math.isfinite(value) else None


def _measured(searches: list[Search]) -> dict[str, Any]:
    total = _total(searches)
    times = {name: round(sum(getattr(search, name) for search in searches), 2) for name in ("seconds", "cpu_seconds")}
    return {**vars(total), **times, "best": finite(_best(searches).best.fitness)}


def _write_scores(options: argparse.Namespace, scores: dict[str, Any], measured: dict[str, Any]) -> None:
    """What `report` reads in addition to the logs."""
    names = ("seed", "task", "start", "states", "population", "tournament")
    settings = {name: getattr(options, name) for name in names}
    content = {"settings": settings, "scores": scores, "measured": measured}
    write_text(options.out / SCORES, json.dumps(content, indent=1) + "\n")


def _best(searches: list[Search]) -> Search:
    return min(searches, key=lambda search: search.best.fitness)


def _total(searches: list[Search]) -> Any:
    from lion.discovery.search.evolution import Counters

    return Counters(*(sum(values) for values in zip(*(vars(s.counters).values() for s in searches), strict=True)))


def _rates(searches: list[Search]) -> str:
    total = _total(searches)
    seconds = max(1e-9, sum(search.seconds for search in searches))
    shares = total.shares()
    return (
        f"{total.cycles} programs ({total.cycles / seconds:.0f}/s), {total.evaluations} evaluations "
        f"({total.evaluations / seconds:.0f}/s), cache hits {shares['cache_hits']:.1%}, "
        f"redundant {shares['redundant']:.1%}, invalid {shares['invalid']:.1%}, best {_best(searches).best.fitness:.4f}"
    )


def _live(program: Program) -> Program:
    from lion.discovery.language.analysis import live

    return live(program)

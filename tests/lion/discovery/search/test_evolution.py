"""The search: it follows from its settings, a killed one goes on to the same bytes, and no cache hit is wrong."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lion.discovery.language.analysis import analyse, live
from lion.discovery.language.program import Program, load, parse
from lion.discovery.search.evolution import CHECKPOINT, LOG, Search, Settings
from lion.discovery.search.mutation import Space
from lion.discovery.search.workers import Inline, Processes, RayWorkers, Result
from lion.discovery.tasks.proxy import DIVERGED, Task, teacher

TASK = Task(teacher(examples=600), hidden=6, steps=16, batch_size=16)


def until(cycles: int) -> Callable[[Search], bool]:
    return lambda search: search.counters.cycles < cycles


def searched(settings: Settings, cycles: int = 600, folder: Path | None = None) -> Search:
    search = Search(settings, folder)
    search.run(Inline(TASK), until(cycles))
    return search


def test_a_search_improves_on_its_start_and_keeps_count() -> None:
    search = searched(Settings(seed=1, population=50), 2500)
    counters = search.counters
    assert search.best.fitness < 0.97 * TASK.fitness(load("program3"))
    assert search.best.fitness == TASK.fitness(search.best.program)
    assert counters.cycles == counters.structural_hits + counters.canonical_hits + counters.evaluations - 1
    assert counters.evaluations == len(search.cache)
    assert counters.diverged == sum(fitness == DIVERGED for fitness in search.cache.values()) > 0
    shares = counters.shares()
    assert 0.5 < shares["cache_hits"] < 0.98
    assert 0.2 < shares["redundant"] < shares["idle"] < 0.9
    assert 0.02 < shares["invalid"] < 0.35
    assert len(search.population) == 50
    best = search.hall_of_fame()
    assert best[0].key == search.best.key
    assert len({member.key for member in best}) == len(best) > 20
    assert [member.fitness for member in best] == sorted(member.fitness for member in best)


def test_every_hit_of_the_cache_is_right() -> None:
    """Programs of the population, evaluated anew with all their dead statements: the same fitness, to the last bit."""
    search = searched(Settings(seed=2, population=200), 1200)
    for member in search.population[::3]:
        assert TASK.fitness(member.program) == member.fitness
        assert analyse(member.program).canonical == member.key


def test_the_oldest_leaves_and_the_better_of_the_drawn_gets_the_child(tmp_path: Path) -> None:
    """With a tournament of the population's size, every parent is one of the best there was."""
    search = searched(Settings(seed=0, population=20, tournament=400), 300, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    fitness = {line["key"]: line["fitness"] for line in lines if "key" in line}
    first = f"{analyse(load('program3')).canonical:016x}"
    fitness[first] = TASK.fitness(load("program3"))
    children = [line for line in lines if "parent" in line]
    # the parent's fitness only falls, until the best has grown old and left
    assert all(fitness[child["parent"]] is not None for child in children)
    assert min(f for f in fitness.values() if f is not None) == search.best.fitness
    assert sum(fitness[c["parent"]] <= fitness[first] for c in children) > 0.9 * len(children)


def test_without_selection_it_is_a_random_search() -> None:
    blind, sighted = (searched(Settings(seed=3, population=50, tournament=t), 1500) for t in (1, 5))
    median = lambda search: search.summary()["median"] or DIVERGED  # noqa: E731
    assert median(sighted) < median(blind)


def test_constants_only_evaluates_every_child() -> None:
    search = searched(Settings(population=20, tournament=5, space=Space(constants_only=True)), 150)
    assert search.counters.evaluations == 151
    assert [stmt.op for stmt in search.best.program.stmts] == [stmt.op for stmt in load("program3").stmts]
    assert search.best.fitness < TASK.fitness(load("program3"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path: Path, workers: int) -> None:
    settings = Settings(seed=4, population=30, workers=workers)
    whole = searched(settings, 1500, tmp_path / "whole")
    first = Search(settings, tmp_path / "killed")
    first.run(Inline(TASK), until(500))  # writes a checkpoint
    kept = (tmp_path / "killed" / CHECKPOINT).read_bytes()
    first.run(Inline(TASK), until(900))  # writes more of the log, and then the power fails
    (tmp_path / "killed" / CHECKPOINT).write_bytes(kept)
    with (tmp_path / "killed" / LOG).open("ab") as log:
        log.write(b'{"cycle": 9')
    again = Search(settings, tmp_path / "killed")
    assert 500 <= again.counters.cycles < 900
    again.run(Inline(TASK), until(1500))
    assert (tmp_path / "killed" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()
    assert again.population == whole.population
    assert again.counters == whole.counters
    assert again.hall_of_fame() == whole.hall_of_fame()


class _Late:
    """Evaluates when it is asked for the result: other timing, the same search."""

    def submit(self, programs: Sequence[Program]) -> Result:
        return lambda: [time.sleep(0.001) or TASK.fitness(program) for program in programs]


def test_processes_give_the_same_search_whatever_the_timing(tmp_path: Path) -> None:
    settings = Settings(seed=5, population=30, workers=2)
    with Processes(TASK, 2) as processes:
        for name, evaluator in (("processes", processes), ("late", _Late()), ("inline", Inline(TASK))):
            Search(settings, tmp_path / name).run(evaluator, until(500))
    logs = {(tmp_path / name / LOG).read_bytes() for name in ("processes", "late", "inline")}
    assert len(logs) == 1
    assert len(logs.pop()) > 5000


def test_rays_workers_give_the_same_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local Ray of two workers, its log against that of evaluations in this process."""
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = Settings(seed=5, population=30, workers=2)
    with RayWorkers(TASK, 2) as workers:
        Search(settings, tmp_path / "ray").run(workers, until(300))
    Search(settings, tmp_path / "inline").run(Inline(TASK), until(300))
    log = (tmp_path / "ray" / LOG).read_bytes()
    assert log == (tmp_path / "inline" / LOG).read_bytes()
    assert len(log) > 5000


def test_other_seeds_are_other_searches() -> None:
    first, second = (searched(Settings(seed=seed, population=30), 200) for seed in (0, 1))
    assert set(first.cache) != set(second.cache)


def test_the_log_holds_what_the_curves_need(tmp_path: Path) -> None:
    search = searched(Settings(seed=6, population=30), 2000, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert sum("key" in line for line in lines) == search.counters.evaluations - 1
    counted = [line for line in lines if "counters" in line]
    assert [line["counters"]["cycles"] for line in counted] == [1000, 2000]
    bests = [line for line in lines if "best" in line and "program" in line]
    assert bests[-1]["best"] == search.best.fitness
    assert parse(bests[-1]["program"]) == search.best.program


def test_a_folder_holds_one_search(tmp_path: Path) -> None:
    searched(Settings(population=10), 20, tmp_path)
    with pytest.raises(ValueError, match="holds a search with another seed: choose another folder"):
        Search(Settings(seed=1, population=10), tmp_path)
    with pytest.raises(ValueError, match="another initial"):
        Search(Settings(population=10, initial=load("program7")), tmp_path)
    with pytest.raises(ValueError, match="the initial program uses the state v, which the search may not use"):
        Search(Settings(population=10, space=Space(states=("m",))))
    log = tmp_path / LOG
    for damaged in (log.read_bytes()[:-1], None):
        if damaged is None:
            log.unlink()
        else:
            log.write_bytes(damaged)
        with pytest.raises(ValueError, match="holds less than its checkpoint"):
            Search(Settings(population=10), tmp_path)
    (tmp_path / CHECKPOINT).write_text("{")
    with pytest.raises(ValueError, match=r"cannot be read .* remove it to begin anew"):
        Search(Settings(population=10), tmp_path)


def test_only_live_statements_are_run() -> None:
    class Recorder(Inline):
        seen: list[Program] = []  # noqa: RUF012

        def submit(self, programs: Sequence[Program]) -> Result:
            self.seen.extend(programs)
            return super().submit(programs)

    recorder = Recorder(TASK)
    Search(Settings(population=30)).run(recorder, until(400))
    assert len(recorder.seen) > 50
    assert all(live(program) == program for program in recorder.seen)

"""The ladder: who goes on, by hand-made losses; that every program gets the same factors; and real proxies as rungs."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from lion.discovery.language.analysis import analyse
from lion.discovery.language.program import Program, load, parse
from lion.discovery.search.funnel import (
    FELL,
    NARROW,
    NO_DIFFERENCE,
    PASSED,
    SURPLUS,
    WIDE,
    Candidate,
    ProxyRung,
    climb,
    distinct,
    scaled,
    shortest,
)
from lion.discovery.tasks.proxy import Task, teacher


def sgd(rate: float) -> Program:
    return parse(f"def train(w, g, m, v, lr):\n    update = g * {rate}\n    return update, m, v\n")


def rate_of(program: Program) -> float:
    """The rate of an `sgd`, its factor multiplied in."""
    return math.prod(arg for stmt in program.stmts for arg in stmt.args if isinstance(arg, float))


@dataclass
class Made:
    """A rung whose losses are made: near one `best` of its own, each family of rates gets its level."""

    name: str
    levels: dict[int, float]
    noise: float = 0.01
    tuned: Counter[int] = field(default_factory=Counter)

    def family(self, program: Program) -> int:
        return round(next(arg for stmt in program.stmts for arg in stmt.args if isinstance(arg, float)))

    def tune(self, program: Program) -> float:
        self.tuned[self.family(program)] += 1
        level = self.levels[self.family(program)]
        factor = rate_of(program) / self.family(program)
        return level + abs(math.log10(factor)) if math.isfinite(level) else level

    def score(self, program: Program) -> list[float] | None:
        random = np.random.default_rng(self.family(program))
        noise = random.normal(0, self.noise, size=12)
        return list(self.tune(program) + noise - noise.mean())


BASELINES = [Candidate("AdamW", sgd(90)), Candidate("Lion", sgd(91))]


def test_only_what_beats_the_baselines_goes_on_and_no_more_than_a_quarter() -> None:
    """AdamW, the first of them, on every rung; on the last rung both."""
    levels = {90: 0.4, 91: 0.25} | {1: 0.1, 2: 0.3, 3: 0.35, 4: 0.4, 5: 0.45, 6: math.inf, 7: 0.9, 8: 0.401}
    rung = Made("first", levels, noise=0.01)
    second = Made("second", {90: 0.5, 91: 0.4, 1: 0.45, 2: 0.2})
    candidates = [Candidate(str(n), sgd(n)) for n in range(1, 9)]
    floors = list(climb(candidates, BASELINES, [rung, second]))
    verdicts = {result.candidate.name: result.verdict for result in floors[0].results}
    assert [name for name, verdict in verdicts.items() if verdict == PASSED] == ["1", "2"]
    assert verdicts["3"] == SURPLUS
    assert {verdicts[name] for name in "4578"} == {NO_DIFFERENCE}
    assert verdicts["6"] == FELL
    assert [result.candidate.name for result in floors[1].passed] == ["2"]
    assert [floor.rival for floor in floors] == ["AdamW", "Lion"]
    assert floors[0].results[0].difference == pytest.approx(-0.3, abs=0.02)
    assert 0.001 < floors[0].results[0].error < 0.01
    # the same number of trials for each; one more where the factor was scored
    assert {rung.tuned[n] for n in levels if n != 6} == {len(WIDE) + 1}
    assert {second.tuned[n] for n in (1, 2, 90, 91)} == {len(NARROW) + 1}


def test_the_ladder_ends_where_nothing_is_left() -> None:
    rung = Made("first", {90: 0.5, 91: 0.7, 1: 0.6})
    floors = list(climb([Candidate("1", sgd(1))], BASELINES, [rung, Made("second", {})]))
    assert len(floors) == 1
    assert floors[0].passed == []


def test_the_factor_is_looked_for_around_the_one_of_the_rung_before() -> None:
    class Shifted(Made):
        def tune(self, program: Program) -> float:
            return super().tune(scaled(program, 1 / self.levels[0]))

    first = Shifted("first", {0: 100.0, 90: 0.5, 91: 0.4, 1: 0.1})
    second = Shifted("second", {0: 900.0, 90: 0.5, 91: 0.4, 1: 0.1})
    floors = list(climb([Candidate("1", sgd(1))], BASELINES, [first, second]))
    assert [floor.results[0].factor for floor in floors] == [pytest.approx(100), pytest.approx(900)]


@pytest.mark.parametrize("name", ["program3", "program4", "program1", "program5"])
def test_a_scaled_program_makes_scaled_updates(name: str) -> None:
    task = Task(teacher(examples=300), hidden=4, steps=10, batch_size=16)
    one, other = task.losses(scaled(load(name), 0.05)), task.losses(load(name), 0.05)
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert scaled(load(name), 1) == load(name)


def test_candidates_are_one_for_each_key_and_without_dead_statements() -> None:
    again = load("program3").insert(0, load("program8").stmts[2])
    programs = distinct(
        [Candidate("a", load("program3"), 0.3), Candidate("b", again, 0.2), Candidate("c", load("program8"))]
    )
    assert [candidate.name for candidate in programs] == ["a", "c"]
    assert len(programs[1].program) == 12
    assert len({analyse(candidate.program).canonical for candidate in programs}) == 2


def test_the_shortest_of_those_about_as_good() -> None:
    rows = [("best", "program8", 1.0), ("short", "program4", 1.02), ("shorter, worse", "program1", 1.04)]
    assert shortest([Candidate(name, load(program), fitness) for name, program, fitness in rows]).name == "short"


def test_proxies_as_rungs_let_a_better_optimizer_through_and_stop_worse_ones() -> None:
    """Against one that hardly moves: AdamW passes, another that hardly moves does not, a NaN is a fall."""
    task = Task(teacher(), hidden=8, steps=40, batch_size=32)
    rung = ProxyRung("teacher", task.with_seeds(range(10, 13)), task.with_seeds(range(20, 28)))
    nan = parse("def train(w, g, m, v, lr):\n    update = sqrt(g)\n    return update, m, v\n")
    candidates = [Candidate("AdamW", load("program3")), Candidate("still", sgd(2e-9)), Candidate("nan", nan)]
    floors = list(climb(candidates, [Candidate("rival", sgd(1e-9))], [rung]))
    verdicts = {result.candidate.name: result.verdict for result in floors[0].results}
    assert verdicts["AdamW"] == PASSED
    assert verdicts["nan"] == FELL
    assert floors[0].results[1].candidate.name == "still"
    assert abs(floors[0].results[1].difference) < 1e-4

"""Keys and live statements: what they claim is held against running the programs."""

import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
import pytest

from lion.discovery.language.analysis import analyse, live, live_one_step, numbers
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import Program, load, parse, shipped
from tests.lion.discovery.walks import trajectory, walk


def program(*lines: str) -> Program:
    return parse("def train(w, g, m, v, lr):\n" + "".join(f"    {x}\n" for x in lines) + "    return update, m, v\n")


def test_program_8_loses_what_the_paper_removed_and_the_cosh() -> None:
    """21 statements; 13 without what its outputs never use; 12 without a state that the next step overwrites."""
    raw = load("program8")
    assert [len(p) for p in (raw, live_one_step(raw), live(raw))] == [21, 13, 12]
    removed = list(live_one_step(raw).stmts)
    for stmt in live(raw).stmts:
        removed.remove(next(s for s in removed if s.op == stmt.op))
    assert [stmt.op for stmt in removed] == ["cosh"]
    assert analyse(raw).states == ("v",)
    assert analyse(raw).live.bit_count() == 12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_program_8_without_its_dead_statements_computes_the_same_bits(dtype: type) -> None:
    random = np.random.default_rng(0)
    whole = load("program8")
    raw, one_step, across = (compile_numpy(p) for p in (whole, live_one_step(whole), live(whole)))
    states = [[np.zeros(50, dtype)] * 2 for _ in range(3)]
    for step in range(200):
        w, g = random.normal(size=(2, 50)).astype(dtype)
        g[:7] = 0
        results = [
            train(w, g, *state, 1 - step / 200) for train, state in zip((raw, one_step, across), states, strict=True)
        ]
        assert [r.tobytes() for r in results[0]] == [r.tobytes() for r in results[1]]
        assert results[0][0].tobytes() == results[2][0].tobytes()
        states = [list(result[1:]) for result in results]


@pytest.mark.parametrize("name", shipped())
def test_the_other_programs_states(name: str) -> None:
    expected = {"program1": ("m",), "lion_without_sign": ("m",), "program4": ("v",), "program8": ("v",)}.get(
        name, ("m", "v")
    )
    assert analyse(load(name)).states == expected


@pytest.mark.parametrize("seed", range(4))
def test_programs_with_an_equal_key_compute_the_same_bits(seed: int) -> None:
    """A neutral walk over some hundred programs; every pair that a key merges is run."""
    groups: dict[int, list[Program]] = defaultdict(list)
    structural = defaultdict(set)
    for candidate in walk(seed, 300):
        found = analyse(candidate)
        groups[found.canonical].append(candidate)
        structural[found.structural].add(found.canonical)
    assert all(len(keys) == 1 for keys in structural.values())  # the second key merges all that the first does
    merged = 0
    for members in groups.values():
        expected = trajectory(members[0])
        for member in members[1:]:
            assert trajectory(member) == expected
            merged += 1
    assert merged > 100


@pytest.mark.parametrize("seed", range(4))
def test_dead_statements_are_dead_and_the_key_does_not_see_them(seed: int) -> None:
    for candidate in walk(100 + seed, 200)[::5]:
        found = analyse(candidate)
        short = live(candidate, found)
        assert trajectory(short) == trajectory(candidate)
        assert analyse(short).canonical == found.canonical
        assert analyse(live_one_step(candidate)).structural == found.structural
        assert len(live(short)) == len(short)
        assert set(numbers(found.live)) <= set(numbers(found.live_one_step))


def test_a_state_s_name_that_held_something_else_for_a_while() -> None:
    """m is a number that the update reads, then a tree that nothing reads: without that, m must not end a number."""
    whole = program("m = sqrt(lr)", "m1 = sign(g)", "update = m1 * m", "m = cosh(g)")
    short = program("m2 = sqrt(lr)", "m1 = sign(g)", "update = m1 * m2")
    assert live(whole) == short
    assert trajectory(whole) == trajectory(short)


def test_each_live_statement_of_program_4_matters() -> None:
    short = live(load("program4"))
    before = trajectory(short)
    for number, stmt in enumerate(short.stmts):
        other = stmt._replace(op="subtract", args=("g", 0.3)) if stmt.out != "lr" else stmt._replace(args=("lr", 0.3))
        assert trajectory(short.replace(number, other)) != before


def test_what_the_keys_see() -> None:
    def keys(*lines: str) -> tuple[int, int]:
        found = analyse(program(*lines))
        return found.structural, found.canonical

    plain = keys("a = g * w", "update = a * lr")
    assert keys("b = g * w", "update = b * lr") == plain  # names
    assert keys("a = g * w", "x = sin(a)", "update = a * lr") == plain  # dead statements
    swapped = keys("a = w * g", "update = a * lr")
    assert swapped[0] != plain[0]
    assert swapped[1] == plain[1]  # order where it does not matter
    assert keys("a = g / w", "update = a * lr") != keys("a = w / g", "update = a * lr")
    unread = keys("a = g * w", "m = sin(a)", "update = a * lr")
    assert unread[0] != plain[0]
    assert unread[1] == plain[1]  # a state that nothing reads
    assert keys("a = g * w", "update = a * m", "m = sin(a)") != keys("a = g * w", "update = a * m", "m = cos(a)")
    folded = keys("c = sqrt(0.25)", "update = g * c")
    assert folded[0] != keys("update = g * 0.5")[0]
    assert folded[1] == keys("update = g * 0.5")[1]
    assert keys("update = g * 0.5")[1] != keys("update = g * 0.5000000000000001")[1]
    assert keys("update = g * lr")[1] != keys("update = g * 1.0")[1]
    assert keys("a = interp(g, m, 0.5)", "update = interp(a, w, 0.1)") != keys(
        "a = interp(m, g, 0.5)", "update = interp(a, w, 0.1)"
    )


def test_keys_are_the_same_in_every_process() -> None:
    imports = "from lion.discovery.language.analysis import analyse; from lion.discovery.language.program import load"
    code = f"{imports}; print(analyse(load('program8'))[:2])"
    here = str(analyse(load("program8"))[:2])
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )
    assert run.stdout.strip() == here


def test_64_bits_are_well_mixed() -> None:
    """Programs that differ in the last bit of one constant: no key repeats, and each bit is set half of the time."""
    found = set()
    for number in range(4000):
        found.add(analyse(program(f"update = g * {float(np.nextafter(0.5, 1) + number * 2**-53)!r}")).canonical)
    assert len(found) == 4000
    for bit in range(64):
        assert 0.45 < sum(key >> bit & 1 for key in found) / 4000 < 0.55


def test_the_pass_takes_microseconds() -> None:
    """40 us for AdamW, 80 for Program 8 on an idle core; here with room for a slower machine, the best of many."""
    for name, limit in (("program3", 40e-6), ("program8", 80e-6)):
        candidate, best = load(name), 1.0
        for _ in range(200):
            start = time.perf_counter()
            analyse(candidate)
            best = min(best, time.perf_counter() - start)
        assert best < limit * 4

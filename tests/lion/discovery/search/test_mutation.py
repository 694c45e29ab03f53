"""Mutations: every child is a program, differs in one statement, and stays inside the space of the search."""

import statistics
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lion.discovery.language.analysis import analyse
from lion.discovery.language.ops import OPS
from lion.discovery.language.program import Program, ProgramError, load, parse, render, shipped
from lion.discovery.search.mutation import LARGEST, Space, mutate
from tests.lion.discovery.walks import valid_child, walk


@given(st.sampled_from(shipped()), st.integers(0, 2**32))
def test_a_walk_of_children_parses_type_checks_and_renders_back(start: str, seed: int) -> None:
    random, program = Random(seed), load(start)
    for _ in range(12):
        child = valid_child(program, random)
        assert parse(render(child)) == child
        analyse(child)
        program = child


@given(st.sampled_from(shipped()), st.integers(0, 2**32))
def test_a_child_differs_in_one_statement(start: str, seed: int) -> None:
    parent, random = load(start), Random(seed)
    for _ in range(20):
        child, kind = mutate(parent, random, Space())
        assert child != parent
        assert len(child) - len(parent) == {"insert": 1, "delete": -1, "modify": 0}[kind]
        longer, shorter = (child.stmts, parent.stmts) if kind == "insert" else (parent.stmts, child.stmts)
        if kind == "modify":
            (one,) = [(a, b) for a, b in zip(longer, shorter, strict=True) if a != b]
            assert one[0][:2] == one[1][:2]
            assert sum(a != b for a, b in zip(one[0].args, one[1].args, strict=True)) == 1
        else:
            assert any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))
        for stmt in child.stmts:
            assert all(isinstance(arg, str) or abs(arg) <= LARGEST for arg in stmt.args)


def test_the_three_kinds_are_equally_likely_and_few_children_are_invalid() -> None:
    random, parent, invalid = Random(0), load("program3"), 0
    kinds: Counter[str] = Counter()
    for _ in range(3000):
        child, kind = mutate(parent, random, Space())
        kinds[kind] += 1
        try:
            analyse(child)
        except ProgramError:
            invalid += 1
    assert all(0.28 < count / 3000 < 0.38 for count in kinds.values())
    assert 0.02 < invalid / 3000 < 0.3


def test_new_constants_are_normal_and_old_ones_move_by_powers_of_two() -> None:
    random, parent = Random(0), parse("def train(w, g, m, v, lr):\n    update = g * 8.0\n    return update, m, v\n")
    drawn = [
        arg for _ in range(4000) for arg in [mutate(parent, random, Space(constants_only=True))[0].stmts[0].args[1]]
    ]
    near = [arg for arg in drawn if isinstance(arg, float) and arg > 1.5]  # 8 * 2^N(0,1), nearly all; few of N(0,1)
    far = [arg for arg in drawn if isinstance(arg, float) and arg < 0]  # only of N(0,1)
    assert 0.45 < len(near) / 4000 < 0.58
    assert statistics.median(near) == pytest.approx(8, rel=0.15)
    assert statistics.pstdev(far) == pytest.approx(0.603, abs=0.05)  # half a normal distribution's


def test_every_function_and_every_type_gets_used() -> None:
    ops: Counter[str] = Counter(stmt.op for seed in range(12) for stmt in walk(seed, 250)[-1].stmts)
    assert len(ops) > 38
    assert not {"invert", "negative"} & set(ops)
    extended = Counter(
        stmt.op for s in range(12) for stmt in walk(s, 200, space=Space(ops=("negative", "clip")))[-1].stmts
    )
    assert {"negative", "clip"} <= set(extended)


def test_constants_only_keeps_the_form() -> None:
    parent = load("program3")
    for child in walk(0, 50, space=Space(constants_only=True)):
        assert [(s.out, s.op, len(s.args)) for s in child.stmts] == [(s.out, s.op, len(s.args)) for s in parent.stmts]
        assert [a for s in child.stmts for a in s.args if isinstance(a, str)] == [
            a for s in parent.stmts for a in s.args if isinstance(a, str)
        ]
    bare = parse("def train(w, g, m, v, lr):\n    update = g * lr\n    return update, m, v\n")
    with pytest.raises(ValueError, match="no constant"):
        mutate(bare, Random(0), Space(constants_only=True))


def test_one_state_stays_one_state() -> None:
    for child in walk(0, 300, start="program1", space=Space(states=("m",))):
        assert not any("v" in (stmt.out, *stmt.args) for stmt in child.stmts)


def test_the_longest_program_is_not_exceeded_and_without_insertion_programs_shrink() -> None:
    space = Space(max_length=12)
    assert max(len(child) for child in walk(0, 300, space=space)) == 12
    lengths = [len(child) for child in walk(0, 60, start="program8", space=Space(kinds=("delete", "modify")))]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < 15
    with pytest.raises(ValueError, match="no mutation"):
        mutate(Program(()), Random(0), Space(kinds=("delete",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ops": ("cot",)}, "unknown function 'cot'; known: abs"),
        ({"states": ("x",)}, "unknown state 'x'; known: m, v"),
        ({"kinds": ("swap",)}, "unknown kind of mutation 'swap'; known: insert"),
    ],
)
def test_unknown_names_are_refused(settings: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space(**settings)  # type: ignore[arg-type]


def test_arguments_are_of_fitting_types() -> None:
    """clip and dot take trees: a number or lr never lands there, whatever the walk."""
    statements = [stmt for program in walk(5, 300)[::10] for stmt in program.stmts]
    trees = [stmt.args[0] for stmt in statements if OPS[stmt.op].rule in ("clip", "reduce", "norm")]
    assert trees
    assert all(isinstance(tree, str) for tree in trees)

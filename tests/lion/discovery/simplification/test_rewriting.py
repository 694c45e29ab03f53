"""Simplification: Programs 8 and 4 become one form by themselves, and each step says truly what it costs."""

import numpy as np
import pytest

from lion.discovery.language.analysis import analyse
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import Program, load, parse, shipped
from lion.discovery.language.terms import outputs_of, program_of
from lion.discovery.simplification.bypass import BEHAVIOURAL, _rounded, bypasses
from lion.discovery.simplification.rewriting import EXACT, Step, betas, difference, simplify
from lion.discovery.tasks.proxy import Task, teacher
from tests.lion.discovery.walks import trajectory, walk


def program(*lines: str) -> Program:
    return parse("def train(w, g, m, v, lr):\n" + "".join(f"    {x}\n" for x in lines) + "    return update, m, v\n")


def simplified(name: str) -> tuple[list[Step], Program]:
    steps = list(simplify(load(name)))
    return steps, steps[-1].program


def form(of: Program) -> str:
    """A program's text with its constants blanked out."""
    blank = [stmt._replace(args=tuple(a if isinstance(a, str) else 0.0 for a in stmt.args)) for stmt in of.stmts]
    return str(Program(tuple(blank)))


def test_programs_8_and_4_become_one_form() -> None:
    (_, eight), (_, four) = simplified("program8"), simplified("program4")
    assert form(eight) == form(four)
    assert len(eight) == 9
    assert analyse(eight).states == ("m",)
    assert [stmt.op for stmt in eight.stmts] == "clip arcsin interp sign multiply add multiply multiply interp".split()  # noqa: SIM905
    constants = [arg for stmt in eight.stmts for arg in stmt.args if isinstance(arg, float)]
    assert constants == pytest.approx([0.9, 0.460198, 0.000217176, 0.99822], rel=1e-5)


def test_the_true_beta2_is_not_the_one_that_lion_ships() -> None:
    assert betas(simplified("program8")[1]) == pytest.approx((0.9, 0.998220), abs=1e-6)
    assert betas(simplified("program4")[1]) == pytest.approx((0.899, 0.996991), abs=1e-6)
    assert betas(load("program1")) == (0.9, 0.99)
    assert betas(load("program3")) is None


def test_the_steps_of_program_8_lead_from_21_to_9_statements() -> None:
    steps, _ = simplified("program8")
    assert [len(step.program) for step in steps] == [13, 12, 11, 11, 10, 10, 9, 9, 9]
    assert [step.tag == EXACT for step in steps] == [True, True, True, False, True, False, False, False, True]


@pytest.mark.parametrize("name", shipped())
def test_exact_steps_keep_every_bit_and_others_stay_within_some_ulp(name: str) -> None:
    """Over a trajectory of several steps, not only from random states as in the simplifier's own check."""
    before = load(name)
    for step in simplify(before):
        after = step.program
        if step.tag == EXACT:
            assert trajectory(after) == trajectory(before)
        else:
            assert float(step.tag.split()[1]) <= 8
            one, other = (np.frombuffer(trajectory(p, steps=3, dtype=np.float64)[: 24 * 8]) for p in (before, after))
            np.testing.assert_allclose(one, other, rtol=1e-9)
        before = after


@pytest.mark.parametrize("name", ["program4", "program8"])
def test_the_update_of_the_form_found_is_the_program_s(name: str) -> None:
    """Program 4's to the bit, Program 8's within 4 ulp; no sign flips."""
    result = difference(load(name), list(simplify(load(name)))[-2].program)  # before the state is renamed
    assert result.flips == 0
    raw, short = load(name), simplified(name)[1]
    random = np.random.default_rng(1)
    state = np.zeros(4000, np.float32)
    states, momentum = (state, state), state
    for step in range(100):
        w, g = random.normal(size=(2, 4000)).astype(np.float32)
        lr = 1 - step / 100
        with np.errstate(all="ignore"):
            update, *states = compile_numpy(raw)(w, g, *states, lr)  # type: ignore[assignment]
        other, momentum, _ = compile_numpy(short)(w, g, momentum, state, lr)
        if name == "program4" and step == 0:
            assert update.tobytes() == other.tobytes()
        unit = np.spacing(np.float32(np.sqrt(np.mean(update**2))))
        assert np.quantile(np.abs(update - other), 0.999) <= 4 * unit


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("x = square(g)", "update = sqrt(x)"), "update = abs(g)"),
        (("x = g * 0.5", "y = abs(w)", "update = x / y"), None),  # another denominator: only the scalar moves
        (("x = g * m", "update = sqrt(x)", "m = g + m"), None),  # no square
    ],
)
def test_rules_apply_where_they_hold(lines: tuple[str, ...], expected: str | None) -> None:
    steps = list(simplify(program(*lines)))
    if expected:
        assert str(steps[-1].program.stmts[-1]) == expected
    else:
        assert not any("abs(x)" in step.rule for step in steps)


@pytest.mark.parametrize("seed", range(4))
def test_terms_and_statements_are_the_same_computation(seed: int) -> None:
    """Through expressions and back, a program moves the weights to the same bits, and only live statements remain."""
    for candidate in walk(seed, 200)[::5]:
        again = program_of(outputs_of(candidate))
        assert trajectory(again) == trajectory(candidate)
        assert analyse(again).canonical == analyse(candidate).canonical
        assert len(again) <= len(candidate)


def test_a_state_that_is_read_after_its_successor_is_computed() -> None:
    """v's next value goes into the update together with its old one: neither may be overwritten."""
    whole = program("x = interp(g, v, 0.9)", "update = x * v", "update = update * w", "v = interp(g, v, 0.9)")
    again = program_of(outputs_of(whole))
    assert trajectory(again) == trajectory(whole)
    assert again.stmts[-1].args[1] == 1.0


def test_sharing_does_not_blow_up() -> None:
    """Written out, this expression has 2^60 leaves; both ways and simplified, it stays 62 statements."""
    whole = program("x = g * w", *["x = x * x"] * 60, "update = x * lr")
    assert trajectory(program_of(outputs_of(whole))) == trajectory(whole)
    assert len(program_of(outputs_of(whole))) == 62
    assert len(list(simplify(whole))) == 0


def test_simplifying_any_program_ends_and_changes_little() -> None:
    for candidate in walk(9, 120)[::12]:
        after = candidate
        for step in simplify(candidate):
            assert len(step.program) <= len(after)
            after = step.program
        assert len(after) <= len(candidate)


TASK = Task(teacher(inputs=12, examples=900), seeds=tuple(range(4)), hidden=8, steps=60, batch_size=16)


def test_what_training_does_not_miss_is_bypassed_and_what_it_needs_is_not() -> None:
    """A sine of small values does nothing; the sign and the momentum of Lion do much."""
    useless = program(
        "x = g * 0.001",
        "x = sin(x)",
        "x = interp(x, m, 0.9)",
        "m = x * 1.0",
        "update = sign(x)",
        "update = update * 0.02",
    )
    factors = [0.3, 1.0, 3.0]
    steps = list(bypasses(useless, TASK, factors))
    assert all(step.tag == BEHAVIOURAL for step in steps)
    assert steps[0].rule == "sin(multiply(g, 0.001)) -> multiply(g, 0.001)"
    assert "standard error" in steps[0].what
    ops = [stmt.op for stmt in steps[-1].program.stmts]
    assert "sign" in ops
    assert "sin" not in ops


def test_a_program_that_cannot_train_has_no_bypasses() -> None:
    with pytest.raises(ValueError, match="does not train on this task"):
        list(bypasses(program("update = g * -100.0"), TASK, [1.0, 2.0]))


def test_constants_are_rounded_in_what_is_new_of_an_average() -> None:
    """To two digits 0.99822 would be 1, and the average would never move: 1 - 0.99822 is rounded."""
    rounded = _rounded(program("m = interp(g, m, 0.99822)", "update = m * 0.02173", "update = update * -1234.0"))
    assert [arg for stmt in rounded.stmts for arg in stmt.args if isinstance(arg, float)] == [0.9982, 0.022, -1200.0]

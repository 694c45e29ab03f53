"""What counts as a sign: known signs, in whatever disguise, and known ones that are none."""

import math

import pytest

from lion.discovery.language.program import Program, load, parse
from lion.discovery.simplification.behaviour import remembers, sign_like, size_spread


def program(*lines: str) -> Program:
    body = "".join(f"    {line}\n" for line in lines)
    return parse(f"def train(w, g, m, v, lr):\n{body}    return update, m, v\n")


@pytest.mark.parametrize(
    "signs",
    [
        load("program1"),
        load("program8"),
        program("update = sign(g)"),
        program("a = abs(g)", "update = g / a"),
        program("x = cbrt(g)", "x = cbrt(x)", "x = cbrt(x)", "update = cbrt(x)"),
        program("m = interp(g, m, 0.9)", "x = m * 1e9", "update = tanh(x)"),
    ],
)
def test_signs(signs: Program) -> None:
    assert sign_like(signs)


@pytest.mark.parametrize(
    "other", [load("program3"), load("program5"), load("lion_without_sign"), program("update = g * 1")]
)
def test_others(other: Program) -> None:
    assert size_spread(other) > 0.4


def test_no_update_is_no_sign() -> None:
    assert size_spread(program("x = g - g", "update = x * lr")) == math.inf
    assert size_spread(program("x = g * -1", "update = sqrt(g)")) == math.inf


def test_what_remembers() -> None:
    assert all(remembers(load(name)) for name in ("program1", "program3", "program8"))
    assert not remembers(program("update = sign(g)", "m = interp(g, m, 0.9)"))
    assert not remembers(program("update = m + g", "m = m * 0.5"))  # a state that stays 0

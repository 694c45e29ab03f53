"""Programs and their files: what is read, what is refused and how, and that nothing is lost on the way."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lion.discovery.language.ops import ALIASES, OPS
from lion.discovery.language.program import Program, ProgramError, Stmt, constant, load, parse, render, shipped

ARGS = st.sampled_from(["w", "g", "m", "v", "lr", "v17", "sqrt_v"]) | st.floats(
    allow_nan=False, allow_infinity=False
).map(constant)


@st.composite
def statements(draw: st.DrawFn) -> Stmt:
    op = draw(st.sampled_from(sorted(OPS)))
    out = draw(st.sampled_from(["update", "m", "v", "x1"]))
    return Stmt(out, op, tuple(draw(ARGS) for _ in range(OPS[op].arity)))


@given(st.lists(statements(), max_size=12))
def test_a_rendered_program_parses_to_itself(stmts: list[Stmt]) -> None:
    program = Program(tuple(stmts))
    assert parse(render(program)) == program
    assert parse(render(program, "A title.")) == program


def wrapped(*lines: str, last: str = "return update, m, v") -> str:
    return "def train(w, g, m, v, lr):\n" + "".join(f"    {line}\n" for line in (*lines, last))


def test_comments_docstrings_and_the_paper_s_other_names_are_read() -> None:
    text = '"""Title."""\n# why\n' + wrapped('"""Inside."""', "v = min(v, 2)  # cap", "update = interpolate(g, m, -.5)")
    expected = (Stmt("v", "minimum", ("v", 2.0)), Stmt("update", "interp", ("g", "m", -0.5)))
    assert parse(text) == Program(expected)
    assert not set(ALIASES) & set(OPS)


def test_a_negative_base_keeps_its_sign() -> None:
    """Python reads -2.0 ** x as -(2.0 ** x)."""
    program = Program((Stmt("update", "power", (-2.0, "g")),))
    assert "(-2.0) ** g" in render(program)
    assert parse(render(program)) == program


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\n" + wrapped("update = g * lr"), "one function and nothing else"),
        ("def train(w, g, m, v):\n    return update, m, v\n", "one function and nothing else"),
        ("@cache\n" + wrapped("update = g * lr"), "one function and nothing else"),
        ("def train(w, g, m, v, lr=1):\n    return update, m, v\n", "one function and nothing else"),
        ("", "one function and nothing else"),
        ("def train(", "p.py:1: not readable as Python"),
        ("\0", "not readable as Python"),
        (wrapped("update = g * lr", last="return update"), "p.py:3: the last line must be"),
        (wrapped("update = (g * lr) + m"), "one call a statement"),
        (wrapped("update = g"), "p.py:2: expected one function call"),
        (wrapped("update = __import__('os')"), "unknown function '__import__'; known: abs, "),
        (wrapped("update = np.sign(g)"), "expected one function call"),
        (wrapped("update = sign(x=g)"), "expected one function call"),
        (wrapped("update = sign(*g)"), "an argument is a variable or a number"),
        (wrapped("update = sign(g, m)"), "sign takes 1 arguments, not 2"),
        (wrapped("update = g // m"), "expected one function call"),
        (wrapped("update, m = sign(g)"), "expected an assignment"),
        (wrapped("g.x = sign(g)"), "expected an assignment"),
        (wrapped("update += g"), "expected an assignment"),
        (wrapped("for x in g: m = sign(x)"), "expected an assignment"),
        (wrapped("sign = abs(g)"), "'sign' is a function's name"),
        (wrapped("update = g * 1e999"), "too large a number"),
        (wrapped("update = g * True"), "an argument is a variable or a number"),
        (wrapped("update = g * 'x'"), "an argument is a variable or a number"),
        (wrapped("update = g * 2j"), "an argument is a variable or a number"),
        (wrapped("update = " + "-" * 5000 + "g"), "not readable as Python"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(text, "p.py")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_never_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    file = tmp_path / "evil.py"
    file.write_text(f"open({str(trace)!r}, 'w')\n" + wrapped("update = g * lr"))
    with pytest.raises(ProgramError):
        load(file)
    assert not trace.exists()


def test_loading_names_the_programs_that_there_are(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(render(load("program7")))
    assert load(file) == load(str(file)) == load("program7")
    with pytest.raises(ProgramError, match=r"program9: No such file.* one of .*program1, program3.*program8") as caught:
        load("program9")
    assert "\n" not in str(caught.value)
    with pytest.raises(ProgramError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ProgramError, match="not a text file"):
        load(tmp_path / "bytes")


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_file_is_what_rendering_writes(name: str) -> None:
    text = (Path(__file__).parents[4] / "lion/discovery/programs" / f"{name}.py").read_text()
    assert text.endswith(render(load(name)))


@given(st.floats())
def test_constants_are_finite_and_zero_has_one_sign(value: float) -> None:
    if math.isfinite(value):
        assert constant(value) == value
        assert math.copysign(1, constant(0.0 * value)) == 1
    else:
        with pytest.raises(ProgramError):
            constant(value)

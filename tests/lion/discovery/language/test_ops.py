"""The functions: numpy's and torch's agree with each other and with the math module, edges included."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lion.discovery.language.analysis import analyse
from lion.discovery.language.compile import compile_numpy, compile_torch
from lion.discovery.language.ops import ELEMENTWISE, OPS, OPTIONAL, PAPER_OPS, on_numbers
from lion.discovery.language.program import Program, ProgramError, Stmt

NAN, INF = float("nan"), float("inf")
LENGTHS = [3, 1, 8]
UNARY = [op.name for op in OPS.values() if op.rule == ELEMENTWISE and op.arity == 1]
BINARY = [op.name for op in OPS.values() if op.rule == ELEMENTWISE and op.arity == 2]


def numpy_value(stmts: list[Stmt], dtype: Any = np.float64, **inputs: Any) -> np.ndarray:
    """What `update` is after some statements, over one array."""
    given = {name: np.zeros(12, dtype) for name in "wgmv"} | {k: np.asarray(v, dtype) for k, v in inputs.items()}
    program = Program((Stmt("keep", "add", ("g", 0.0)), *stmts))
    with np.errstate(all="ignore"):
        return compile_numpy(program, LENGTHS)(*[given[name] for name in "wgmv"], 0.5)[0]


def torch_value(stmts: list[Stmt], foreach: bool, **inputs: Any) -> np.ndarray:
    given = {name: torch.zeros(12, dtype=torch.float64) for name in "wgmv"}
    given |= {name: torch.tensor(value, dtype=torch.float64) for name, value in inputs.items()}
    program = Program((Stmt("keep", "add", ("g", 0.0)), *stmts))
    split = [list(given[name].split(LENGTHS)) for name in "wgmv"]
    return torch.cat(compile_torch(program, foreach)(*split, 0.5)[0]).numpy()


def test_there_are_the_43_functions_of_the_appendix_and_the_two_of_the_code() -> None:
    assert len(PAPER_OPS) == 43
    assert set(OPTIONAL) == {"invert", "negative"}
    arities = [OPS[name].arity for name in PAPER_OPS]
    assert (arities.count(0), len(set(PAPER_OPS))) == (3, 43)
    assert len({op.code for op in OPS.values()}) == 45


BY_MATH = {
    "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "arcsinh": math.asinh, "arccosh": math.acosh,
    "arctanh": math.atanh, "exp10": lambda x: 10.0**x, "square": lambda x: x * x, "cube": lambda x: x**3,
    "reciprocal": lambda x: 1 / x, "invert": lambda x: 1 / x, "negative": lambda x: -x, "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
@given(x=st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3))
def test_a_unary_function_is_the_math_module_s(name: str, x: float) -> None:
    reference = BY_MATH.get(name) or getattr(math, name)
    with np.errstate(all="ignore"):
        value = on_numbers(OPS[name], x)
    try:
        assert value == pytest.approx(reference(x), rel=1e-12, abs=1e-14)
    except ValueError:  # outside its domain, or at a pole
        assert not math.isfinite(value)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", UNARY + BINARY)
def test_torch_computes_what_numpy_does(name: str, foreach: bool) -> None:
    x = [0.5, -0.5, 1.0, -1.0, 2.0, -3.0, 0.0, INF, -INF, 1e-300, 0.3, 20.0]
    y = [0.5, 0.0, -1.0, 2.0, 0.0, -3.0, 0.0, 2.0, INF, 1.0, -0.0, 0.25]
    forms: list[tuple[Any, ...]] = (
        [("g",)] if OPS[name].arity == 1 else [("g", "w"), ("g", 0.3), (0.3, "g"), ("g", 0.0)]
    )
    for args in forms:
        stmt = Stmt("update", name, args)
        np.testing.assert_allclose(torch_value([stmt], foreach, g=x, w=y), numpy_value([stmt], g=x, w=y), rtol=1e-12)


def test_what_is_pinned_down_at_the_edges() -> None:
    g = [1.0, -1.0, 0.0, INF, NAN, 2.0] * 2
    for args in (("g", 0.0), ("g", "v")):
        assert (numpy_value([Stmt("update", "divide", args)], g=g) == 0).all()  # x/0 is 0, whatever x
        assert (torch_value([Stmt("update", "divide", args)], False, g=g) == 0).all()
    assert numpy_value([Stmt("update", "reciprocal", ("g",))], g=g)[2] == 0
    for name in ("sqrt", "log", "log2", "log10"):
        assert np.isnan(numpy_value([Stmt("update", name, ("g",))], g=g)[1])
    assert numpy_value([Stmt("update", "log", ("g",))], g=g)[2] == -INF
    assert np.isnan(numpy_value([Stmt("update", "sign", ("g",))], g=g)[4])
    assert np.isnan(numpy_value([Stmt("update", "maximum", ("g", 1.0))], g=g)[4])
    assert np.isnan(numpy_value([Stmt("update", "power", ("g", 0.5))], g=g)[1])


@pytest.mark.parametrize("value", [numpy_value, partial(torch_value, foreach=False)])
def test_functions_over_the_whole_tree_by_hand(value: Callable[..., np.ndarray]) -> None:
    g, w = np.linspace(-4, 7.5, 12), np.linspace(-1, 2, 12)

    def scalar(stmt: Stmt) -> np.ndarray:
        return value([stmt, Stmt("update", "multiply", ("g", "s"))], g=g, w=w) / g

    norm = math.sqrt((g**2).sum())
    np.testing.assert_allclose(scalar(Stmt("s", "global_norm", ("g",))), norm)
    np.testing.assert_allclose(scalar(Stmt("s", "dot", ("g", "w"))), (g * w).sum())
    cosine = (g * w).sum() / norm / math.sqrt((w**2).sum())
    np.testing.assert_allclose(scalar(Stmt("s", "cosine_sim", ("g", "w"))), cosine)
    assert not scalar(Stmt("s", "cosine_sim", ("g", "m"))).any()  # m is 0
    parts = [np.sqrt((part**2).sum()) for part in np.split(g, [3, 4])]
    np.testing.assert_allclose(scalar(Stmt("s", "norm", ("g",))), np.repeat(parts, LENGTHS))
    np.testing.assert_allclose(value([Stmt("update", "clip", ("g", 2.0))], g=g), g * 2 / norm)
    np.testing.assert_array_equal(value([Stmt("update", "clip", ("g", 1e3))], g=g), g)
    assert not value([Stmt("update", "clip", ("g", 2.0))], g=np.zeros(12)).any()
    np.testing.assert_allclose(value([Stmt("update", "interp", ("g", "w", 0.9))], g=g, w=w), 0.1 * g + 0.9 * w)
    np.testing.assert_allclose(value([Stmt("update", "interp", ("g", 2.0, 1.1))], g=g), -0.1 * g + 2.2)


def test_copies_of_a_model_side_by_side_do_not_see_each_other() -> None:
    """Axes before the last are independent: the same as one after the other, whole-tree functions included."""
    stmts = [
        Stmt("c", "clip", ("g", 0.7)), Stmt("n", "norm", ("g",)), Stmt("d", "dot", ("g", "w")),
        Stmt("x", "cosine_sim", ("g", "w")), Stmt("update", "divide", ("c", "n")),
        Stmt("update", "interp", ("update", "g", "d")), Stmt("update", "add", ("update", "x")),
    ]  # fmt: skip
    random = np.random.default_rng(0)
    g, w = random.normal(size=(2, 4, 12))
    train = compile_numpy(Program(tuple(stmts)), LENGTHS)
    together = train(w, g, 0 * g, 0 * g, 1.0)[0]
    for copy in range(4):
        np.testing.assert_allclose(train(w[copy], g[copy], 0 * g[0], 0 * g[0], 1.0)[0], together[copy], rtol=1e-13)


def test_numbers_do_not_widen_arrays() -> None:
    """float32 stays float32 beside constants, lr and what is computed from them; numpy's own scalars would widen it."""
    chain = [Stmt("s", "sqrt", ("lr",)), Stmt("s", "exp10", ("s",)), Stmt("s", "divide", ("s", 3.0))]
    for name in BINARY:
        assert numpy_value([*chain, Stmt("update", name, ("g", "s"))], np.float32).dtype == np.float32
    for reduction in ("dot", "cosine_sim"):
        stmts = [Stmt("s", reduction, ("g", "g")), Stmt("s", "log", ("s",)), Stmt("update", "add", ("g", "s"))]
        assert numpy_value(stmts, np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("stmt", "message"),
    [
        (Stmt("x", "norm", ("lr",)), "argument 1 of norm is a scalar and must be a tree"),
        (Stmt("x", "dot", ("g", 1.0)), "argument 2 of dot is a scalar and must be a tree"),
        (Stmt("x", "clip", ("g", "w")), "argument 2 of clip is a tree and must be a scalar"),
        (Stmt("x", "interp", ("g", "m", "v")), "argument 3 of interp is a tree and must be a scalar"),
        (Stmt("m", "norm", ("g",)), "'m' is returned and must be a tree, not a number for each array"),
        (Stmt("v", "get_pi", ()), "'v' is returned and must be a tree, not a scalar"),
        (Stmt("x", "add", ("g", "nowhere")), "'nowhere' is used before it is assigned"),
        (Stmt("g", "multiply", ("w", "w")), "no update depends on the gradient"),
    ],
)
def test_types_are_checked(stmt: Stmt, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        analyse(Program((stmt, Stmt("update", "multiply", ("g", "lr")))))


def test_an_update_is_needed() -> None:
    with pytest.raises(ProgramError, match="'update' is returned and never assigned"):
        analyse(Program((Stmt("m", "add", ("g", "m")),)))

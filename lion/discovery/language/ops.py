"""The functions that programs are made of: what each takes, gives, and computes in numpy and in torch.

The 43 functions of Appendix H of Chen et al. 2023 (arXiv:2302.06675), and two more (`invert`, `negative`) that the
authors' released code has. docs/discovery.md pins down what the paper leaves open: x/0, NaN, types, rounding.

In numpy a tree is one float array whose last axis runs over all weights; axes before it are independent copies. In
torch it is a list of tensors, and functions here see one tensor at a time unless they run over the whole tree.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Types, each of which broadcasts to the next: a number, a number for each of the parameters' arrays, the arrays.
SCALAR, PER_ARRAY, TREE = 0, 1, 2

# How a function's result gets its type.
ELEMENTWISE = "elementwise"  # the widest type of its arguments
INTERP = "interp"  # the same over the first two; the third is a scalar
NORM = "norm"  # a tree to a number for each array
REDUCE = "reduce"  # trees to a scalar
CLIP = "clip"  # a tree and a scalar to a tree
CONSTANT = "constant"  # a scalar

Array = NDArray[Any]


class Op(NamedTuple):
    """One function. `numpy` and `torch` compute it; `foreach` names torch's function over lists where it has one."""

    name: str
    arity: int
    rule: str
    code: int  # 64 bits that follow from the name: the same in every process
    commutative: bool  # to the bit, so not maximum and minimum, which choose between 0.0 and -0.0 by order
    numpy: Callable[..., Any]
    torch: Callable[..., Any]
    foreach: str | None


# numpy ---------------------------------------------------------------------------------------------------------------


def _divide(x: Any, y: Any) -> Any:
    """x/y, and 0 wherever y is 0, so that AdamW without an epsilon passes weights whose gradient never moved."""
    if isinstance(y, float):
        return np.divide(x, y) if y else np.zeros_like(x)
    quotient = np.divide(x, y)
    if not y.all():
        quotient[np.broadcast_to(y == 0, quotient.shape)] = 0
    return quotient


def _interp(x: Any, y: Any, share: Any) -> Any:
    return (1.0 - share) * x + share * y


def _dot(x: Array, y: Array) -> Array:
    return np.einsum("...i,...i->...", x, y)[..., None]


def _global_norm(x: Array) -> Array:
    return np.sqrt(_dot(x, x))


def _norm(x: Array, lengths: Array) -> Array:
    """The norm of each array, repeated along it, so that it broadcasts like a tree."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.repeat(np.sqrt(np.add.reduceat(x * x, starts, axis=-1)), lengths, axis=-1)


def _clip(x: Array, bound: Any) -> Array:
    return x * np.minimum(1.0, _divide(bound, _global_norm(x)))


def _cosine(x: Array, y: Array) -> Any:
    return _divide(_dot(x, y), _global_norm(x) * _global_norm(y))


# torch ---------------------------------------------------------------------------------------------------------------


def _torch_divide(x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor):
        return x / y if y else torch.zeros_like(x)
    quotient: Tensor = x / y
    return quotient.masked_fill_(y == 0, 0)


def _torch_interp(x: Any, y: Any, share: Any) -> Any:
    """One lerp where it can be, as in lion.Lion, so that Program 1 is Lion to the last bit."""
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and x.dtype == y.dtype:
        return torch.lerp(y, x, 1 - share)
    return (1 - share) * x + share * y


def _torch_pair(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """For functions that take no plain number."""

    def apply(x: Any, y: Any) -> Tensor:
        like = x if isinstance(x, Tensor) else y
        x, y = (a if isinstance(a, Tensor) else torch.full((), a, dtype=like.dtype, device=like.device) for a in (x, y))
        return function(x, y)

    return apply


def _whole(x: Tensor) -> Tensor:
    """A number for an array, complete: of a DTensor, each process has only its shard's part."""
    full: Any = getattr(x, "full_tensor", None)
    return x if full is None else full()


def _torch_dot(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    return torch.stack([_whole((a * b).sum()) for a, b in zip(x, y, strict=True)]).sum()


def _torch_norm(x: Tensor) -> Tensor:
    return _whole(torch.linalg.vector_norm(x))


def _torch_global_norm(x: Sequence[Tensor]) -> Tensor:
    if any(hasattr(tensor, "full_tensor") for tensor in x):
        return torch.linalg.vector_norm(torch.stack([_torch_norm(tensor) for tensor in x]))
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(x))))


def _torch_clip(x: Sequence[Tensor], bound: Any) -> list[Tensor]:
    norm = _torch_global_norm(x)
    share = _torch_divide(torch.as_tensor(bound, dtype=norm.dtype, device=norm.device), norm).clamp(max=1)
    return [a * share for a in x]


def _torch_cosine(x: Sequence[Tensor], y: Sequence[Tensor]) -> Any:
    return _torch_divide(_torch_dot(x, y), _torch_global_norm(x) * _torch_global_norm(y))


# The table -----------------------------------------------------------------------------------------------------------

_UNARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "abs": (np.abs, torch.abs),
    "cos": (np.cos, torch.cos),
    "sin": (np.sin, torch.sin),
    "tan": (np.tan, torch.tan),
    "arcsin": (np.arcsin, torch.asin),
    "arccos": (np.arccos, torch.acos),
    "arctan": (np.arctan, torch.atan),
    "exp": (np.exp, torch.exp),
    "log": (np.log, torch.log),
    "sinh": (np.sinh, torch.sinh),
    "cosh": (np.cosh, torch.cosh),
    "tanh": (np.tanh, torch.tanh),
    "arcsinh": (np.arcsinh, torch.asinh),
    "arccosh": (np.arccosh, torch.acosh),
    "arctanh": (np.arctanh, torch.atanh),
    "sign": (np.sign, torch.sign),
    "exp2": (np.exp2, torch.exp2),
    "exp10": (lambda x: np.power(10.0, x), lambda x: torch.pow(10.0, x)),
    "expm1": (np.expm1, torch.expm1),
    "log10": (np.log10, torch.log10),
    "log2": (np.log2, torch.log2),
    "log1p": (np.log1p, torch.log1p),
    "square": (lambda x: x * x, lambda x: x * x),
    "sqrt": (np.sqrt, torch.sqrt),
    "cube": (lambda x: x * x * x, lambda x: x * x * x),
    "cbrt": (np.cbrt, lambda x: torch.copysign(x.abs().pow(1 / 3), x)),
    "reciprocal": (lambda x: _divide(1.0, x), lambda x: _torch_divide(1.0, x)),
}
_BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (np.add, torch.add),
    "subtract": (np.subtract, lambda x, y: x - y),
    "multiply": (np.multiply, torch.multiply),
    "divide": (_divide, _torch_divide),
    "power": (np.power, torch.pow),
    "maximum": (np.maximum, _torch_pair(torch.maximum)),
    "minimum": (np.minimum, _torch_pair(torch.minimum)),
}
_ROWS: list[tuple[str, int, str, tuple[Callable[..., Any], Callable[..., Any]]]] = [
    *((name, 1, ELEMENTWISE, pair) for name, pair in _UNARY.items()),
    *((name, 2, ELEMENTWISE, pair) for name, pair in _BINARY.items()),
    ("norm", 1, NORM, (_norm, _torch_norm)),
    ("global_norm", 1, REDUCE, (_global_norm, _torch_global_norm)),
    ("dot", 2, REDUCE, (_dot, _torch_dot)),
    ("cosine_sim", 2, REDUCE, (_cosine, _torch_cosine)),
    ("clip", 2, CLIP, (_clip, _torch_clip)),
    ("interp", 3, INTERP, (_interp, _torch_interp)),
    ("get_pi", 0, CONSTANT, (lambda: math.pi, lambda: math.pi)),
    ("get_e", 0, CONSTANT, (lambda: math.e, lambda: math.e)),
    ("get_eps", 0, CONSTANT, (lambda: 1e-8, lambda: 1e-8)),
    ("invert", 1, ELEMENTWISE, (lambda x: _divide(1.0, x), lambda x: _torch_divide(1.0, x))),
    ("negative", 1, ELEMENTWISE, (np.negative, torch.negative)),
]
_COMMUTATIVE = {"add", "multiply", "dot", "cosine_sim"}
_FOREACH = {name: name for name in ("abs", "cos", "sin", "tan", "exp", "log", "sinh", "cosh", "tanh", "sign", "expm1")}
_FOREACH |= {name: name for name in ("log10", "log2", "log1p", "sqrt", "maximum", "minimum")}
_FOREACH |= {"add": "add", "subtract": "sub", "multiply": "mul", "power": "pow", "arcsin": "asin", "arccos": "acos"}
_FOREACH |= {"arctan": "atan", "negative": "neg", "interp": "lerp"}
_FOREACH = {name: f"_foreach_{short}" for name, short in _FOREACH.items() if hasattr(torch, f"_foreach_{short}")}


def _code(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


OPS: dict[str, Op] = {
    name: Op(name, arity, rule, _code(name), name in _COMMUTATIVE, *pair, _FOREACH.get(name))
    for name, arity, rule, pair in _ROWS
}


def on_numbers(op: Op, *numbers: float) -> float:
    """A function of plain numbers, in float64: Python's float, as numpy's own would widen every array that it meets.

    0.0 stands for -0.0, as it does in a program's text.
    """
    return float(op.numpy(*numbers)) + 0.0


def result_kind(rule: str, kinds: Sequence[int]) -> int:
    """The type of a function's result, by its rule and the types of its arguments."""
    if rule == ELEMENTWISE:
        return max(kinds)
    if rule == INTERP:
        return max(kinds[0], kinds[1])
    return {CLIP: TREE, NORM: PER_ARRAY, REDUCE: SCALAR, CONSTANT: SCALAR}[rule]


def accepted_kinds(rule: str, slot: int) -> tuple[int, ...]:
    """The types that a function takes as its argument number `slot`, counted from 0."""
    if (rule == INTERP and slot == 2) or (rule == CLIP and slot == 1):
        return (SCALAR,)
    return (TREE,) if rule in (NORM, REDUCE, CLIP) else (SCALAR, PER_ARRAY, TREE)


OPTIONAL = ("invert", "negative")  # in the authors' code, not in the paper's appendix
PAPER_OPS = tuple(name for name in OPS if name not in OPTIONAL)
SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**"}
# Other names under which the paper writes the same functions.
ALIASES = {"min": "minimum", "max": "maximum", "interpolate": "interp", "clip_by_global_norm": "clip"}

"""Programs as functions of numpy arrays, and of lists of torch tensors.

Nothing is generated and nothing executed as Python: a program becomes a plan, a list of (function, where its arguments
lie, where its result goes), and running it walks the plan. That costs some 0.3 us a statement beside numpy's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lion.discovery.language.analysis import analyse
from lion.discovery.language.ops import CLIP, NORM, OPS, REDUCE, Op, on_numbers
from lion.discovery.language.program import INPUTS, OUTPUTS, STATES, Program

Array = NDArray[Any]
NumpyFunction = Callable[[Array, Array, Array, Array, float], tuple[Array, Array, Array]]
Tensors = list[Tensor]


@dataclass(frozen=True)
class _Plan:
    """Registers hold inputs first, then constants and results.

    Attributes:
        registers: what they hold before a run; the inputs' places are None.
        steps: (function, places of its arguments, place of its result, places not read again), in order.
        outputs: the places of update, m and v.
    """

    registers: list[Any]
    steps: list[tuple[Op, tuple[int, ...], int, tuple[int, ...]]]
    outputs: tuple[int, ...]


def _plan(program: Program) -> _Plan:
    """Lay a program out over registers.

    Raises:
        ProgramError: it is not valid.
    """
    analyse(program)
    registers: list[Any] = [None] * len(INPUTS)
    place = {name: number for number, name in enumerate(INPUTS)}
    steps: list[tuple[Op, tuple[int, ...], int]] = []
    for out, name, args in program.stmts:
        places = []
        for arg in args:
            if isinstance(arg, str):
                places.append(place[arg])
            else:
                places.append(len(registers))
                registers.append(arg)
        place[out] = len(registers)
        registers.append(None)
        steps.append((OPS[name], tuple(places), place[out]))
    outputs = tuple(place[name] for name in OUTPUTS)
    last = {number: step for step, (_, places, _) in enumerate(steps) for number in places}
    free = [tuple(n for n, s in last.items() if s == step and n not in outputs) for step in range(len(steps))]
    return _Plan(registers, [(*step, done) for step, done in zip(steps, free, strict=True)], outputs)


def compile_numpy(program: Program, lengths: Sequence[int] | None = None) -> NumpyFunction:
    """A function `(w, g, m, v, lr) -> (update, m, v)` of flat parameter vectors.

    Args:
        program: every statement of it is run; leave out what is not needed by `abstract.live`.
        lengths: how many weights each array of the parameters has, which only `norm` asks; default: one array.

    Returns:
        A function of float arrays [..., weights], where axes before the last are independent copies of the model, and
        of a float lr. It writes to none of its arguments; a state that the program leaves alone is returned as it came.
        Run it under `np.errstate(all="ignore")`: dividing by zero and the like are part of the language.

    Raises:
        ProgramError: the program is not valid.
    """
    plan = _plan(program)
    numeric = {INPUTS.index("lr")} | {n for n, value in enumerate(plan.registers) if value is not None}
    steps = []
    for op, places, out, _ in plan.steps:
        function = op.numpy
        if op.rule == NORM:
            function = _with_lengths(op.numpy, lengths)
        elif numeric.issuperset(places):
            function = partial(on_numbers, op)
            numeric.add(out)
        steps.append((function, places, out))
    u, m, v = plan.outputs

    def train(*inputs: Any) -> tuple[Array, Array, Array]:
        registers = plan.registers.copy()
        registers[: len(inputs)] = inputs
        for function, places, out in steps:
            registers[out] = function(*[registers[number] for number in places])
        return registers[u], registers[m], registers[v]

    return train


def _with_lengths(norm: Callable[..., Any], lengths: Sequence[int] | None) -> Callable[..., Any]:
    return lambda x: norm(x, np.array([x.shape[-1]] if lengths is None else lengths))


def compile_torch(
    program: Program, foreach: bool = False
) -> Callable[[Tensors, Tensors, Tensors, Tensors, float | Tensor], tuple[Tensors, Tensors, Tensors]]:
    """A function `(w, g, m, v, lr) -> (update, m, v)` of lists of tensors.

    Args:
        program: every statement of it is run; leave out what is not needed by `abstract.live`.
        foreach: use torch's functions over lists where it has them: fewer launches on a GPU, slower on a CPU.

    Returns:
        A function of lists of equal length, and of lr as a number or a tensor without axes. Tensors keep their type; a
        number that depends on data is a tensor without axes, so that nothing waits for a GPU. What a statement
        computed is let go after its last use. None of the arguments is written to.

    Raises:
        ProgramError: the program is not valid.
    """
    plan = _plan(program)
    u, m, v = plan.outputs

    def train(*inputs: Any) -> tuple[Tensors, Tensors, Tensors]:
        registers = plan.registers.copy()
        registers[: len(inputs)] = inputs
        for op, places, out, done in plan.steps:
            registers[out] = _apply(op, [registers[number] for number in places], foreach)
            for number in done:
                registers[number] = None
        return registers[u], registers[m], registers[v]

    return train


def _apply(op: Op, args: list[Any], foreach: bool) -> Any:
    """One function of lists of tensors (trees, or numbers for each array), tensors without axes and plain numbers."""
    if op.rule in (REDUCE, CLIP):
        return op.torch(*args)
    lists = [isinstance(arg, list) for arg in args]
    if not any(lists):
        return op.torch(*args) if any(isinstance(arg, Tensor) for arg in args) else on_numbers(op, *args)
    if foreach and op.foreach and _fits_foreach(args, lists):
        if op.name == "interp":
            x, y, share = args
            return list(torch._foreach_lerp(y, x, 1 - share))
        return list(getattr(torch, op.foreach)(*args))
    length = len(args[lists.index(True)])
    columns = [arg if many else [arg] * length for arg, many in zip(args, lists, strict=True)]
    return [op.torch(*row) for row in zip(*columns, strict=True)]


def _fits_foreach(args: list[Any], lists: list[bool]) -> bool:
    """Whether the arguments are lists of tensors of equal shapes, with at most one plain number, the last."""
    if not lists[0] or not all(lists[:-1]) or isinstance(args[-1], Tensor):
        return False
    rows = zip(*[arg for arg, many in zip(args, lists, strict=True) if many], strict=True)
    return all(tensor.shape == row[0].shape for row in rows for tensor in row)


def reads_whole_tree(program: Program) -> bool:
    """Whether a statement runs over all arrays at once, so that they cannot be updated one by one."""
    return any(OPS[stmt.op].rule in (REDUCE, CLIP) for stmt in program.stmts)


def states_of(program: Program) -> tuple[str, ...]:
    """The states that a program reads and has to keep between steps."""
    used = analyse(program).states
    return tuple(name for name in STATES if name in used)

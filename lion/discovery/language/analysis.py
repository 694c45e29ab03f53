"""What can be said of a program without running it: types, keys of equal programs, and which statements matter.

One pass computes all of it, in some microseconds a statement: a search looks at hundreds of programs a second and runs
one in ten. Keys hash what is computed, not how it is written.
"""

import itertools
import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lion.discovery.language.ops import (
    CONSTANT,
    ELEMENTWISE,
    INTERP,
    OPS,
    PER_ARRAY,
    SCALAR,
    TREE,
    Op,
    accepted_kinds,
    on_numbers,
    result_kind,
)
from lion.discovery.language.program import INPUTS, OUTPUTS, STATES, Program, ProgramError, Stmt

_BITS = (1 << 64) - 1
_FIRST = len(INPUTS)  # statement i has bit _FIRST + i of a mask; the bits below are the inputs
_BIT_OF = {name: 1 << number for number, name in enumerate(INPUTS)}
TYPE_NAMES = {SCALAR: "a scalar", PER_ARRAY: "a number for each array", TREE: "a tree"}


class _Value(NamedTuple):
    """What is known of a variable, at one point of a program."""

    kind: int  # type
    exact: int  # hash of how it is computed
    merged: int  # the same, with what makes no difference to a bit left out
    mask: int  # bits of the statements and inputs that it depends on
    number: float | None = None  # its value, where it is computed from constants alone


class Analysis(NamedTuple):
    """What one pass finds."""

    structural: int  # 64 bits: how update, m and v are computed
    canonical: int  # 64 bits: what the weights ever see of it
    live_one_step: int  # bits of the statements that update, m or v of this step depends on
    live: int  # bits of the statements that the updates of this and later steps depend on
    states: tuple[str, ...]  # the states through which a step reaches a later update
    length: int


def analyse(program: Program) -> Analysis:
    """Check a program's types and compute its keys and its live statements.

    The structural key is the paper's (section 3.2): functions, inputs and constants, hashed in order. The canonical
    key leaves out a state that no update ever reads, sorts the arguments of functions that commute to the bit, and
    puts numbers in place of what constants alone decide. Programs with an equal key, of either kind, move the weights
    alike to the last bit. Keys are the same in every process.

    Raises:
        ProgramError: a variable is used before it exists, an argument or output has the wrong type, or no update
            depends on the gradient.
    """
    env = dict(_START)
    bit = 1 << _FIRST
    for out, name, args in program.stmts:
        op = OPS[name]
        try:
            operands = [env[arg] if arg.__class__ is str else _constant(arg) for arg in args]
        except KeyError as error:
            raise ProgramError(f"{error} is used before it is assigned, in '{out} = {name}(...)'") from None
        kind, exact, merged, mask, foldable = _kind(op, operands), op.code, op.code, bit, True
        for value in operands:
            exact = _mix(exact, value.exact)
            mask |= value.mask
            if value.number is None:
                foldable = False
        if foldable and op.rule in _FOLDS:
            number = _folded(name, *[value.number for value in operands])
            env[out] = _Value(kind, exact, _constant(number).merged, mask, number)
        else:
            seen = [value.merged for value in operands]
            for part in sorted(seen) if op.commutative else seen:
                merged = _mix(merged, part)
            env[out] = _Value(kind, exact, merged, mask)
        bit <<= 1
    return _concluded(env, len(program.stmts))


def _kind(op: Op, operands: list[_Value]) -> int:
    """The type of a function's result."""
    kinds = [value.kind for value in operands]
    if op.rule is not ELEMENTWISE:  # which takes any type
        for slot, kind in enumerate(kinds):
            if kind not in (accepted := accepted_kinds(op.rule, slot)):
                actual, expected = TYPE_NAMES[kind], TYPE_NAMES[accepted[0]]
                raise ProgramError(f"argument {slot + 1} of {op.name} is {actual} and must be {expected}")
    return result_kind(op.rule, kinds)


def _concluded(env: dict[str, _Value], length: int) -> Analysis:
    for name in OUTPUTS:
        if name not in env:
            raise ProgramError(f"'{name}' is returned and never assigned")
        if env[name].kind != TREE:
            raise ProgramError(f"'{name}' is returned and must be a tree, not {TYPE_NAMES[env[name].kind]}")
    update, m, v = (env[name] for name in OUTPUTS)
    # A state counts if the update reads it, or a state that counts does, from one step to the next.
    reached, before = update.mask, -1
    while reached != before:
        before = reached
        for name, state in zip(STATES, (m, v), strict=True):
            if reached & _BIT_OF[name]:
                reached |= state.mask
    if not reached & _BIT_OF["g"]:
        raise ProgramError("no update depends on the gradient g")
    states = tuple(name for name in STATES if reached & _BIT_OF[name])
    structural, canonical = update.exact, update.merged
    for name, state in zip(STATES, (m, v), strict=True):
        structural = _mix(structural, state.exact)
        canonical = _mix(canonical, state.merged if name in states else _UNREAD)
    one_step = (update.mask | m.mask | v.mask) >> _FIRST
    return Analysis(structural, canonical, one_step, reached >> _FIRST, states, length)


def numbers(mask: int) -> list[int]:
    """The statements whose bits are set."""
    return [number for number in range(mask.bit_length()) if mask >> number & 1]


def live(program: Program, analysis: Analysis | None = None) -> Program:
    """The program without statements that no update depends on, in this step or a later one.

    It moves the weights like the program itself, to the last bit. A state that nothing reads is returned as it came,
    and where its name held something else for a while, that gets another name.
    """
    analysed = analysis or analyse(program)
    short = program.keep(numbers(analysed.live))
    for state in STATES:
        if state not in analysed.states and any(stmt.out == state for stmt in short.stmts):
            short = rename(short, state, fresh_name(short, state))
    return short


def rename(program: Program, old: str, new: str) -> Program:
    """The program with another name wherever a variable is read or written."""
    names = {old: new}
    return Program(
        tuple(
            Stmt(names.get(out, out), op, tuple(names.get(arg, arg) if isinstance(arg, str) else arg for arg in args))
            for out, op, args in program.stmts
        )
    )


def fresh_name(program: Program, stem: str) -> str:
    """A name that begins with `stem` and that the program does not use."""
    taken = {name for stmt in program.stmts for name in (stmt.out, *stmt.args)} | set(INPUTS)
    return next(name for number in itertools.count(1) if (name := f"{stem}{number}") not in taken)


def live_one_step(program: Program) -> Program:
    """The program without statements that none of its three outputs depends on: all three stay, to the last bit."""
    return program.keep(numbers(analyse(program).live_one_step))


def _mix(key: int, part: int) -> int:
    """Two 64-bit hashes to one; the order counts."""
    key = ((key ^ part) * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _BITS
    return key ^ key >> 29


@lru_cache(maxsize=1 << 16)
def _constant(value: float) -> _Value:
    """A number of a program or computed from such: never -0.0, and any NaN is one NaN."""
    bits = int.from_bytes(struct.pack("<d", value if value == value else float("nan")), "little")
    key = _mix(_mix(_NUMBER, bits), bits >> 32)
    return _Value(SCALAR, key, key, 0, value)


@lru_cache(maxsize=1 << 16)
def _folded(name: str, *values: float) -> float:
    """What a function of constants alone gives, computed as a compiled program computes it."""
    with np.errstate(all="ignore"):
        return on_numbers(OPS[name], *values)


_FOLDS = (ELEMENTWISE, INTERP, CONSTANT)
_NUMBER, _UNREAD = 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B
_START = {
    name: _Value(SCALAR if name == "lr" else TREE, _mix(1, number), _mix(1, number), _BIT_OF[name])
    for number, name in enumerate(INPUTS)
}

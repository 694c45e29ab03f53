"""Changes of one statement, as in section 3.2 of Chen et al. 2023 (arXiv:2302.06675): insert, delete, modify.

The paper gives no rates; here the three kinds are equally likely, as in the authors' released code. A child may be
invalid (`analyse` says so): the search then mutates the parent again.
"""

import math
from dataclasses import dataclass
from random import Random

from lion.discovery.language.ops import OPS, PAPER_OPS, SCALAR, TREE, accepted_kinds, result_kind
from lion.discovery.language.program import INPUTS, STATES, Arg, Program, Stmt

KINDS = ("insert", "delete", "modify")
MAX_LENGTH = 64  # programs grow without end otherwise: most insertions change nothing and are kept
LARGEST = 1e10  # a constant's magnitude, as in the authors' code
NEW_CONSTANT = 0.25  # probability that a new argument is a number where a variable would do
ATTEMPTS = 100


@dataclass(frozen=True)
class Space:
    """Which programs a search may write.

    Attributes:
        ops: functions that an insertion draws from.
        states: states that may be used; with ("m",), v is out of reach.
        kinds: kinds of mutation; without "insert" programs only shrink.
        constants_only: change one constant at a time and nothing else, which tunes the initial program.
        max_length: statements; a longer program is never written.
    """

    ops: tuple[str, ...] = PAPER_OPS
    states: tuple[str, ...] = STATES
    kinds: tuple[str, ...] = KINDS
    constants_only: bool = False
    max_length: int = MAX_LENGTH

    def __post_init__(self) -> None:
        """Refuse names that nothing has.

        Raises:
            ValueError: a function, state or kind of mutation is unknown.
        """
        for what, names, allowed in (
            ("function", self.ops, tuple(OPS)),
            ("state", self.states, STATES),
            ("kind of mutation", self.kinds, KINDS),
        ):
            if unknown := [name for name in names if name not in allowed]:
                raise ValueError(f"unknown {what} '{unknown[0]}'; known: {', '.join(allowed)}")


def mutate(program: Program, random: Random, space: Space) -> tuple[Program, str]:
    """Change one statement.

    Arguments are drawn among the variables that have a fitting type where the statement stands, or are numbers: a new
    one is drawn from N(0, 1), an old one is replaced or multiplied by 2^N(0, 1).

    Returns:
        The child, which may be invalid and is never the parent, and the kind of mutation.

    Raises:
        ValueError: the program cannot change (constants only, and it has none).
    """
    if space.constants_only:
        return _modify_constant(program, random), "constant"
    for _ in range(ATTEMPTS):
        kind = random.choice(space.kinds)
        if kind == "insert" and len(program) < space.max_length:
            return _insert(program, random, space), kind
        if kind == "delete" and len(program):
            return program.replace(random.randrange(len(program))), kind
        if kind == "modify" and (child := _modify(program, random, space)) is not None:
            return child, kind
    raise ValueError(f"no mutation of the kinds {', '.join(space.kinds)} changes this program")


def _insert(program: Program, random: Random, space: Space) -> Program:
    number = random.randrange(len(program) + 1)
    types = _types_before(program, number, space)
    op = OPS[random.choice(space.ops)]
    args = tuple(_argument(op.name, slot, types, random) for slot in range(op.arity))
    out = random.choice(list(types)) if random.random() < 0.5 else _fresh(program, random)
    return program.insert(number, Stmt(out, op.name, args))


def _modify(program: Program, random: Random, space: Space) -> Program | None:
    """The program with one argument changed; None if the statement drawn has none that can."""
    if not len(program):
        return None
    number = random.randrange(len(program))
    stmt = program.stmts[number]
    if not stmt.args:
        return None
    slot = random.randrange(len(stmt.args))
    old = stmt.args[slot]
    if isinstance(old, float) and random.random() < 0.5:
        new: Arg = _scaled(old, random)
    else:
        new = _argument(stmt.op, slot, _types_before(program, number, space), random)
    return None if new == old else _with_argument(program, number, slot, new)


def _modify_constant(program: Program, random: Random) -> Program:
    places = [
        (number, slot, arg)
        for number, stmt in enumerate(program.stmts)
        for slot, arg in enumerate(stmt.args)
        if isinstance(arg, float)
    ]
    if not places:
        raise ValueError("the program has no constant to change")
    while True:
        number, slot, old = random.choice(places)
        new = _scaled(old, random) if random.random() < 0.5 else random.gauss(0.0, 1.0)
        if new != old:
            return _with_argument(program, number, slot, new)


def _with_argument(program: Program, number: int, slot: int, new: Arg) -> Program:
    out, op, args = program.stmts[number]
    return program.replace(number, Stmt(out, op, (*args[:slot], new, *args[slot + 1 :])))


def _scaled(value: float, random: Random) -> float:
    scaled = value * math.pow(2.0, random.gauss(0.0, 1.0))
    return max(-LARGEST, min(LARGEST, scaled)) + 0.0


def _argument(op: str, slot: int, types: dict[str, int], random: Random) -> Arg:
    """A variable or number that a slot of a function takes; a number where no variable fits."""
    allowed = accepted_kinds(OPS[op].rule, slot)
    names = [name for name, kind in types.items() if kind in allowed]
    if SCALAR in allowed and (not names or random.random() < NEW_CONSTANT):
        return random.gauss(0.0, 1.0)
    return random.choice(names) if names else "g"  # no tree is left: the child is invalid and thrown away


def _types_before(program: Program, number: int, space: Space) -> dict[str, int]:
    """The type of every variable that a search may use just before a statement."""
    types = {name: SCALAR if name == "lr" else TREE for name in INPUTS}
    for out, name, args in program.stmts[:number]:
        kinds = [types[arg] if isinstance(arg, str) else SCALAR for arg in args]
        types[out] = result_kind(OPS[name].rule, kinds)
    for state in STATES:
        if state not in space.states:
            types.pop(state, None)
    return types


def _fresh(program: Program, random: Random) -> str:
    taken = {stmt.out for stmt in program.stmts}
    while (name := f"v{random.randrange(1000)}") in taken:
        pass
    return name

"""From a raw program to one that can be read: dead statements, rewriting, and what makes no difference in training.

Every step says what it costs: nothing (exact), rounding (within so many units in the last place, measured), or a change
of what is computed that a training does not notice (behavioural, with the losses that say so).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lion.discovery.language.analysis import analyse, live, live_one_step, rename
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.ops import SCALAR, TREE
from lion.discovery.language.program import STATES, Program
from lion.discovery.language.terms import Node, Outputs, Term, kind, node, outputs_of, program_of, replaced, subterms

EXACT = "exact"
VALUES, DRAWS = 4000, 50  # weights, and random states and learning rates, on which two programs are compared


@dataclass(frozen=True)
class Step:
    """One step: the rule, what it costs, the evidence, and the program after it."""

    rule: str
    tag: str
    what: str
    program: Program


class Difference(NamedTuple):
    """How two programs differ in one step from the same random states, in float32."""

    identical: float  # share of values with equal bits
    ulp: float  # largest difference, in units in the last place of the array's root mean square
    flips: int  # values of the update whose sign differs, those within 4 ulp of zero aside


def _product(term: Term) -> tuple[Term, Term] | None:
    return term[1:] if isinstance(term, Node) and term[0] == "multiply" else None


def _scaled(term: Term) -> tuple[Term, Term] | None:
    """(x, s) of a product of anything with a scalar s, in either order."""
    if (factors := _product(term)) is None:
        return None
    x, s = factors
    return (x, s) if kind(s) == SCALAR else (s, x) if kind(x) == SCALAR else None


def _root_of_square(term: Term) -> Term | None:
    if term[0] == "sqrt" and isinstance(term[1], Node):
        inner = term[1]
        if inner[0] == "square" or (inner[0] == "multiply" and inner[1] == inner[2]):
            return node("abs", inner[1])
    return None


def _over_size(term: Term) -> Term | None:
    return node("sign", term[1]) if term[0] == "divide" and term[2] is node("abs", term[1]) else None


def _factor_out_of_quotient(term: Term) -> Term | None:
    if term[0] == "divide" and kind(term[2]) == TREE and (scaled := _scaled(term[1])) and kind(scaled[0]) == TREE:
        return node("multiply", node("divide", scaled[0], term[2]), scaled[1])
    return None


def _constant_to_the_tree(term: Term) -> Term | None:
    """(s * c) * x to (x * c) * s, so that a scalar that several products share stands alone."""
    scaled = _scaled(term)
    if scaled and kind(scaled[0]) == TREE and (factors := _scaled(scaled[1])):
        s, c = factors if isinstance(factors[1], float) else factors[::-1]
        if isinstance(c, float) and isinstance(s, Node):
            return node("multiply", node("multiply", scaled[0], c), s)
    return None


def _common_factor(term: Term) -> Term | None:
    if term[0] == "add" and (one := _scaled(term[1])) and (other := _scaled(term[2])) and one[1] == other[1]:
        return node("multiply", node("add", one[0], other[0]), one[1])
    return None


def _one_average(term: Term) -> Term | None:
    if term[0] == "interp" and isinstance(term[2], Node) and term[2][0] == "interp" and term[2][1] == term[1]:
        inner, outer = term[2][3], term[3]
        if isinstance(inner, float) and isinstance(outer, float):
            return node("interp", term[1], term[2][2], inner * outer)
    return None


def _same_way_round(term: Term) -> Term | None:
    """The state second, as the paper's Program 1 has it."""
    if term[0] == "interp" and term[1] in STATES and isinstance(term[3], float) and term[2] not in STATES:
        return node("interp", term[2], term[1], 1.0 - term[3])
    return None


RULES: tuple[tuple[str, Callable[[Term], Term | None]], ...] = (
    ("sqrt(x * x) = abs(x), unless the square under- or overflows", _root_of_square),
    ("(x * s) / y = (x / y) * s", _factor_out_of_quotient),
    ("x / abs(x) = sign(x) where x is finite, as x / 0 is 0", _over_size),
    ("(s * c) * x = (x * c) * s", _constant_to_the_tree),
    ("x * s + y * s = (x + y) * s", _common_factor),
    ("interp(x, interp(x, y, a), b) = interp(x, y, a * b)", _one_average),
    ("interp(m, x, a) = interp(x, m, 1 - a)", _same_way_round),
)


def simplify(program: Program) -> Iterator[Step]:
    """Simplify by what changes nothing but rounding, one step at a time.

    Raises:
        ProgramError: the program is not valid.
    """
    analyse(program)
    short = live_one_step(program)
    if len(short) < len(program):
        yield Step("dead statements", EXACT, "no output of this step depends on them", short)
    across = live(short)
    if len(across) < len(short):
        yield Step("dead across steps", EXACT, "no update of a later step depends on them", across)
    outputs, current = outputs_of(across), across
    while (match := _first_match(outputs)) is not None:
        rule, outputs = match
        after = program_of(outputs)
        yield Step(rule, *_evidence(difference(current, after)), after)
        current = after
    if analyse(current).states == ("v",):
        named = rename(current, "v", "m")
        if not any(stmt.out == "m" or "m" in stmt.args for stmt in current.stmts):
            yield Step("the one state is called m", EXACT, "a name", named)


def _first_match(outputs: Outputs) -> tuple[str, Outputs] | None:
    terms = list(dict.fromkeys(term for root in outputs.values() for term in subterms(root)))
    for name, rule in RULES:
        for term in terms:
            if (new := rule(term)) is not None:
                return name, replaced(outputs, term, new)
    return None


def _evidence(difference: Difference) -> tuple[str, str]:
    compared = f"{VALUES * DRAWS} values"
    if difference.identical == 1:
        return EXACT, f"update and states bit-identical in {compared}"
    return (
        f"within {difference.ulp:.2g} ulp",
        f"{difference.identical:.1%} of {compared} bit-identical, {difference.flips} signs differ",
    )


def difference(one: Program, other: Program) -> Difference:
    """Compare the updates, and the states that both keep, after one step from the same random states, in float32."""
    random = np.random.default_rng(0)
    functions = [compile_numpy(program) for program in (one, other)]
    states = [name for name in STATES if all(name in analyse(program).states for program in (one, other))]
    equal, total, flips, ulp = 0, 0, 0, 0.0
    with np.errstate(all="ignore"):
        for _ in range(DRAWS):
            w, g, m, v = random.normal(size=(4, VALUES)).astype(np.float32)
            lr = float(random.uniform())
            results = [dict(zip(("update", "m", "v"), f(w, g, m, v, lr), strict=True)) for f in functions]
            for name in ("update", *states):
                a, b = results[0][name], results[1][name]
                unit = np.spacing(np.float32(np.sqrt(np.nanmean(np.square(a, dtype=np.float64)))))
                equal, total = equal + int(((a == b) | (np.isnan(a) & np.isnan(b))).sum()), total + a.size
                ulp = max(ulp, float(np.nanmax(np.abs(a - b)) / unit))
                if name == "update":
                    flips += int(((np.sign(a) != np.sign(b)) & (np.abs(a) > 4 * unit)).sum())
    return Difference(equal / total, ulp, flips)


def betas(program: Program) -> tuple[float, float] | None:
    """Lion's two factors, if a program takes the sign of an average with a state, and the state averages the same.

    beta1 is the state's share in `sign(interp(x, state, beta1))`, beta2 in `state = interp(x, state, beta2)`.
    """
    outputs = outputs_of(program)
    for term in subterms(outputs["update"]):
        if term[0] == "sign" and isinstance(term[1], Node) and term[1][0] == "interp":
            _, x, state, beta1 = term[1]
            after = outputs.get(state) if isinstance(state, str) else None
            if isinstance(beta1, float) and isinstance(after, Node) and tuple(after[:3]) == ("interp", x, state):
                return beta1, after[3]
    return None

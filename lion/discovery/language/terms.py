"""Programs as expressions, for rewriting: what each output is in terms of the inputs, and back to statements."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lion.discovery.language.analysis import analyse, fresh_name
from lion.discovery.language.ops import OPS, SCALAR, TREE, result_kind
from lion.discovery.language.program import INPUTS, Program, Stmt

Term = Any  # an input's name, a number, or a Node


class Node(tuple[Any, ...]):
    """`(function, term, ...)`. Equal ones are the same object, so that shared parts cost nothing to compare or hash."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


_made: dict[tuple[Any, ...], Node] = {}


def node(op: str, *args: Term) -> Node:
    """The term of a function and its arguments."""
    return _made.setdefault((op, *args), Node((op, *args)))


Outputs = dict[str, Term]  # of "update" and of the states that reach it

STEMS = {"interp": "average", "sign": "direction", "clip": "clipped", "abs": "size", "add": "total"}


def outputs_of(program: Program) -> Outputs:
    """The terms of the update and of the states that an update reads.

    Dead statements and unread states are gone, and equal terms are one.

    Raises:
        ProgramError: the program is not valid.
    """
    env: dict[str, Term] = {name: name for name in INPUTS}
    for out, op, args in program.stmts:
        env[out] = node(op, *[env[arg] if isinstance(arg, str) else arg for arg in args])
    return {name: env[name] for name in ("update", *analyse(program).states)}


def program_of(outputs: Outputs) -> Program:
    """A program that computes these terms, each once, and in an order in which no state is overwritten too early."""
    order = list(dict.fromkeys(term for root in outputs.values() for term in subterms(root)))
    names: dict[Term, str] = {}
    stmts: list[Stmt] = []
    for term in order:
        stem = _stem(term)
        taken = {stmt.out for stmt in stmts}
        names[term] = fresh_name(Program(tuple(stmts)), stem) if stem in taken else stem
        stmts.append(Stmt(names[term], term[0], tuple(_word(arg, names) for arg in term[1:])))
    program, copies = Program(tuple(stmts)), []
    for output, term in outputs.items():
        if term == output:
            continue  # a state that stays as it came
        temporary = _word(term, names)
        place = next((i for i, stmt in enumerate(program.stmts) if stmt.out == temporary), None)
        if place is None or any(output in stmt.args for stmt in program.stmts[place + 1 :]):
            copies.append(Stmt(output, "multiply", (temporary, 1.0)))  # exact
        else:
            program = _named(program, place, output)
            names[term] = output
    return Program((*program.stmts, *copies))


def _named(program: Program, place: int, name: str) -> Program:
    """The result of one statement called something else, there and where it is read later."""
    old = program.stmts[place].out
    later = [
        stmt._replace(args=tuple(name if arg == old else arg for arg in stmt.args)) for stmt in program.stmts[place:]
    ]
    later[0] = program.stmts[place]._replace(out=name)
    return Program((*program.stmts[:place], *later))


def _word(term: Term, names: dict[Term, str]) -> Any:
    return names[term] if isinstance(term, Node) else term


def _stem(term: Term) -> str:
    if kind(term) == SCALAR:
        return "rate" if "lr" in leaves(term) else "s"
    if term[0] == "multiply" and "w" in term[1:]:
        return "wd"
    return STEMS.get(term[0], "x")


def subterms(term: Term, seen: set[Term] | None = None) -> Iterator[Term]:
    """Every compound term inside a term and itself, once, arguments first."""
    seen = set() if seen is None else seen
    if isinstance(term, Node) and term not in seen:
        seen.add(term)
        for arg in term[1:]:
            yield from subterms(arg, seen)
        yield term


@lru_cache(maxsize=4096)
def leaves(term: Term) -> frozenset[str]:
    """The inputs that a term reads."""
    if isinstance(term, Node):
        return frozenset().union(*(leaves(arg) for arg in term[1:]))
    return frozenset({term} if isinstance(term, str) else ())


def substitute(term: Term, old: Node, new: Term) -> Term:
    """A term with one of its subterms replaced wherever it occurs."""
    done: dict[Term, Term] = {old: new}
    for part in subterms(term):
        if part is not old:
            done[part] = node(part[0], *[done[arg] if isinstance(arg, Node) else arg for arg in part[1:]])
    return done.get(term, term) if isinstance(term, Node) else term


def replaced(outputs: Outputs, old: Node, new: Term) -> Outputs:
    """All outputs with a subterm replaced, without states that are no longer read."""
    changed = {name: substitute(term, old, new) for name, term in outputs.items()}
    return outputs_of(program_of(changed))


@lru_cache(maxsize=4096)
def kind(term: Term) -> int:
    """A term's type."""
    if isinstance(term, Node):
        return result_kind(OPS[term[0]].rule, [kind(arg) for arg in term[1:]])
    return TREE if isinstance(term, str) and term != "lr" else SCALAR


def text(term: Term, depth: int = 2) -> str:
    """A term as an expression; what lies deeper is shown as dots."""
    if not isinstance(term, Node):
        return f"{term:.6g}" if isinstance(term, float) else term
    if depth == 0:
        return "…"
    return f"{term[0]}({', '.join(text(arg, depth - 1) for arg in term[1:])})"

"""Leave out what a training does not miss: statements replaced by one of their arguments, constants rounded.

These steps change what is computed, so that only losses can speak for them: those of several seeds on a task that is
longer than the search's own, before and after, paired by seed, each program with the best factor for its update.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lion.discovery.language.analysis import analyse
from lion.discovery.language.ops import TREE
from lion.discovery.language.program import Program, ProgramError, Stmt
from lion.discovery.language.terms import Outputs, kind, outputs_of, program_of, replaced, subterms, text
from lion.discovery.simplification.rewriting import Step
from lion.discovery.tasks.proxy import Proxy

BEHAVIOURAL = "behavioural"
TOLERANCE = 0.02  # share of the loss by which it may differ
ERRORS = 2.0  # standard errors of the paired difference by which it may differ
NEAR = 2  # places of the sweep on either side of the best factor before, tried anew for each candidate

Losses = NDArray[np.floating]


class _Trial:
    """What the program loses before any bypass, and whether another's losses can be told from that."""

    def __init__(self, task: Proxy, program: Program, factors: Sequence[float]) -> None:
        self.task, self.factors = task, list(factors)
        self.place, self.losses = self._best(program, range(len(self.factors)))

    def _best(self, program: Program, places: Sequence[int]) -> tuple[int, Losses]:
        """The place of the best factor, and each seed's loss with it."""
        by_place = {place: self.task.losses(program, self.factors[place]) for place in places}
        nothing = np.full(len(self.task.seeds), math.inf)
        losses = {place: nothing if loss is None else loss for place, loss in by_place.items()}
        best = min(losses, key=lambda place: losses[place].mean())
        return best, losses[best]

    def evidence(self, program: Program) -> str | None:
        """What the losses say, if they cannot be told from those of the first program; else None.

        Lower ones count as a difference, too: a change for the better is none that can be left out.
        """
        first, last = max(0, self.place - NEAR), min(len(self.factors), self.place + NEAR + 1)
        _, losses = self._best(program, range(first, last))
        if not np.isfinite(losses).all():
            return None
        change = losses - self.losses
        mean, error = float(change.mean()), float(change.std(ddof=1)) / math.sqrt(len(change))
        if abs(mean) > min(TOLERANCE * float(self.losses.mean()), ERRORS * error):
            return None
        return f"loss {self.losses.mean():.4f} {mean:+.4f}, standard error {error:.4f}, against no bypass"


def bypasses(program: Program, task: Proxy, factors: Sequence[float]) -> Iterator[Step]:
    """Bypass every statement that a training does not miss, then round the constants.

    A statement that computes a tree is replaced by one of its arguments that is a tree, if no difference can be
    measured; the next ones are tried on top of that, always against the program given, so that no drift adds up. A
    product with a constant stays: without it, the constant would be 1 and the program no simpler.

    Args:
        program: a simplified program.
        task: to train on: longer than the one that the program was found on, or it decides on noise.
        factors: of the update, in ascending order, of which each program gets its best.

    Raises:
        ValueError: the program trains with none of the factors.
    """
    trial = _Trial(task, program, factors)
    if not np.isfinite(trial.losses).all():
        raise ValueError("the program does not train on this task, whatever the factor of its update")
    outputs, tried = outputs_of(program), set[int]()
    while (candidate := _next(outputs, tried)) is not None:
        shorter, what = candidate
        if evidence := trial.evidence(shorter):
            outputs = outputs_of(shorter)
            yield Step(what, BEHAVIOURAL, evidence, shorter)
    rounded = _rounded(program_of(outputs))
    if rounded != program_of(outputs) and (evidence := trial.evidence(rounded)):
        yield Step("constants to two digits", BEHAVIOURAL, evidence, rounded)


def _next(outputs: Outputs, tried: set[int]) -> tuple[Program, str] | None:
    """A program with one statement bypassed that was not tried before, and what was done."""
    terms = dict.fromkeys(term for root in outputs.values() for term in subterms(root) if kind(term) == TREE)
    for term in terms:
        if term[0] in ("multiply", "divide") and any(isinstance(arg, float) for arg in term[1:]):
            continue
        for arg in term[1:]:
            if kind(arg) == TREE:
                try:
                    program = program_of(replaced(outputs, term, arg))
                except ProgramError:  # no update would depend on the gradient
                    continue
                if (key := analyse(program).canonical) not in tried:
                    tried.add(key)
                    return program, f"{text(term)} -> {text(arg)}"
    return None


def _rounded(program: Program) -> Program:
    """Constants to two digits; the share of an average to two digits of what is new in it, as 0.998 is not 1."""
    stmts = []
    for out, op, args in program.stmts:
        new = [float(f"{arg:.2g}") if isinstance(arg, float) else arg for arg in args]
        if op == "interp" and isinstance(args[2], float):
            new[2] = round(1 - float(f"{1 - args[2]:.2g}"), 12)
        stmts.append(Stmt(out, op, tuple(new)))
    return Program(tuple(stmts))

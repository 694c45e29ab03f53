"""Programs that a search could meet: random walks of mutations, without selection."""

from random import Random

import numpy as np

from lion.discovery.language.analysis import analyse
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import Program, ProgramError, load
from lion.discovery.search.mutation import Space, mutate


def valid_child(program: Program, random: Random, space: Space | None = None) -> Program:
    while True:
        child, _ = mutate(program, random, space or Space())
        try:
            analyse(child)
        except ProgramError:
            continue
        return child


def walk(seed: int, steps: int, start: str = "program3", space: Space | None = None) -> list[Program]:
    random, programs = Random(seed), [load(start)]
    for _ in range(steps):
        programs.append(valid_child(programs[-1], random, space))
    return programs


def trajectory(program: Program, steps: int = 6, dtype: type = np.float32) -> bytes:
    """The updates of some steps, as bytes: weights follow the updates, gradients the weights."""
    random = np.random.default_rng(0)
    w = random.normal(size=24).astype(dtype)
    m, v = np.zeros_like(w), np.zeros_like(w)
    train, seen = compile_numpy(program, [4, 20]), b""
    with np.errstate(all="ignore"):
        for step in range(steps):
            g = (random.normal(size=24) * 10.0 ** random.uniform(-6, 1, size=24)).astype(dtype) + w / 8
            update, m, v = train(w, g, m, v, 1 - step / steps)
            w = w - update
            assert w.dtype == dtype
            seen += (np.where(np.isnan(w), 0, w) + 0.0).tobytes() + np.isnan(w).tobytes()
    return seen

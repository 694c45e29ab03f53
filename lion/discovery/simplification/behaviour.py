"""What a program does with gradients of very different sizes: whether it is a sign, whatever it is written with."""

import math

import numpy as np
from numpy.typing import NDArray

from lion.discovery.language.analysis import live
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import Program

SIGN_LIKE = 0.15  # spread of the update's sizes below which it counts as a sign
COORDINATES, STEPS, DECADES = 2000, 20, 4


def size_spread(program: Program) -> float:
    """Standard deviation over mean of |update| across coordinates, at w = 0.

    After 20 steps, each coordinate's gradients are N(0, 1) times its own scale, and the scales span four decades. A
    sign gives 0, whatever it reads and however it is written: |g|^(1/81) sign(g) gives about 0.05. Adam gives above
    0.5 there, and the gradient itself above 1.

    Returns:
        The spread; infinity if the update is 0 everywhere or not finite.
    """
    sizes = np.abs(_last_update(program, seed=0))
    mean = float(sizes.mean())
    return float(sizes.std()) / mean if 0 < mean < math.inf else math.inf


def sign_like(program: Program) -> bool:
    """Whether the update has about one size in all coordinates, while their gradients differ by magnitudes."""
    return size_spread(program) < SIGN_LIKE


def remembers(program: Program) -> bool:
    """Whether gradients of earlier steps, the last one alike, change the update: whether a state does anything."""
    return not np.array_equal(_last_update(program, seed=0), _last_update(program, seed=1), equal_nan=True)


def _last_update(program: Program, seed: int) -> NDArray[np.float64]:
    """The update after STEPS steps at w = 0; the seed draws all gradients but the last."""
    scale = 10.0 ** np.random.default_rng(0).uniform(-DECADES, 0, size=COORDINATES)
    w = np.zeros(COORDINATES, np.float32)
    update, m, v = w, w, w
    train, random = compile_numpy(live(program)), np.random.default_rng([1, seed])
    with np.errstate(all="ignore"):
        for step in range(STEPS):
            random = random if step < STEPS - 1 else np.random.default_rng(2)
            g = (scale * random.normal(size=COORDINATES)).astype(np.float32)
            update, m, v = train(w, g, m, v, 1.0)
    return update.astype(np.float64)

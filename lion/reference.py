"""Algorithm 2 of the Lion paper, written as plainly as it can be: what the optimizer is held against.

Float64 numpy, one array, no state of its own. Nothing but tests imports this, so numpy stays optional.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def step(
    theta: Array,
    momentum: Array,
    gradient: Array,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> tuple[Array, Array]:
    """One step of Lion.

    Args:
        theta: parameters before the step.
        momentum: exponential moving average of the gradients; zeros before the first step.
        gradient: of the loss at `theta`, of its shape.
        lr: the scheduled learning rate.
        beta1: share of the momentum in the update's direction.
        beta2: share of the momentum that the next step keeps.
        weight_decay: decoupled, multiplied by `lr`.

    Returns:
        Parameters and momentum after the step.
    """
    c = beta1 * momentum + (1 - beta1) * gradient
    return theta - lr * (np.sign(c) + weight_decay * theta), beta2 * momentum + (1 - beta2) * gradient

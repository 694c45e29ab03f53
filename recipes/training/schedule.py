"""Learning-rate schedules: pure functions of the step, the same for every optimizer.

A factor multiplies the peak learning rate. Initial, peak and final learning rates therefore scale together, as the Lion
paper advises when a learning rate is derived from AdamW's.
"""

import dataclasses
import math
from collections.abc import Callable

from recipes.settings.schema import Schedule

Decay = Callable[[float, Schedule, int], float]


def _cosine(progress: float, cfg: Schedule, _: int) -> float:
    return cfg.final_factor + (1 - cfg.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def _linear(progress: float, cfg: Schedule, _: int) -> float:
    return cfg.final_factor + (1 - cfg.final_factor) * (1 - progress)


def _constant(_progress: float, _cfg: Schedule, _: int) -> float:
    return 1.0


def _rsqrt(progress: float, cfg: Schedule, length: int) -> float:
    return 1 / math.sqrt(1 + progress * length / cfg.timescale)


SHAPES: dict[str, Decay] = {"cosine": _cosine, "linear": _linear, "constant": _constant, "rsqrt": _rsqrt}
WITH_COOLDOWN = ("constant", "rsqrt")


def for_optimizer(cfg: Schedule, name: str | None) -> Schedule:
    """The schedule of a run: the task's, or the optimizer's shape with the task's warm-up.

    Args:
        cfg: the task's.
        name: `optim.schedule`, a key of `SHAPES`; None for the task's own.
    """
    return cfg if name is None else dataclasses.replace(cfg, name=name, cooldown_steps=0)


def factor(step: int, steps: int, cfg: Schedule) -> float:
    """The factor of the peak learning rate at a step.

    Args:
        step: 0-based index of the optimizer step.
        steps: length of the run, in optimizer steps.
        cfg: shape, warm-up and cooldown, in steps.

    Returns:
        A factor in [0, 1]. It rises linearly over the warm-up, so that the first step already moves the weights,
        and reaches 1 on the warm-up's last step; a run shorter than its warm-up ends on the way up.
    """
    if step < cfg.warmup_steps:
        return (step + 1) / cfg.warmup_steps
    length = max(steps - cfg.warmup_steps, 1)
    value = SHAPES[cfg.name]((step - cfg.warmup_steps) / length, cfg, length)
    if cfg.cooldown_steps and cfg.name in WITH_COOLDOWN:
        left = (steps - step) / cfg.cooldown_steps
        value *= min(1.0, cfg.final_factor + (1 - cfg.final_factor) * left)
    return value

"""The settings of Lion's parameter groups: their defaults, their ranges, and what refuses them."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

MOMENTUM_DTYPES = ("float64", "float32", "bfloat16", "float16", "int8")
# Beside lr, betas and weight_decay: what older pickles and other Lions may not have.
OPTIONS = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "momentum_dtype": None,
    "fused": None,
    "cautious": False,
    "cautious_decay": False,
    "corrected_decay": False,
    "clip_rms": None,
    "stochastic_rounding": False,
}
Group = dict[str, Any]


def settled(group: Group) -> Group:
    """A group with its settings in plain types, whatever a configuration gave.

    Raises:
        ValueError: a setting is out of its range, or a parameter is complex.
    """
    lr, betas, decay, dtype, clip = (group[n] for n in ("lr", "betas", "weight_decay", "momentum_dtype", "clip_rms"))
    name = None if dtype is None else str(dtype).removeprefix("torch.")
    if isinstance(lr, Tensor) and lr.ndim:
        raise ValueError(f"lr must be a number or a tensor without axes, not one of shape {tuple(lr.shape)}")
    for setting, value in (("lr", lr), ("weight_decay", decay)):
        if not _in_range(value):
            raise ValueError(f"{setting} must be a finite number of at least 0, not {value!r}")
    if not isinstance(betas, Sequence) or len(betas) != 2 or not all(_in_range(beta, end=1) for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), not {betas!r}")
    if name not in (None, *MOMENTUM_DTYPES):
        raise ValueError(f"momentum_dtype must be None or one of {', '.join(MOMENTUM_DTYPES)}, not {dtype!r}")
    if clip is not None and not (_in_range(clip) and clip > 0):
        raise ValueError(f"clip_rms must be None or a finite number above 0, not {clip!r}")
    if group["capturable"] and group["stochastic_rounding"]:
        raise ValueError("capturable and stochastic_rounding exclude each other: a graph would repeat one step's noise")
    if any(p.is_complex() for p in group["params"]):
        raise ValueError("Lion takes real parameters; view a complex one with torch.view_as_real")
    plain: Group = {"betas": tuple(map(float, betas)), "weight_decay": float(decay), "momentum_dtype": name}
    plain["clip_rms"] = None if clip is None else float(clip)
    if group["corrected_decay"]:
        plain["max_lr"] = float(group.get("max_lr", lr))  # of the schedule: the first rate, or what OneCycleLR wrote
        if not plain["max_lr"] > 0:
            raise ValueError("corrected_decay needs an lr above 0: the highest that the schedule reaches")
    plain["lr"] = lr.detach().clone() if isinstance(lr, Tensor) else float(lr)  # its own: schedules write into a tensor
    if group["capturable"] and group["params"]:
        plain["lr"] = torch.as_tensor(plain["lr"]).to(group["params"][0].device)
    return group | plain


def _in_range(value: Any, end: float = math.inf) -> bool:
    return isinstance(value, Real | Tensor) and 0 <= float(value) < end

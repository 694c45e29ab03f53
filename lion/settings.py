"""The settings of Lion's parameter groups: their defaults, their ranges, and what refuses them."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

MOMENTUM_DTYPES = ("float64", "float32", "bfloat16", "float16", "int8")
MOMENTUM_ARITHMETIC = ("wide", "storage")
# Beside lr, betas and weight_decay: what older pickles and other Lions may not have.
OPTIONS = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "momentum_dtype": None,
    "momentum_arithmetic": "wide",
    "fused": None,
    "cautious": False,
    "cautious_decay": False,
    "corrected_decay": False,
    "clip_rms": None,
    "stochastic_rounding": False,
}
FLAGS = [name for name, default in OPTIONS.items() if default is False]
CHOICES = ("foreach", "fused")  # True, False, or None for what suits the device
Group = dict[str, Any]


def settled(group: Group) -> Group:
    """A group with its settings in plain types, whatever a configuration gave.

    Raises:
        ValueError: a setting is out of its range or excludes another, or a parameter is complex.
    """
    lr, betas, decay, dtype, clip = (group[n] for n in ("lr", "betas", "weight_decay", "momentum_dtype", "clip_rms"))
    name = None if dtype is None else str(dtype).removeprefix("torch.")
    for setting in (*FLAGS, *CHOICES):
        value, allowed = group[setting], "True, False or None" if setting in CHOICES else "True or False"
        if not (isinstance(value, bool) or (value is None and setting in CHOICES)):
            raise ValueError(f"{setting} must be {allowed}, not {value!r}")
    if isinstance(lr, Tensor) and lr.ndim:
        raise ValueError(f"lr must be a number or a tensor without axes, not one of shape {tuple(lr.shape)}")
    for setting, value in (("lr", lr), ("weight_decay", decay)):
        if not _in_range(value):
            raise ValueError(f"{setting} must be a finite number of at least 0, not {value!r}")
    if not isinstance(betas, Sequence) or len(betas) != 2 or not all(_in_range(beta, end=1) for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), not {betas!r}")
    if name not in (None, *MOMENTUM_DTYPES):
        raise ValueError(f"momentum_dtype must be None or one of {', '.join(MOMENTUM_DTYPES)}, not {dtype!r}")
    if group["momentum_arithmetic"] not in MOMENTUM_ARITHMETIC:
        allowed = " or ".join(map(repr, MOMENTUM_ARITHMETIC))
        raise ValueError(f"momentum_arithmetic must be {allowed}, not {group['momentum_arithmetic']!r}")
    if group["momentum_arithmetic"] == "storage" and name not in ("bfloat16", "float16"):
        raise ValueError(f"momentum_arithmetic='storage' needs momentum_dtype bfloat16 or float16, not {dtype!r}")
    if clip is not None and not (_in_range(clip) and clip > 0):
        raise ValueError(f"clip_rms must be None or a finite number above 0, not {clip!r}")
    if clip is not None and clip >= 1 and not group["cautious"]:
        raise ValueError(f"clip_rms={clip!r} changes nothing: a sign's RMS is at most 1. Give less than 1, or cautious")
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach=True and fused=True exclude each other: leave one of them out")
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


def check_effect(groups: Sequence[Group], loaded: bool = False) -> None:
    """Refuse options that change nothing in any of the groups that have them.

    Asked of all groups together, since a model may have biases that do not decay and norms in float32.

    Args:
        groups: of one optimizer.
        loaded: their settings come from a checkpoint, in which a schedule may have brought the decay to 0.

    Raises:
        ValueError: names the option and what it needs.
    """
    needs = {"stochastic_rounding": ("rounds bfloat16 weights, and there are none", _has_bfloat16)}
    if not loaded:
        needs |= dict.fromkeys(("cautious_decay", "corrected_decay"), ("changes the weight decay, which is 0", _decays))
    for option, (reason, has_effect) in needs.items():
        asked = [group for group in groups if group[option] and group["params"]]
        if asked and not any(map(has_effect, asked)):
            raise ValueError(f"{option}=True changes nothing here: it {reason}. Leave it out")


def _has_bfloat16(group: Group) -> bool:
    return any(p.dtype == torch.bfloat16 for p in group["params"])


def _decays(group: Group) -> bool:
    return bool(group["weight_decay"] > 0)


def _in_range(value: Any, end: float = math.inf) -> bool:
    return isinstance(value, Real | Tensor) and not isinstance(value, bool) and 0 <= float(value) < end

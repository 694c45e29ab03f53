"""Fifty steps of every optimizer against Optax's, from the same start, with the same gradients, rates and decay.

Deviations are in units of the peak learning rate, which is about what one step moves a parameter by; over the 50
steps the rates add up to 27 of them. docs/baselines.md prints what these tests measure.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from lion import Lion
from recipes.runs.build import optimizer_factory

ROOT = Path(__file__).parents[2]
RECORD = dict(np.load(Path(__file__).with_name("optax_trajectories.npz")))
EXACT = 1e-11
ROUNDING = 1e-3
# The YAML, the trajectory, and what has to be set so that both compute the same.
SAME = [
    ("lion", "lion", {"momentum_dtype": None}),
    ("adamw", "adamw", {}),
    ("adafactor", "adafactor", {"momentum": 0.9}),
    ("radam", "radam_no_eps", {"eps": 1e-30}),
    ("nadam", "nadam", {}),
    ("adabelief", "adabelief", {}),
    ("amsgrad", "amsgrad", {}),
    ("sgd", "sgd", {}),
    ("sgd", "sgd_nesterov", {"nesterov": True}),
    ("signum", "signum", {"momentum_dtype": None}),
]


def deviation(yaml, trajectory, settings=None, dtype=torch.float64, momentum_dtype=None):
    """The largest distance from Optax's parameters after any recorded step, in peak learning rates."""
    optim = OmegaConf.load(ROOT / "conf" / "optim" / f"{yaml}.yaml")
    optim.update({"weight_decay": float(RECORD["weight_decay"])} | (settings or {}))
    names = [name for name in ("vector", "matrix", "large") if f"{trajectory}/{name}" in RECORD]
    params = {name: torch.nn.Parameter(torch.tensor(RECORD[f"start/{name}"], dtype=dtype)) for name in names}
    group = {"params": list(params.values())}
    if momentum_dtype:
        group["momentum_dtype"] = momentum_dtype
    optimizer = optimizer_factory(optim)([group])
    largest = 0.0
    for step, lr in enumerate(RECORD["lr"], start=1):
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        for name in names:
            gradient = RECORD[f"gradients/{name}"][step - 1] * RECORD[f"scale/{name}"].astype(np.float64)
            params[name].grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
        for at in np.flatnonzero(RECORD["recorded"] == step):
            for name in names:
                ours = params[name].detach().double().numpy()
                largest = max(largest, np.abs(ours - RECORD[f"{trajectory}/{name}"][at]).max())
    return largest / RECORD["lr"].max()


@pytest.mark.parametrize(("yaml", "trajectory", "settings"), SAME, ids=[row[1] for row in SAME])
def test_equal_to_optax_in_float64(yaml, trajectory, settings):
    momentum_dtype = torch.float64 if yaml == "adafactor" else None
    assert deviation(yaml, trajectory, settings, momentum_dtype=momentum_dtype) < EXACT


@pytest.mark.parametrize(("yaml", "trajectory", "settings"), SAME, ids=[row[1] for row in SAME])
def test_equal_to_optax_up_to_rounding_in_float32(yaml, trajectory, settings):
    momentum_dtype = torch.float32 if yaml == "adafactor" else None
    assert deviation(yaml, trajectory, settings, torch.float32, momentum_dtype) < ROUNDING


def lion_in_bfloat16(momentum_arithmetic):
    """Parameters and momenta of Lion in float32 with bfloat16 momentum after each recorded step."""
    params = {name: torch.nn.Parameter(torch.tensor(RECORD[f"start/{name}"])) for name in ("vector", "matrix", "large")}
    settings = {"momentum_dtype": "bfloat16", "momentum_arithmetic": momentum_arithmetic}
    optimizer = Lion(params.values(), weight_decay=float(RECORD["weight_decay"]), **settings)
    for step, lr in enumerate(RECORD["lr"], start=1):
        optimizer.param_groups[0]["lr"] = float(lr)
        for name, p in params.items():
            p.grad = torch.tensor(RECORD[f"gradients/{name}"][step - 1] * RECORD[f"scale/{name}"])
        optimizer.step()
        for at in np.flatnonzero(RECORD["recorded"] == step):
            for name, p in params.items():
                yield name, at, p.detach().numpy(), optimizer.state[p]["exp_avg"].float().numpy()


def test_momentum_in_storage_arithmetic_has_the_bits_of_optax():
    """Of `mu_dtype=bfloat16`, in float32; the parameters differ by the rounding of the decay."""
    for name, at, theta, momentum in lion_in_bfloat16("storage"):
        assert np.array_equal(momentum, RECORD[f"lion_bfloat16_momentum/{name}"][at])
        assert np.abs(theta - RECORD[f"lion_bfloat16/{name}"][at]).max() < ROUNDING * RECORD["lr"].max()


def test_momentum_in_wide_arithmetic_does_not():
    *_, (name, at, _, momentum) = lion_in_bfloat16("wide")
    theirs = RECORD[f"lion_bfloat16_momentum/{name}"][at]
    assert (momentum != theirs).mean() > 0.5
    # 0.98828 forgets sooner than 0.99: under a constant gradient by 0.962 in 50 steps.
    assert 0.92 < np.abs(theirs).sum() / np.abs(momentum).sum() < 0.98


def test_radam_differs_from_optax_by_where_eps_stands():
    assert 1e-4 < deviation("radam", "radam") < 2e-3


def test_bfloat16_momentum_of_adafactor_is_nearer_the_exact_path_than_that_of_optax():
    of_optax = max(
        np.abs(RECORD[f"adafactor_bfloat16/{name}"] - RECORD[f"adafactor/{name}"]).max()
        for name in ("vector", "matrix", "large")
    )
    assert deviation("adafactor", "adafactor") < 0.25 < of_optax / RECORD["lr"].max()


@pytest.mark.parametrize(
    ("yaml", "trajectory", "settings"),
    [
        ("nadam_torch", "nadam", {}),
        ("nadam", "nadam", {"_target_": "timm.optim.NAdamW"}),
        ("amsgrad_torch", "amsgrad", {}),
        ("adabelief", "adabelief", {"rectify": True}),
        ("adamw", "adamw", {"eps": 1e-8}),
    ],
    ids=["torch-NAdam", "timm-NAdamW", "torch-amsgrad", "timm-AdaBelief-rectified", "AdamW-eps-1e-8"],
)
def test_other_variants_are_told_apart(yaml, trajectory, settings):
    assert deviation(yaml, trajectory, settings) > 0.01


def test_record_says_what_made_it():
    assert "optax 0.2.8" in str(RECORD["versions"])

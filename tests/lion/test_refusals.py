"""What Lion refuses, and the edges of what it takes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lion import Lion
from lion.settings import CHOICES, FLAGS
from tests.lion.test_optimizer import INF, NAN, parameters, train


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"lr": NAN}, ["lr", "nan", "finite"]),
        ({"lr": INF}, ["lr", "inf", "finite"]),
        ({"lr": -0.1}, ["lr", "-0.1", "at least 0"]),
        ({"lr": torch.tensor(-0.5)}, ["lr", "-0.5", "at least 0"]),
        ({"lr": torch.tensor(NAN)}, ["lr", "nan", "finite"]),
        ({"lr": torch.ones(1)}, ["lr", "(1,)", "without axes"]),
        ({"betas": (1.0, 0.99)}, ["betas", "(1.0, 0.99)", "[0, 1)"]),
        ({"betas": (0.9, 1.0)}, ["betas", "(0.9, 1.0)", "[0, 1)"]),
        ({"betas": (-0.1, 0.99)}, ["betas", "-0.1", "[0, 1)"]),
        ({"betas": (0.9, NAN)}, ["betas", "nan", "[0, 1)"]),
        ({"betas": (0.9,)}, ["betas", "(0.9,)", "two"]),
        ({"betas": (0.9, 0.99, 0.999)}, ["betas", "0.999", "two"]),
        ({"betas": 0.9}, ["betas", "0.9", "two"]),
        ({"betas": "ab"}, ["betas", "'ab'", "two"]),
        ({"lr": "1e-4"}, ["lr", "'1e-4'", "finite number"]),
        ({"weight_decay": "0.1"}, ["weight_decay", "'0.1'", "finite number"]),
        ({"weight_decay": None}, ["weight_decay", "None", "finite number"]),
        ({"weight_decay": NAN}, ["weight_decay", "nan", "finite"]),
        ({"weight_decay": INF}, ["weight_decay", "inf", "finite"]),
        ({"weight_decay": -0.1}, ["weight_decay", "-0.1", "at least 0"]),
        ({"momentum_dtype": torch.uint8}, ["momentum_dtype", "uint8", "bfloat16"]),
        ({"momentum_dtype": "int32"}, ["momentum_dtype", "int32", "bfloat16"]),
        ({"momentum_dtype": "complex64"}, ["momentum_dtype", "complex64", "bfloat16"]),
        ({"momentum_dtype": "bf16"}, ["momentum_dtype", "bf16", "bfloat16"]),
        ({"momentum_dtype": "Tensor"}, ["momentum_dtype", "Tensor", "bfloat16"]),
        ({"clip_rms": 0.0}, ["clip_rms", "0.0", "above 0"]),
        ({"clip_rms": -1.0}, ["clip_rms", "-1.0", "above 0"]),
        ({"clip_rms": INF}, ["clip_rms", "inf", "finite"]),
        ({"clip_rms": "1"}, ["clip_rms", "'1'", "number"]),
        ({"corrected_decay": True, "lr": 0.0}, ["corrected_decay", "lr above 0"]),
        ({"lr": True}, ["lr", "True", "finite number"]),
        ({"weight_decay": True}, ["weight_decay", "True", "finite number"]),
        *[({name: "yes"}, [name, "'yes'", "True or False"]) for name in FLAGS],
        *[({name: 3}, [name, "3", "True or False"]) for name in FLAGS],
        *[({name: None}, [name, "None", "True or False"]) for name in FLAGS],
        *[({name: value}, [name, repr(value), "True, False or None"]) for name in CHOICES for value in ("yes", 1, 0.0)],
        ({"foreach": True, "fused": True}, ["foreach", "fused", "exclude each other"]),
        ({"clip_rms": 1.0}, ["clip_rms", "1.0", "changes nothing", "cautious"]),
        ({"clip_rms": 5, "cautious": False}, ["clip_rms", "5", "changes nothing"]),
        *[
            (
                {"momentum_arithmetic": "storage", "momentum_dtype": dtype},
                ["momentum_arithmetic", repr(dtype), "float16"],
            )
            for dtype in (None, "int8", "float32", "float64")
        ],
        *[
            ({"momentum_arithmetic": value}, ["momentum_arithmetic", "'wide'", repr(value)])
            for value in ("jax", None, 1)
        ],
        ({"stochastic_rounding": True, "capturable": True}, ["capturable and stochastic_rounding"]),
        ({"momentum_dtype": 16}, ["momentum_dtype", "16", "bfloat16"]),
        ({"momentum_dtype": torch.float8_e4m3fn}, ["momentum_dtype", "float8_e4m3fn", "bfloat16"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["defaults", "group"])
def test_refuses_what_is_out_of_range(given: dict[str, Any], named: list[str], where: str) -> None:
    """One line that names what was given and what is allowed; a refused group isn't added."""
    if where == "defaults":
        with pytest.raises(ValueError, match=next(iter(given))) as error:
            Lion(parameters(), **given)
    else:
        optimizer = Lion(parameters())
        with pytest.raises(ValueError, match=next(iter(given))) as error:
            optimizer.add_param_group({"params": parameters(), **given})
        assert len(optimizer.param_groups) == 1
    line = str(error.value)
    assert "\n" not in line
    for part in named:
        assert part in line


@pytest.mark.parametrize("edge", [{"lr": 0.0}, {"betas": (0.0, 0.0)}, {"betas": [0.95, 0.98]}, {"lr": 1}])
def test_takes_the_edges_of_the_range(edge: dict[str, Any]) -> None:
    optimizer = Lion(parameters(), **edge)
    train(optimizer, 3)
    assert torch.isfinite(optimizer.param_groups[0]["params"][1]).all()


@pytest.mark.parametrize("foreach", [False, True])
def test_refuses_sparse_gradients(foreach: bool) -> None:
    """Before anything has moved."""
    dense, table = torch.zeros(2, requires_grad=True), nn.Embedding(5, 2, sparse=True)
    optimizer = Lion([dense, table.weight], lr=0.5, foreach=foreach)
    start = table.weight.detach().clone()
    (table(torch.tensor([1, 3])).sum() + dense.sum()).backward()
    with pytest.raises(RuntimeError, match=r"dense gradients.*sparse") as error:
        optimizer.step()
    assert "\n" not in str(error.value)
    assert torch.equal(table.weight, start)
    assert torch.equal(dense, torch.zeros(2))


def test_refuses_complex_parameters() -> None:
    weight = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    with pytest.raises(ValueError, match=r"complex.*view_as_real"):
        Lion([weight])
    optimizer = Lion(parameters())
    with pytest.raises(ValueError, match=r"complex.*view_as_real"):
        optimizer.add_param_group({"params": [weight]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.skipif(not hasattr(Tensor, "grad_dtype"), reason="torch lets a gradient have its parameter's type only")
def test_refuses_complex_gradients() -> None:
    weight = torch.zeros(2, requires_grad=True)
    weight.grad_dtype = None
    weight.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match=r"real gradients.*complex"):
        Lion([weight]).step()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"stochastic_rounding": True}, ["stochastic_rounding", "bfloat16 weights", "none"]),
        ({"cautious_decay": True}, ["cautious_decay", "weight decay", "0"]),
        ({"corrected_decay": True, "weight_decay": 0.0}, ["corrected_decay", "weight decay", "0"]),
    ],
    ids=str,
)
def test_refuses_an_option_that_changes_nothing(given: dict[str, Any], named: list[str]) -> None:
    """At once, and by way of a checkpoint; a group that it does nothing for may stand beside one where it does."""
    with pytest.raises(ValueError, match="changes nothing here") as error:
        Lion(parameters(), **given)
    assert "\n" not in str(error.value)
    for part in named:
        assert part in str(error.value)
    useful = {"params": parameters(torch.bfloat16), "weight_decay": 0.1}
    mixed = Lion([{"params": parameters()}, useful], **{"weight_decay": 0.0} | given)
    train(mixed, 2)
    Lion([{"params": []}, {"params": parameters()}])  # an empty group says nothing
    saved = Lion([useful], **given).state_dict()
    saved["param_groups"][0]["weight_decay"] = 0.0  # as at the end of a schedule of the decay
    if "stochastic_rounding" in given:
        with pytest.raises(ValueError, match="changes nothing here"):
            Lion(parameters()).load_state_dict(saved)
    else:
        Lion(parameters()).load_state_dict(saved)

"""Lion's step in one pass (Triton on a GPU, C on the processor) against the plain step, over random shapes."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from lion import Lion

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
KINDS = [
    (torch.float32, None),
    (torch.float32, "bfloat16"),
    (torch.bfloat16, None),
    (torch.bfloat16, "float32"),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.3},
    {"weight_decay": 0.3, "maximize": True},
    {"weight_decay": 0.3, "cautious_decay": True},
    {"weight_decay": 0.3, "corrected_decay": True},
    {"weight_decay": 0.3, "cautious_decay": True, "corrected_decay": True, "maximize": True},
    {"betas": (0.95, 0.98)},
    {"betas": (0.25, 0.25)},
    {"betas": (0.0, 0.0)},
]
STEPS = 3
LR = 2.0**-7


def shapes(seed: int) -> list[tuple[int, ...]]:
    """Random ones, with a scalar, an empty one, and lengths around the sizes of blocks and vectors."""
    draw = random.Random(seed)
    drawn = [tuple(draw.randint(1, 40) for _ in range(draw.randint(1, 3))) for _ in range(6)]
    return [*drawn, (), (0,), (3, 0), (1,), (draw.choice([15, 16, 17, 1023, 1024, 1025]),), (draw.randint(2000, 9000),)]


def tensors(seed: int, dtype: torch.dtype, device: str, spoilt: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator) for shape in shapes(seed // 1000)]
    for tensor in made if spoilt else ():
        if tensor.numel() > 4:
            tensor.view(-1)[:4] = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0])
    return [tensor.to(device, dtype) for tensor in made]


def stepped(
    fused: bool, kind: Any, options: dict[str, Any], seed: int, device: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and momenta after some steps."""
    dtype, momentum_dtype = kind
    weights = [tensor.requires_grad_() for tensor in tensors(1000 * seed, dtype, device)]
    optimizer = Lion(weights, lr=LR, momentum_dtype=momentum_dtype, fused=fused, **options)
    for step in range(STEPS):
        for weight, gradient in zip(weights, tensors(1000 * seed + step + 1, dtype, device, step == 1), strict=True):
            weight.grad = gradient
        optimizer.step()
    return [weight.detach() for weight in weights], [optimizer.state[weight]["exp_avg"] for weight in weights]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_one_pass_is_the_plain_step(options: dict[str, Any], kind: Any, device: str) -> None:
    for seed in range(2 if device == "cpu" else 12):
        ours, our_momenta = stepped(True, kind, options, seed, device)
        plain, plain_momenta = stepped(False, kind, options, seed, device)
        elements = equal = 0
        for mine, expected in zip(ours, plain, strict=True):
            assert torch.equal(mine.isnan(), expected.isnan())
            same = torch.isclose(mine, expected, rtol=0, atol=0, equal_nan=True)
            elements, equal = elements + mine.numel(), equal + int(same.sum())
            # Where rounding turns a sign, a weight differs by two updates a step and no more.
            unit = torch.finfo(mine.dtype).eps * 4
            assert torch.allclose(mine, expected, rtol=unit, atol=2.001 * STEPS * LR, equal_nan=True)
        assert equal >= 0.999 * elements
        for mine, expected in zip(our_momenta, plain_momenta, strict=True):
            assert mine.dtype == expected.dtype
            unit = torch.finfo(mine.dtype).eps
            assert torch.allclose(mine, expected, rtol=unit, atol=unit, equal_nan=True)


@pytest.mark.gpu
def test_a_step_on_more_elements_than_32_bits_count() -> None:
    """2^31 and some more, in bfloat16: 13 GB; the last ones are stepped as the plain step steps a copy of them."""
    elements = 2**31 + 1500
    if torch.cuda.mem_get_info()[0] < 7 * elements:
        pytest.skip(f"needs {7 * elements / 1e9:.0f} GB of free GPU memory")
    weight = torch.zeros(elements, dtype=torch.bfloat16, device="cuda").requires_grad_()
    weight.grad = torch.ones_like(weight)
    tail = torch.randn(3000, generator=torch.Generator().manual_seed(0)).to("cuda", torch.bfloat16)
    with torch.no_grad():
        weight[-3000:] = tail
        weight.grad[-3000:] = tail.flip(0)
    part = weight.detach()[-3000:].clone().requires_grad_()
    part.grad = weight.grad[-3000:].clone()
    whole = Lion([weight], lr=LR, weight_decay=0.3, fused=True)
    plain = Lion([part], lr=LR, weight_decay=0.3, fused=False)
    for _ in range(2):
        whole.step()
        plain.step()
    assert torch.equal(weight.detach()[-3000:], part.detach())
    assert torch.equal(whole.state[weight]["exp_avg"][-3000:], plain.state[part]["exp_avg"])
    middle = weight.detach()[elements // 2 - 500 : elements // 2 + 500]
    assert torch.equal(middle, middle[:1].expand(1000))
    assert (middle < 0).all()

"""Each variant against its formula, written again in float64 numpy, and beside other libraries where they have it."""

import math
from typing import Any

import numpy as np
import pytest
import timm.optim.lion
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from lion import Lion

Array = NDArray[np.float64]
LR, BETAS, DECAY = 0.05, (0.75, 0.875), 0.5


def run(start: Array, gradients: list[Array], rates: list[float] | None = None, **options: Any) -> Array:
    """Weights after Lion's steps in float64."""
    weight = torch.tensor(start, requires_grad=True)
    optimizer = Lion([weight], lr=LR, betas=BETAS, **options)
    for number, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[number]
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    return weight.detach().numpy()


def by_formula(
    theta: Array,
    gradients: list[Array],
    rates: list[float] | None = None,
    *,
    cautious: bool = False,
    cautious_decay: bool = False,
    corrected_decay: bool = False,
    clip_rms: float = math.inf,
) -> Array:
    momentum = np.zeros_like(theta)
    for number, g in enumerate(gradients):
        lr = LR if rates is None else rates[number]
        u = np.sign(BETAS[0] * momentum + (1 - BETAS[0]) * g)
        if cautious:
            mask = (u * g > 0).astype(float)
            u = u * mask / max(mask.mean(), 1e-3)
        u = u / max(1.0, np.sqrt(np.mean(u**2)) / clip_rms)
        eta = lr**2 / LR if corrected_decay else lr
        decayed = np.where(u * theta >= 0, 1, 0) if cautious_decay else 1
        theta = theta - lr * u - eta * DECAY * decayed * theta
        momentum = BETAS[1] * momentum + (1 - BETAS[1]) * g
    return theta


@settings(max_examples=100, deadline=None)
@given(
    cautious=st.booleans(),
    cautious_decay=st.booleans(),
    corrected_decay=st.booleans(),
    clip_rms=st.sampled_from([None, 0.3, 0.9, 1.0, 1.2]),  # 1 and more is refused without `cautious`
    schedule=st.lists(st.floats(0, LR), min_size=1, max_size=6),
    share_zero=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_combination_follows_its_formula(
    cautious: bool,
    cautious_decay: bool,
    corrected_decay: bool,
    clip_rms: float | None,
    schedule: list[float],
    share_zero: float,
    seed: int,
) -> None:
    assume(cautious or clip_rms is None or clip_rms < 1)
    random = np.random.default_rng(seed)
    start = random.normal(size=(5, 8))
    gradients = [random.normal(size=(5, 8)) * (random.random((5, 8)) >= share_zero) for _ in schedule]
    flags = {"cautious": cautious, "cautious_decay": cautious_decay, "corrected_decay": corrected_decay}
    result = run(start, gradients, schedule, weight_decay=DECAY, clip_rms=clip_rms, **flags)
    expected = by_formula(start, gradients, schedule, clip_rms=clip_rms or math.inf, **flags)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [{"cautious": True}, {"cautious_decay": True}, {"corrected_decay": True}, {"clip_rms": 0.5}],
    ids=str,
)
def test_each_changes_something(options: dict[str, Any]) -> None:
    """A flag that is never read would pass any comparison of two runs that both lack it."""
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=20), [random.normal(size=20) for _ in range(4)]
    rates = [LR / 2, LR, LR / 2, LR / 4]
    plain, varied = (run(start, gradients, rates, weight_decay=DECAY, **o) for o in ({}, options))
    assert np.abs(plain - varied).max() > 1e-4


# Against timm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"cautious": True}, {"caution": True}),
        ({"corrected_decay": True}, {"corrected_weight_decay": True}),
        ({"cautious": True, "corrected_decay": True}, {"caution": True, "corrected_weight_decay": True}),
    ],
    ids=str,
)
def test_equals_timm(ours: dict[str, Any], theirs: dict[str, Any], maximize: bool, dtype: torch.dtype) -> None:
    """Bit for bit, through a schedule; lists as well, where timm may use them."""
    ends = []
    for make, options in ((Lion, ours), (timm.optim.lion.Lion, theirs)):
        random = torch.Generator().manual_seed(0)
        weights = [torch.randn(shape, generator=random).to(dtype).requires_grad_() for shape in ((7,), (5, 3), ())]
        optimizer = make(weights, lr=0.01, weight_decay=0.3, maximize=maximize, **options)
        schedule = CosineAnnealingLR(optimizer, 12)
        for _ in range(12):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=random).to(dtype)
            optimizer.step()
            schedule.step()
        ends.append(weights)
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


# What each is for


def test_cautious_never_steps_against_the_gradient() -> None:
    weight = torch.zeros(4, requires_grad=True)
    optimizer = Lion([weight], lr=1.0, cautious=True)
    for gradient in ([1.0, 1.0, -1.0, -1.0], [-0.01, 0.01, 0.01, 0.0]):  # the momentum outweighs the second one
        before = weight.detach().clone()
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        step = weight.detach() - before
    assert step.tolist() == [0.0, -4.0, 0.0, 0.0]  # one of four agrees, and takes the step of all


def test_cautious_decay_lets_weights_grow_undamped() -> None:
    weight = torch.tensor([2.0, -2.0, 2.0, 0.0], requires_grad=True)
    weight.grad = torch.tensor([-1.0, -1.0, 0.0, 1.0])
    Lion([weight], lr=0.25, weight_decay=1.0, cautious_decay=True).step()
    # Away from zero: no decay. Towards it, and where there is no step: 0.75 of the weight is left.
    assert weight.tolist() == [2.25, -1.25, 1.5, -0.25]


def test_corrected_decay_goes_with_the_square_of_the_rate() -> None:
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = Lion([weight], lr=0.5, weight_decay=0.25, corrected_decay=True)
    schedule = LambdaLR(optimizer, lambda step: [0.2, 1.0, 0.4][min(step, 2)])  # warmup: built at a fifth of the peak
    for _ in range(3):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        schedule.step()
    rates = [0.1, 0.5, 0.2]
    assert weight.item() == pytest.approx(math.prod(1 - rate**2 / 0.5 * 0.25 for rate in rates), rel=1e-12)
    assert optimizer.param_groups[0]["max_lr"] == 0.5


def test_corrected_decay_takes_the_peak_of_a_one_cycle_schedule() -> None:
    """It names the peak itself, wherever the optimizer's own lr stood."""
    optimizer = Lion([torch.zeros(1, requires_grad=True)], lr=1e-3, weight_decay=0.1, corrected_decay=True)
    OneCycleLR(optimizer, max_lr=0.5, total_steps=10)
    assert optimizer.param_groups[0]["max_lr"] == 0.5


def test_the_peak_survives_a_checkpoint_and_another_ones_absence() -> None:
    def make(lr: float, **options: Any) -> tuple[Tensor, Lion]:
        weight = torch.ones(3, requires_grad=True)
        weight.grad = torch.ones(3)
        optimizer = Lion([weight], lr=lr, weight_decay=0.1, **options)
        optimizer.step()
        return weight, optimizer

    _, saved = make(0.5, corrected_decay=True)
    saved.param_groups[0]["lr"] = 0.0  # as at a schedule's end
    _, other = make(0.25, corrected_decay=True)
    other.load_state_dict(saved.state_dict())
    assert (other.param_groups[0]["max_lr"], other.param_groups[0]["lr"]) == (0.5, 0.0)
    _, old = make(0.01)
    state = old.state_dict()
    for group in state["param_groups"]:
        for name in ("cautious", "cautious_decay", "corrected_decay", "clip_rms", "stochastic_rounding", "fused"):
            del group[name]
    _, loaded = make(0.25, corrected_decay=True, clip_rms=0.5)
    loaded.load_state_dict(state)
    group = loaded.param_groups[0]
    assert (group["lr"], group["max_lr"], group["corrected_decay"], group["clip_rms"]) == (0.01, 0.25, True, 0.5)
    loaded.step()


def test_a_clip_is_the_size_of_a_dense_sign_update() -> None:
    """The RMS of signs is 1, so a clip of 1 and more would change nothing, and is refused."""
    random = np.random.default_rng(1)
    start, gradient = random.normal(size=30), [random.normal(size=30)]
    step, clipped = (run(start, gradient, clip_rms=clip) - start for clip in (None, 0.75))
    np.testing.assert_allclose(clipped, 0.75 * step, rtol=1e-12)


def test_a_clip_takes_back_what_caution_scaled_up() -> None:
    """A quarter agrees: steps of 4, whose root mean square is 2; clipped to 1 they are of 2."""
    gradients = [np.array([1.0, 1.0, -1.0, -1.0]), np.array([-0.01, 0.01, 0.01, 0.0])]
    before = run(np.zeros(4), gradients[:1])
    step = run(np.zeros(4), gradients, cautious=True, clip_rms=1.0) - before
    np.testing.assert_allclose(step, [0, -2 * LR, 0, 0], atol=1e-15)


@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)])
def test_variants_take_every_shape_and_type(shape: tuple[int, ...], momentum_dtype: str | None) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.ones(shape, dtype=dtype).requires_grad_()
        options = {"cautious": True, "cautious_decay": True, "corrected_decay": True, "clip_rms": 1.0}
        optimizer = Lion([weight], lr=0.25, weight_decay=0.5, momentum_dtype=momentum_dtype, foreach=True, **options)
        weight.grad = torch.ones_like(weight)
        with pytest.warns(UserWarning, match="cautious is done tensor by tensor; the loop is taken"):
            optimizer.step()
        assert weight.detach().eq(1 - 0.25 - 0.125).all()

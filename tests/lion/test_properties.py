"""Lion against Algorithm 2 written again here, in exact fractions and in float64, over random programs of steps."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lion import Lion, reference

SHAPES = [(), (1,), (0,), (3, 0), (5,), (2, 3), (2, 1, 4), (3, 2, 2)]
LAYOUTS = ["contiguous", "transposed", "strided", "channels_last"]
FRACTIONS = [0.0, 0.25, 0.5, 0.75, 0.875]


def sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def values(tensor: Tensor) -> list[Fraction]:
    """The elements of a tensor as what they are: rational numbers."""
    return [Fraction(x) for x in tensor.detach().double().flatten().tolist()]


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values with other strides, where the shape allows it."""
    if layout == "transposed" and tensor.ndim >= 2:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided" and tensor.ndim >= 1:
        wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), 777.0, dtype=tensor.dtype)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    if layout == "channels_last" and tensor.ndim == 3:
        return tensor.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return tensor.clone()


@dataclass
class Group:
    """One parameter group of a program, and what the oracle knows of it."""

    shapes: list[tuple[int, ...]]
    layouts: list[str]
    betas: tuple[float, float]
    weight_decay: float
    maximize: bool
    foreach: bool | None
    capturable: bool
    tensor_lr: bool
    params: list[Tensor] = field(default_factory=list)
    theta: list[list[Fraction]] = field(default_factory=list)
    momentum: list[list[Fraction]] = field(default_factory=list)

    def expect(self, i: int, gradient: list[Fraction], lr: Fraction) -> None:
        """Take one step of Algorithm 2 with the `i`-th parameter."""
        theta, momentum = self.theta[i], self.momentum[i]
        beta1, beta2 = map(Fraction, self.betas)
        if self.maximize:
            gradient = [-g for g in gradient]
        directions = [beta1 * m + (1 - beta1) * g for m, g in zip(momentum, gradient, strict=True)]
        decay = Fraction(self.weight_decay)
        self.theta[i] = [t - lr * (sign(c) + decay * t) for t, c in zip(theta, directions, strict=True)]
        self.momentum[i] = [beta2 * m + (1 - beta2) * g for m, g in zip(momentum, gradient, strict=True)]


@st.composite
def groups(draw: st.DrawFn) -> Group:
    count = draw(st.integers(1, 3))
    return Group(
        shapes=draw(st.lists(st.sampled_from(SHAPES), min_size=count, max_size=count)),
        layouts=draw(st.lists(st.sampled_from(LAYOUTS), min_size=count, max_size=count)),
        betas=(draw(st.sampled_from(FRACTIONS)), draw(st.sampled_from(FRACTIONS))),
        weight_decay=draw(st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        maximize=draw(st.booleans()),
        foreach=draw(st.sampled_from([None, False, True])),
        capturable=draw(st.booleans()),
        tensor_lr=draw(st.booleans()),
    )


@settings(max_examples=80, deadline=None)
@given(
    program=st.lists(groups(), min_size=1, max_size=3),
    rates=st.lists(st.sampled_from([1.0, 0.5, 0.25, 0.0625, 0.0]), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_programs_of_steps_in_exact_fractions(program: list[Group], rates: list[float], seed: int) -> None:
    """Whole gradients and binary coefficients make float64 exact: the result has to be equal, not near.

    Small whole numbers also meet c = 0 often, which random reals never do.
    """
    random = np.random.default_rng(seed)

    def whole(shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.asarray(random.integers(-2, 3, shape), dtype=np.float64)).reshape(shape)

    described: list[dict[str, Any]] = []
    for group in program:
        for shape, layout in zip(group.shapes, group.layouts, strict=True):
            parameter = laid_out(whole(shape), layout).requires_grad_()
            group.params.append(parameter)
            group.theta.append(values(parameter))
            group.momentum.append([Fraction(0)] * parameter.numel())
        described.append(
            {
                "params": group.params,
                "lr": torch.tensor(1.0, dtype=torch.float64) if group.tensor_lr else 1.0,
                "betas": group.betas,
                "weight_decay": group.weight_decay,
                "maximize": group.maximize,
                "foreach": group.foreach,
                "capturable": group.capturable,
            }
        )
    optimizer = Lion(described)
    for rate in rates:
        for group, described_group in zip(program, optimizer.param_groups, strict=True):
            own_rate = rate * float(random.choice([1.0, 0.5]))
            if isinstance(described_group["lr"], Tensor):
                described_group["lr"].fill_(own_rate)
            else:
                described_group["lr"] = own_rate
            for i, parameter in enumerate(group.params):
                parameter.grad = None
                if random.random() < 0.25:
                    continue
                parameter.grad = laid_out(whole(tuple(parameter.shape)), str(random.choice(LAYOUTS)))
                group.expect(i, values(parameter.grad), Fraction(own_rate))
        parameters = [p for group in program for p in group.params]
        gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
        optimizer.step()
        for group in program:
            for i, parameter in enumerate(group.params):
                assert values(parameter) == group.theta[i]
                if parameter in optimizer.state:
                    assert values(optimizer.state[parameter]["exp_avg"]) == group.momentum[i]
                else:
                    assert not any(group.momentum[i])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                assert torch.equal(parameter.grad, gradient), "a step must not write into the gradient"


def closed_form(
    theta: np.ndarray, m: np.ndarray, g: np.ndarray, lr: float, beta1: float, beta2: float, decay: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The formula on plain float64 arrays, and where it is too near to a change of sign to be judged."""
    kept, came = beta1 * m, (1 - beta1) * g
    direction = np.where(kept + came > 0, 1.0, np.where(kept + came < 0, -1.0, 0.0))
    size = np.abs(m) + np.abs(g)
    unclear = (np.abs(kept + came) <= 1e-12 * size) & (size > 0)
    return theta - lr * direction - lr * decay * theta, beta2 * m + (1 - beta2) * g, unclear


reals = st.floats(-1e3, 1e3, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(
    start=st.lists(reals, min_size=1, max_size=6),
    program=st.lists(st.tuples(st.floats(0, 2), st.lists(reals, min_size=6, max_size=6)), min_size=1, max_size=6),
    betas=st.tuples(st.floats(0, 0.9999), st.floats(0, 0.9999)),
    decay=st.floats(0, 20),
    foreach=st.booleans(),
)
def test_programs_of_steps_in_float64(
    start: list[float],
    program: list[tuple[float, list[float]]],
    betas: tuple[float, float],
    decay: float,
    foreach: bool,
) -> None:
    """Any coefficients; each step is judged from where the last one came out, and the plain twin with it."""
    parameter = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = Lion([parameter], lr=1.0, betas=betas, weight_decay=decay, foreach=foreach)
    momentum = np.zeros(len(start))
    for lr, row in program:
        gradient = np.array(row[: len(start)])
        theta = parameter.detach().numpy().copy()
        expected, expected_momentum, unclear = closed_form(theta, momentum, gradient, lr, *betas, decay)
        twin, twin_momentum = reference.step(theta, momentum, gradient, lr, *betas, decay)
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        here, momentum = parameter.detach().numpy(), optimizer.state[parameter]["exp_avg"].numpy().copy()
        scale = 1e-13 * (np.abs(theta) * (1 + lr * decay) + lr)
        for found, found_momentum in ((here, momentum), (twin, twin_momentum)):
            assert np.all((np.abs(found - expected) <= scale) | unclear)
            np.testing.assert_allclose(found_momentum, expected_momentum, rtol=1e-12, atol=1e-10)


def test_reference_by_hand() -> None:
    """Two steps worked out on paper: lr 0.1, betas (0.9, 0.99), decay 0.5."""
    theta, momentum = np.array([1.0, -2.0, 4.0]), np.zeros(3)
    theta, momentum = reference.step(theta, momentum, np.array([2.0, -3.0, 0.0]), 0.1, 0.9, 0.99, 0.5)
    # θ − 0.1·(sign(g) + 0.5·θ);  m = 0.01·g
    np.testing.assert_allclose(theta, [0.85, -1.8, 3.8], rtol=1e-14)
    np.testing.assert_allclose(momentum, [0.02, -0.03, 0.0], rtol=1e-14)
    # c = 0.9·m + 0.1·g = [0.018 − 0.02, −0.027 + 0.03, 0 − 0.1]
    theta, momentum = reference.step(theta, momentum, np.array([-0.2, 0.3, -1.0]), 0.1, 0.9, 0.99, 0.5)
    np.testing.assert_allclose(theta, [0.85 + 0.1 - 0.0425, -1.8 - 0.1 + 0.09, 3.8 + 0.1 - 0.19], rtol=1e-14)
    np.testing.assert_allclose(momentum, [0.0198 - 0.002, -0.0297 + 0.003, -0.01], rtol=1e-14)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("decay", [0.1, 10.0])
def test_decay_never_changes_the_direction(foreach: bool, decay: float) -> None:
    """With and without decay, the two differ by −lr·λ·θ and the momenta by nothing, bit for bit.

    Decay inside the sign (as 32-bit Lion in bitsandbytes had it until 2026) fails here in every element
    whose decay outweighs its gradient.
    """
    random = torch.Generator().manual_seed(0)
    lr = 1e-3
    start = torch.randn(4, 50, generator=random, dtype=torch.float64) * 10
    parameters = [start.clone().requires_grad_() for _ in range(2)]
    optimizers = [
        Lion([parameter], lr=lr, weight_decay=each, foreach=foreach)
        for parameter, each in zip(parameters, (0.0, decay), strict=True)
    ]
    for _ in range(10):
        gradient = 0.01 * torch.randn(4, 50, generator=random, dtype=torch.float64)
        with torch.no_grad():
            parameters[0].copy_(parameters[1])
        before = parameters[1].detach().clone()
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
        difference = (parameters[1] - parameters[0]).detach()
        torch.testing.assert_close(difference, -lr * decay * before, rtol=1e-9, atol=1e-14)
        momenta = [o.state[p]["exp_avg"] for p, o in zip(parameters, optimizers, strict=True)]
        assert torch.equal(*momenta)
    assert decay * start.abs().median() > 10 * 0.01, "the decay has to outweigh the gradient for this to mean anything"


@settings(max_examples=50, deadline=None)
@given(
    decay=st.floats(0.05, 50),
    share=st.floats(0.3, 0.9),
    start=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
    outward=st.booleans(),
)
def test_decay_bounds_the_weights(
    decay: float, share: float, start: list[float], seed: int, scale: float, outward: bool
) -> None:
    """|θ| ≤ 1/λ is entered from outside, at the rate 1 − lr·λ at worst, and never left, under any gradients."""
    bound, lr = 1 / decay, share / decay
    parameter = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = Lion([parameter], lr=lr, weight_decay=decay)
    random = torch.Generator().manual_seed(seed)
    excess = (parameter.detach().abs() - bound).clamp(min=0)
    furthest = float(excess.max())
    for _ in range(120):
        away = -parameter.detach().sign()
        parameter.grad = scale * (away if outward else torch.randn(4, generator=random, dtype=torch.float64))
        optimizer.step()
        size = parameter.detach().abs()
        slack = 1e-14 * (bound + size)
        after = (size - bound).clamp(min=0)
        assert torch.all(after <= (1 - share) * excess + slack)
        excess = after
    assert torch.all(excess <= 1e-12 * bound + furthest * (1 - share) ** 120)


def test_without_decay_nothing_bounds_the_weights() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = Lion([parameter], lr=1.0)
    for _ in range(30):
        parameter.grad = -torch.ones(1)
        optimizer.step()
    assert parameter.item() == 30


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_first_step_is_the_sign_of_the_gradient(foreach: bool, maximize: bool) -> None:
    gradient = torch.tensor([3.0, -1e-30, 1e30, -0.0, 0.0, float("inf"), -float("inf"), 1e-45])
    parameter = torch.zeros(8, requires_grad=True)
    parameter.grad = gradient.clone()
    Lion([parameter], lr=0.25, foreach=foreach, maximize=maximize).step()
    step = torch.tensor([-1.0, 1.0, -1.0, 0.0, 0.0, -1.0, 1.0, 0.0]) * 0.25
    # The least subnormal times 1 − β1 rounds to nothing, so it doesn't move its weight.
    assert torch.equal(parameter.detach(), -step if maximize else step)


def test_the_size_of_the_gradient_does_not_matter() -> None:
    """Powers of two scale exactly, so the weights agree bit for bit over many steps."""
    random = torch.Generator().manual_seed(3)
    gradients = torch.randn(12, 40, generator=random)
    ends = []
    for scale in (1.0, 2.0**30, 2.0**-30):
        parameter = torch.ones(40, requires_grad=True)
        optimizer = Lion([parameter], lr=0.01, weight_decay=0.1)
        for gradient in gradients:
            parameter.grad = scale * gradient
            optimizer.step()
        ends.append(parameter.detach())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("foreach", [False, True])
def test_zero_gradient_from_zero_momentum_stays(foreach: bool) -> None:
    start = torch.tensor([1.5, -2.0, 0.0])
    still, decaying = start.clone().requires_grad_(), start.clone().requires_grad_()
    for parameter in (still, decaying):
        parameter.grad = torch.zeros(3)
    Lion([still], lr=0.5, foreach=foreach).step()
    Lion([decaying], lr=0.5, weight_decay=0.5, foreach=foreach).step()
    assert torch.equal(still.detach(), start)
    assert torch.equal(decaying.detach(), 0.75 * start)


def test_zero_gradient_after_others_still_moves() -> None:
    """The momentum alone gives the direction."""
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = Lion([parameter], lr=1.0)
    for gradient in ([5.0, -5.0], [0.0, 0.0]):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    assert parameter.tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_nan_stays_in_its_own_elements(foreach: bool, dtype: torch.dtype) -> None:
    """A NaN gradient moves its weight as torch.sign says (not at all) and leaves the others alone."""
    nan = float("nan")
    broken = torch.ones(35, dtype=dtype, requires_grad=True)
    whole = torch.ones(35, dtype=dtype, requires_grad=True)
    hurt = torch.zeros(35, dtype=torch.bool)
    hurt[[0, 17, 34]] = True
    optimizers = [Lion([p], lr=0.125, foreach=foreach) for p in (broken, whole)]
    random = torch.Generator().manual_seed(0)
    for step in range(4):
        gradient = torch.randn(35, generator=random).to(dtype)
        whole.grad, broken.grad = gradient.clone(), gradient.clone()
        if step == 1:
            broken.grad[hurt] = nan
        for optimizer in optimizers:
            optimizer.step()
        if step == 0:
            held = broken.detach()[hurt].clone()
    expected = held - 3 * 0.125 * torch.sign(torch.full((3,), nan, dtype=dtype))
    assert torch.equal(broken.detach()[hurt], expected)
    assert torch.equal(broken.detach()[~hurt], whole.detach()[~hurt])
    momenta = [o.state[p]["exp_avg"] for o, p in zip(optimizers, (broken, whole), strict=True)]
    assert torch.equal(momenta[0].isnan(), hurt)
    assert torch.equal(momenta[0][~hurt], momenta[1][~hurt])


def half_spacing(x: Tensor) -> Tensor:
    """Half the distance between neighbouring bfloat16 numbers (8 significant bits) around float64 values."""
    return torch.ldexp(torch.ones_like(x), torch.frexp(x).exponent - 9)


@pytest.mark.parametrize("foreach", [False, True])
def test_bfloat16_momentum_is_rounded_once_a_step(foreach: bool) -> None:
    """The stored momentum is the bfloat16 number nearest to the exact one, from float32 gradients."""
    random = torch.Generator().manual_seed(1)
    parameter = torch.zeros(2000, requires_grad=True)
    optimizer = Lion([parameter], betas=(0.9, 0.7), momentum_dtype=torch.bfloat16, foreach=foreach)
    momentum = torch.zeros(2000, dtype=torch.float64)
    for _ in range(6):
        gradient = torch.randn(2000, generator=random)
        parameter.grad = gradient.clone()
        optimizer.step()
        exact = 0.7 * momentum + (1 - 0.7) * gradient.double()
        stored = optimizer.state[parameter]["exp_avg"]
        assert stored.dtype == torch.bfloat16
        momentum = stored.double()
        # Float32 arithmetic adds up to about 2⁻²² of the larger summand before the one rounding.
        slack = 2**-21 * (momentum.abs() + gradient.double().abs())
        assert torch.all((momentum - exact).abs() <= half_spacing(exact) + slack)


@pytest.mark.parametrize("foreach", [False, True])
def test_bfloat16_momentum_gives_float32_directions(foreach: bool) -> None:
    """Gradients within a thousandth of cancelling the momentum: rounded to bfloat16, they'd give wrong signs."""
    parameter = torch.zeros(100, requires_grad=True)
    optimizer = Lion([parameter], lr=1.0, betas=(0.9, 0.0), momentum_dtype="bfloat16", foreach=foreach)
    first = torch.linspace(1, 2, 100).bfloat16().float()
    parameter.grad = first.clone()
    optimizer.step()  # β2 = 0: the momentum is the gradient
    over = torch.tensor([1.0, -1.0] * 50)
    parameter.grad = -9 * first * (1 + 1e-3 * over)
    before = parameter.detach().clone()
    optimizer.step()
    assert torch.equal(parameter.detach() - before, over)


@pytest.mark.parametrize("foreach", [False, True])
def test_bfloat16_weights_with_float32_momentum(foreach: bool) -> None:
    """The wider type does the arithmetic: the momentum never sees bfloat16 rounding of its own."""
    random = torch.Generator().manual_seed(1)
    weight = torch.ones(200, dtype=torch.bfloat16, requires_grad=True)
    optimizer = Lion([weight], lr=2.0**-7, momentum_dtype="float32", foreach=foreach)
    momentum = torch.zeros(200, dtype=torch.float64)
    for _ in range(5):
        weight.grad = torch.randn(200, generator=random).bfloat16()
        momentum = 0.99 * momentum + (1 - 0.99) * weight.grad.double()
        optimizer.step()
    assert weight.dtype == torch.bfloat16
    assert optimizer.state[weight]["exp_avg"].dtype == torch.float32
    torch.testing.assert_close(optimizer.state[weight]["exp_avg"].double(), momentum, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["rosenbrock", "quadratic"])
def test_descends(name: str) -> None:
    """With a decaying rate it comes to the minimum of two functions whose minimum is known."""
    parameter = torch.tensor([-0.5, 1.2], dtype=torch.float64, requires_grad=True)
    optimizer = Lion([parameter], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2000)
    for _ in range(2000):
        optimizer.zero_grad()
        x, y = parameter
        loss = (1 - x) ** 2 + 100 * (y - x**2) ** 2 if name == "rosenbrock" else (x - 1) ** 2 + 10 * (y - 1) ** 2
        loss.backward()
        optimizer.step()
        schedule.step()
    assert math.dist(parameter.tolist(), (1.0, 1.0)) < 0.05

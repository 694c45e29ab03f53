"""The programs that come along, each against the method that it is, written by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lion import Lion, reference
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import Program, load
from lion.discovery.optimizer import ProgramOptimizer

STEPS = 60


def run(name: str, dtype: type = np.float64) -> list[tuple[np.ndarray, ...]]:
    """A line a step: w before, g, lr, and update, m, v after. g is never 0, lr falls from 1 to 0."""
    random = np.random.default_rng(0)
    w, m, v = random.normal(size=40).astype(dtype), np.zeros(40, dtype), np.zeros(40, dtype)
    train, lines = compile_numpy(load(name)), []
    for step in range(STEPS):
        g, lr = random.normal(size=40).astype(dtype) + w, 1 - step / STEPS
        update, m, v = train(w, g, m, v, lr)
        lines.append((w, g, np.float64(lr), update, m, v))
        w = w - update
    return lines


def test_program_1_is_the_plain_lion() -> None:
    theta, momentum = run("program1")[0][0], np.zeros(40)
    for w, g, lr, update, m, _ in run("program1"):
        np.testing.assert_allclose(w, theta, rtol=1e-12)
        theta, momentum = reference.step(theta, momentum, g, float(lr), weight_decay=1.0)
        np.testing.assert_allclose(m, momentum, rtol=1e-12)
        np.testing.assert_allclose(w - update, theta, rtol=1e-12, atol=1e-15)


def without_decay() -> Program:
    program = load("program1")
    return program.replace(3, program.stmts[3]._replace(args=("w", 0.0)))


@pytest.mark.parametrize("foreach", [None, True])
def test_program_1_is_lion_to_the_last_bit(foreach: bool | None) -> None:
    """Weights and momentum over 120 steps in float32, with zeros and a NaN among the gradients, and one missing."""
    random = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(), (7,), (5, 3), (0, 2), (2, 3, 4)]
    first = [torch.randn(shape, generator=random).requires_grad_() for shape in shapes]
    second = [p.detach().clone().requires_grad_() for p in first]
    ours = ProgramOptimizer(first, without_decay(), lr=3e-3, foreach=foreach)
    lion = Lion(second, lr=3e-3, weight_decay=0.0, foreach=foreach)
    for step in range(120):
        for p, q in zip(first, second, strict=True):
            g = torch.randn(p.shape, generator=random) * (torch.rand(p.shape, generator=random) > 0.2)
            p.grad, q.grad = (None, None) if step % 5 == 4 else (g, g.clone())
        if step == 100:
            for p in (first[2], second[2]):
                assert isinstance(p.grad, Tensor)
                p.grad[1, 1] = float("nan")
        for optimizer in (ours, lion):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 120)
            optimizer.step()
        for p, q in zip(first, second, strict=True):
            assert torch.equal(p, q)
            assert torch.equal(ours.state[p]["m"].nan_to_num(), lion.state[q]["exp_avg"].nan_to_num())
    assert [set(ours.state[p]) for p in first] == [{"m"}] * 5


def test_with_decay_program_1_and_lion_differ_by_rounding_alone() -> None:
    """w - (sign + w) * lr against w * (1 - lr) - sign * lr: the same momentum, weights some ulp apart."""
    random = torch.Generator().manual_seed(1)
    first = torch.randn(500, generator=random).requires_grad_()
    second = first.detach().clone().requires_grad_()
    ours, lion = ProgramOptimizer([first], "program1", lr=1e-2), Lion([second], lr=1e-2, weight_decay=1.0)
    for _ in range(100):
        first.grad = torch.randn(500, generator=random)
        second.grad = first.grad.clone()
        ours.step()
        lion.step()
    assert torch.equal(ours.state[first]["m"], lion.state[second]["exp_avg"])
    torch.testing.assert_close(first, second, rtol=0, atol=2e-6)


def test_program_3_is_adamw_without_bias_correction_and_epsilon() -> None:
    m, v = np.zeros(40), np.zeros(40)
    for w, g, lr, update, *_ in run("program3"):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        np.testing.assert_allclose(update, 1e-3 * lr * (m / np.sqrt(v) + 0.01 * w), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "beta1", "beta2", "peak", "decay"),
    [
        ("program4", 0.899, 0.899 * 1.109, 0.0002, 0.4602),
        (
            "program8",
            0.8999999761581421,
            0.8999999761581421 * 1.109133005142212,
            0.0002171761734643951,
            0.4601978361606598,
        ),
    ],
)
def test_programs_4_and_8_are_lion_on_a_clipped_gradient(
    name: str, beta1: float, beta2: float, peak: float, decay: float
) -> None:
    """One state, the moving average of arcsin(clip(g, lr)), whose factor is the product of the two: 0.998, not 0.99."""
    v = np.zeros(40)
    assert beta2 == pytest.approx(0.997 if name == "program4" else 0.99822, abs=1e-4)
    for w, g, lr, update, _, state in run(name):
        x = np.arcsin(g * min(1, lr / np.linalg.norm(g)))
        direction = np.sign((1 - beta1) * x + beta1 * v)
        v = beta2 * v + (1 - beta2) * x
        np.testing.assert_allclose(state, v, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(update, lr * peak * (direction + decay * w), rtol=1e-9, atol=1e-15)


def test_program_5_decays_by_the_inner_product_of_gradient_and_weights() -> None:
    m, v = np.zeros(40), np.zeros(40)
    for w, g, lr, update, *_ in run("program5"):
        m, v = 0.84 * m + 0.16 * g, 0.999 * v + 0.001 * g * g
        np.testing.assert_allclose(update, lr * 0.0216 * (np.sin(m / np.sqrt(v)) + (g @ w) * w), rtol=1e-9, atol=1e-12)
        v = np.sin(v)


def test_program_6_sums_squares_up_to_pi() -> None:
    m, v = np.zeros(40), np.zeros(40)
    for _, g, lr, update, *_ in run("program6"):
        m, v = 0.9 * m + 0.1 * g, v + 0.0015 * g * g
        np.testing.assert_allclose(update, lr * 0.0606 * np.sinh(m / np.sqrt(v)), rtol=1e-9)
        v = np.minimum(v, np.pi)


def test_program_7_is_adabelief_without_bias_correction_and_epsilon() -> None:
    m, v = np.zeros(40), np.zeros(40)
    for w, g, lr, update, *_ in run("program7"):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * (g - m) ** 2
        np.testing.assert_allclose(update, lr * 0.03721 * (m / np.sqrt(v) + 0.0238 * w), rtol=1e-9)


def test_lion_without_its_sign_is_an_average_of_gradients() -> None:
    m = np.zeros(40)
    for w, g, lr, update, *_ in run("lion_without_sign"):
        np.testing.assert_allclose(update, 1e-3 * lr * (0.9 * m + 0.1 * g + 0.01 * w), rtol=1e-9, atol=1e-15)
        m = 0.99 * m + 0.01 * g


def test_programs_in_float32_follow_those_in_float64() -> None:
    for name in ("program3", "program5", "program6", "program7"):
        for step32, step64 in zip(run(name, np.float32)[:20], run(name)[:20], strict=True):
            np.testing.assert_allclose(step32[3], step64[3], rtol=2e-3, atol=2e-4)

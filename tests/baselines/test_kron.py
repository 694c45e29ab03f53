"""PSGD Kron beside its formulas with dense Kronecker products in numpy and beside timm's class, with the same noise."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from baselines import SOAP, Kron, kron, soap
from baselines.axes import gram
from tests.baselines.test_parity import RECORD

LR, DECAY = RECORD["lr"], float(RECORD["weight_decay"])
STEPS = len(LR)


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What torch.randn gave while the test ran, and gives again once the list is as long as it will be."""
    drawn: list[Tensor] = []
    randn = torch.randn

    def recorded(*shape: Any, **kwargs: Any) -> Tensor:
        drawn.append(randn(*shape, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn", recorded)
    return drawn


def gradients(*shape: int, scale: float = 1.0) -> list[Tensor]:
    """Of directions of unlike size, so that there is something to whiten."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.logspace(0, -2, shape[-1], dtype=torch.float64)
    return [scale * sizes * torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(STEPS)]


def trained(optimizer: torch.optim.Optimizer, weight: Parameter, grads: list[Tensor]) -> list[np.ndarray]:
    """The weight after each step, at the rates of the recorded schedule."""
    path = []
    for grad, lr in zip(grads, LR, strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        weight.grad = grad.to(weight.dtype)
        optimizer.step()
        path.append(weight.detach().double().numpy().copy())
    return path


def norm(symmetric: np.ndarray) -> float:
    """The lower bound of the authors' code: from the row of the largest norm."""
    row = symmetric[np.argmax((symmetric**2).sum(1))]
    x = symmetric @ row
    return float(np.linalg.norm(symmetric @ x) / np.linalg.norm(x))


def matrix(theta: np.ndarray, grads: list[Tensor], noises: list[Tensor]) -> list[np.ndarray]:
    """The preconditioner as one dense matrix over all elements of the weight."""
    rows, columns = theta.shape
    left, right, m, path = np.eye(rows), np.eye(columns), np.zeros_like(theta), []
    for t, (g, v, lr) in enumerate(zip(grads, noises, LR, strict=True), 1):
        m = 0.9 * m + 0.1 * g.numpy()
        corrected = m / (1 - 0.9**t)
        product = np.kron(left, right)
        a = (product @ corrected.ravel()).reshape(theta.shape)
        b = np.linalg.solve(product.T, v.numpy().ravel()).reshape(theta.shape)
        of_left = np.triu(a @ a.T - b @ b.T) / norm(a @ a.T + b @ b.T)
        of_right = np.triu(a.T @ a - b.T @ b) / norm(a.T @ a + b.T @ b)
        left, right = left - 0.1 * of_left @ left, right - 0.1 * of_right @ right
        product = np.kron(left, right)
        update = (product.T @ product @ corrected.ravel()).reshape(theta.shape)
        update *= min(1.0, 1.1 / (np.sqrt((update**2).mean()) + 1e-8))
        theta = theta - lr * (update + DECAY * theta)
        path.append(theta)
    return path


def vector(theta: np.ndarray, grads: list[Tensor], noises: list[Tensor]) -> list[np.ndarray]:
    """Each element's own factor."""
    q, m, path = np.ones_like(theta), np.zeros_like(theta), []
    for t, (g, v, lr) in enumerate(zip(grads, noises, LR, strict=True), 1):
        m = 0.9 * m + 0.1 * g.numpy()
        corrected = m / (1 - 0.9**t)
        a, b = q * corrected, v.numpy() / q
        q = q - 0.1 * (a**2 - b**2) / (a**2 + b**2).max() * q
        update = q**2 * corrected
        update *= min(1.0, 1.1 / (np.sqrt((update**2).mean()) + 1e-8))
        theta = theta - lr * (update + DECAY * theta)
        path.append(theta)
    return path


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (9,)], ids=str)
def test_it_follows_its_formulas(shape: tuple[int, ...], scale: float, noise: list[Tensor]) -> None:
    grads = gradients(*shape, scale=scale)
    weight = Parameter(torch.linspace(-1, 1, grads[0].numel(), dtype=torch.float64).reshape(shape))
    start = weight.detach().numpy().copy()
    noise.clear()
    path = trained(Kron([weight], weight_decay=DECAY), weight, grads)
    expected = (matrix if len(shape) == 2 else vector)(start, grads, noise)
    assert len(noise) == STEPS
    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-9 * LR.max())
    assert np.abs(expected[-1] - start).max() > LR.max()


@pytest.mark.filterwarnings("ignore:.*opt_einsum")
@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 2, 2), (1, 6), (8,), ()], ids=str)
def test_it_is_timms_class_with_the_same_noise(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """timm solves triangular systems in float32, so it parts from float64 by that much."""
    from timm.optim.kron import Kron as TimmKron

    grads = gradients(*shape) if shape else [grad[0] for grad in gradients(1)]
    draws = [torch.randn_like(grad) for grad in grads]
    ends = []
    for make, given in ((Kron, {}), (TimmKron, {"decoupled_decay": True, "max_size_triangular": 8192})):
        upcoming = iter(draws)
        monkeypatch.setattr(torch, "randn", lambda size, given=upcoming, **_: next(given).reshape(size))
        weight = Parameter(torch.ones(shape, dtype=torch.float64))
        with torch.compiler.set_stance("force_eager"):
            ends.append(trained(make([weight], lr=1.0, weight_decay=DECAY, **given), weight, grads))
    np.testing.assert_allclose(*ends, rtol=0, atol=2e-4 * LR.max())


@pytest.mark.filterwarnings("ignore:.*opt_einsum")
def test_fits_come_when_timms_come(noise: list[Tensor]) -> None:
    """At every step of the first 500, then ever more rarely, 3 in 100 from step 4,000 on."""
    from timm.optim.kron import Kron as TimmKron

    steps_of: list[list[int]] = []
    for make in (Kron, TimmKron):
        weight = Parameter(torch.ones(2))
        optimizer = make([weight], lr=0.0)
        steps, before = [], len(noise)
        with torch.compiler.set_stance("force_eager"):
            for step in range(4300):
                weight.grad = torch.ones(2)
                optimizer.step()
                if len(noise) > before:
                    steps.append(step)
                    before = len(noise)
        steps_of.append(steps)
    ours, timms = steps_of
    assert ours == timms
    assert ours[:501] == list(range(501))
    assert set(np.diff(ours[-5:])) == {34}


def test_a_long_axis_has_a_diagonal_factor() -> None:
    weight = Parameter(torch.zeros(12, 5))
    weight.grad = torch.ones(12, 5)
    optimizer = Kron([weight], max_size_triangular=10)
    optimizer.step()
    assert [optimizer.state[weight][f"factor{axis}"].shape for axis in (0, 1)] == [(12,), (5, 5)]


def test_the_update_becomes_white() -> None:
    """Whatever the gradients' covariance, that of the updates comes to be the identity: what PSGD is for."""
    torch.manual_seed(0)
    mixing = torch.diag(torch.logspace(0, -1.5, 8)) @ torch.linalg.qr(torch.randn(8, 8))[0]
    weight = Parameter(torch.zeros(16, 8))
    optimizer = Kron([weight], lr=1.0, beta=0.0)
    updates = []
    for step in range(500):
        weight.grad = torch.randn(16, 8) @ mixing
        before = weight.detach().clone()
        optimizer.step()
        if step >= 300:
            updates.append(before - weight.detach())
    rows = torch.cat(updates)
    spread = torch.linalg.eigvalsh(rows.T @ rows / len(rows))
    assert 0.5 < spread.min() <= spread.max() < 2
    assert torch.linalg.cond(mixing.T @ mixing) > 900


def test_a_parameter_that_never_has_a_gradient_stays_finite() -> None:
    """Its noise would make the factors grow at every fit, here to nearly the double."""
    weight = Parameter(torch.ones(3, 2))
    optimizer = Kron([weight], lr=0.1, precond_lr=0.9)
    for _ in range(200):
        weight.grad = torch.zeros(3, 2)
        optimizer.step()
    weight.grad = torch.ones(3, 2)
    optimizer.step()
    assert all(q.isfinite().all() for q in optimizer.state[weight].values() if torch.is_tensor(q))
    assert weight.isfinite().all()


def test_every_process_and_a_resumed_run_draw_the_same(noise: list[Tensor]) -> None:
    """Whatever the state of torch's own generator, and each parameter its own."""
    seen = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights = [Parameter(torch.zeros(3, 2)), Parameter(torch.zeros(3, 2))]
        optimizer = Kron(weights)
        noise.clear()
        for _ in range(2):
            for weight in weights:
                weight.grad = torch.ones(3, 2)
            optimizer.step()
        seen.append([*noise])
    assert all(map(torch.equal, *seen))
    assert len({tuple(drawn.ravel().tolist()) for drawn in seen[0]}) == 4


@pytest.mark.parametrize(
    "given", [{"beta": 1.0}, {"precond_lr": -1.0}, {"max_size_triangular": "x"}, {"lr": float("nan")}], ids=str
)
def test_settings_out_of_their_range_are_refused(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(ValueError, match=name):
        Kron([Parameter(torch.zeros(1))], **given)


def test_a_convolutions_axes_are_solved_as_one_matrix(monkeypatch) -> None:
    """A batch would hold a copy of the factor for each of its items: gigabytes for a ResNet."""
    solve, dimensions = torch.linalg.solve_triangular, []

    def watched(a, b, **options):
        dimensions.append(b.ndim)
        return solve(a, b, **options)

    monkeypatch.setattr(torch.linalg, "solve_triangular", watched)
    tensor = torch.randn(6, 4, 3, 2, dtype=torch.float64)
    factors = {axis: torch.randn(size, size, dtype=torch.float64).triu_() for axis, size in enumerate(tensor.shape)}
    factors = {axis: q + 4 * torch.eye(len(q), dtype=torch.float64) for axis, q in factors.items()}
    inverses = [torch.linalg.inv(q) for q in factors.values()]
    expected = torch.einsum("abcd,aw,bx,cy,dz->wxyz", tensor, *inverses)
    torch.testing.assert_close(kron._divided(tensor, factors), expected)
    assert dimensions == [2, 2, 2, 2]


@pytest.mark.parametrize("make", [Kron, SOAP])
def test_preconditioners_are_exact_where_the_model_takes_tf32(monkeypatch, make) -> None:
    seen = []
    for module in (kron, soap):
        monkeypatch.setattr(
            module, "gram", lambda *given: seen.append(torch.get_float32_matmul_precision()) or gram(*given)
        )
    weight = Parameter(torch.randn(4, 3))
    optimizer, before = make([weight]), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        for _ in range(2):
            weight.grad = torch.randn(4, 3)
            optimizer.step()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen
    assert set(seen) == {"highest"}

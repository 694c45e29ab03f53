"""Fifty steps of the field's newer optimizers beside their papers' formulas, written down again in float64 numpy.

Gradients, rates and start are those of test_parity.py. Deviations are in units of the peak learning rate.
"""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from recipes.runs.build import optimizer_factory
from recipes.training.param_groups import set_training
from tests.baselines.conftest import OPTIM
from tests.baselines.test_parity import RECORD

LR, DECAY = RECORD["lr"], float(RECORD["weight_decay"])
EXACT = 1e-9


def gradients(name):
    return [g * RECORD[f"scale/{name}"].astype(np.float64) for g in RECORD[f"gradients/{name}"]]


def start(name):
    return RECORD[f"start/{name}"].astype(np.float64)


def ours(yaml, names, evaluated=False, dtype=torch.float64, shape=None, **settings):
    """Every parameter after each step of the optimizer of a file, which gets them in this shape."""
    optim = OmegaConf.load(OPTIM / f"{yaml}.yaml")
    optim.update({"weight_decay": DECAY, "lr": 1.0} | settings)
    starts = {name: torch.tensor(start(name), dtype=dtype) for name in names}
    params = {name: torch.nn.Parameter(value.reshape(shape or value.shape)) for name, value in starts.items()}
    optimizer = optimizer_factory(optim)(list(params.values()))
    peaks = [group["lr"] for group in optimizer.param_groups]
    path = []
    for step, lr in enumerate(LR):
        set_training(optimizer, True)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * float(lr)
        for name in names:
            params[name].grad = torch.tensor(gradients(name)[step], dtype=dtype).reshape(params[name].shape)
        optimizer.step()
        if evaluated:
            set_training(optimizer, False)
        path.append({name: p.detach().double().view(starts[name].shape).numpy().copy() for name, p in params.items()})
    return path


def deviation(path, name, expected):
    """The largest distance from an expected path over all steps, in peak learning rates."""
    pairs = zip(path, expected, strict=True)
    return max(np.abs(there[name] - theta).max() for there, theta in pairs) / LR.max()


def decayed(theta, lr, update):
    return theta - lr * (update + DECAY * theta)


def adam(name, betas, eps, weight=None):
    """AdamW with bias correction."""
    theta, m, v = start(name), 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients(name), LR, strict=True), 1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        update = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        theta = decayed(theta, lr, update)
        yield theta


def ademamix(name, horizon):
    theta, m, n, v = start(name), 0.0, 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients(name), LR, strict=True), 1):
        share, a, b = min(t / horizon, 1.0), np.log(0.9), np.log(0.9999)
        beta3 = min(np.exp(a * b / ((1 - share) * b + share * a)), 0.9999)
        m, n, v = 0.9 * m + 0.1 * g, beta3 * n + (1 - beta3) * g, 0.999 * v + 0.001 * g**2
        update = (m / (1 - 0.9**t) + 8 * share * n) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        theta = decayed(theta, lr, update)
        yield theta


@pytest.mark.parametrize("horizon", [20, 50, 1000])
def test_ademamix(horizon):
    path = ours("ademamix", ["vector", "matrix"], warmup_steps=horizon)
    for name in ("vector", "matrix"):
        assert deviation(path, name, ademamix(name, horizon)) < EXACT


def test_the_rise_of_ademamix_takes_the_length_of_the_run():
    run = OmegaConf.create({"steps": 700, "optim": OmegaConf.load(OPTIM / "ademamix.yaml")})
    assert run.optim.warmup_steps == 700
    assert OmegaConf.load(OPTIM / "ademamix.yaml").warmup_steps is None


def mars(name):
    theta, m, v, last = start(name), 0.0, 0.0, None
    for t, (g, lr) in enumerate(zip(gradients(name), LR, strict=True), 1):
        c = g if last is None else g + 0.025 * 0.95 / 0.05 * (g - last)
        c, last = c / max(1.0, np.linalg.norm(c)), g
        m, v = 0.95 * m + 0.05 * c, 0.99 * v + 0.01 * c**2
        theta = decayed(theta, lr, m / (1 - 0.95**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8))
        yield theta


def test_mars():
    path = ours("mars", ["vector", "matrix"])
    assert deviation(path, "matrix", mars("matrix")) < EXACT
    assert deviation(path, "vector", adam("vector", (0.9, 0.95), 1e-8)) < EXACT


def test_mars_corrects_kernels_of_convolutions_as_matrices():
    path = ours("mars", ["matrix"], shape=(6, 5, 1, 1))
    assert deviation(path, "matrix", mars("matrix")) < EXACT


def adopt(name):
    theta, m, v = start(name), 0.0, None
    for t, (g, lr) in enumerate(zip(gradients(name), LR, strict=True)):
        if v is None:
            v = g**2
        else:
            m = 0.9 * m + 0.1 * np.clip(g / np.maximum(np.sqrt(v), 1e-6), -(t**0.25), t**0.25)
            theta = decayed(theta, lr, m)
            v = 0.9999 * v + 0.0001 * g**2
        yield theta


def test_adopt():
    path = ours("adopt", ["vector", "matrix"])
    for name in ("vector", "matrix"):
        assert deviation(path, name, adopt(name)) < EXACT


def soap(g_all, theta, every=10):
    """A matrix, by Algorithm 3 with numpy's decompositions; the first gradient makes the bases."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    left, right = 0.05 * g_all[0] @ g_all[0].T, 0.05 * g_all[0].T @ g_all[0]
    q_left, q_right = (np.linalg.eigh(side)[1][:, ::-1] for side in (left, right))
    theta = theta - LR[0] * DECAY * theta
    yield theta
    for t, (g, lr) in enumerate(zip(g_all[1:], LR[1:], strict=True), 1):
        m = 0.95 * m + 0.05 * g
        v = 0.95 * v + 0.05 * (q_left.T @ g @ q_right) ** 2
        rotated = (q_left.T @ m @ q_right) / (1 - 0.95**t) / (np.sqrt(v) / np.sqrt(1 - 0.95**t) + 1e-30)
        theta = decayed(theta, lr, q_left @ rotated @ q_right.T)
        left, right = 0.95 * left + 0.05 * g @ g.T, 0.95 * right + 0.05 * g.T @ g
        if t % every == 0:
            order = np.argsort(-np.diag(q_left.T @ left @ q_left), kind="stable")
            q_left, v = np.linalg.qr((left @ q_left)[:, order])[0], v[order]
            order = np.argsort(-np.diag(q_right.T @ right @ q_right), kind="stable")
            q_right, v = np.linalg.qr((right @ q_right)[:, order])[0], v[:, order]
        yield theta


def test_soap():
    """Rows and columns are scaled alike, so that no eigenvalue is at rounding, where bases are chance."""
    optim = OmegaConf.load(OPTIM / "soap.yaml")
    optim.update({"weight_decay": DECAY, "lr": 1.0, "eps": 0.0})
    random = np.random.default_rng(0)
    mixing = random.normal(size=(5, 5))
    grads = [random.normal(size=(6, 5)) @ mixing for _ in LR]
    weight = torch.nn.Parameter(torch.tensor(start("matrix")))
    optimizer = optimizer_factory(optim)([weight])
    path = []
    for g, lr in zip(grads, LR, strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        weight.grad = torch.tensor(g)
        optimizer.step()
        path.append({"matrix": weight.detach().numpy().copy()})
    # The null direction of the first, rank-5 gradient's left side leaves one basis vector without a moment: eps 0.
    assert deviation(path, "matrix", soap(grads, start("matrix"))) < 1e-6


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("rows", [400, 1000])
def test_soap_takes_an_embeddings_gradient_in_which_most_words_have_none(rows: int, scale: float) -> None:
    """Decompositions of such matrices do not converge in float32."""
    weight = torch.nn.Parameter(torch.zeros(rows, 64))
    optimizer = optimizer_factory(OmegaConf.load(OPTIM / "soap.yaml"))([weight])
    random = torch.Generator().manual_seed(0)
    seen = torch.randperm(rows, generator=random)[:20]
    for _ in range(12):
        weight.grad = torch.zeros(rows, 64)
        weight.grad[seen] = scale * torch.randn(20, 64, generator=random)
        optimizer.step()
        for axis, size in enumerate(weight.shape):
            basis = optimizer.state[weight][f"basis{axis}"]
            torch.testing.assert_close(basis.mT @ basis, torch.eye(size), rtol=0, atol=1e-4)
    assert weight.isfinite().all()
    assert weight[seen].abs().min() > 0


def test_a_first_gradient_that_is_not_finite_reaches_the_weights_of_soap():
    """A run then ends as diverged, as with every other optimizer, and not in an error of the decomposition."""
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = optimizer_factory(OmegaConf.load(OPTIM / "soap.yaml"))([weight])
    for value in (float("nan"), 1.0, 1.0):
        weight.grad = torch.full((4, 3), value)
        optimizer.step()
    weight.grad = torch.full((4, 3), float("nan"))
    optimizer.step()
    assert weight.isnan().all()


def test_vectors_of_soap_take_adam_from_the_second_gradient_on():
    path = ours("soap", ["vector"], eps=1e-30)
    theta, m, v = start("vector"), 0.0, 0.0
    expected = []
    for t, (g, lr) in enumerate(zip(gradients("vector"), LR, strict=True)):
        update = 0.0
        if t:
            m, v = 0.95 * m + 0.05 * g, 0.95 * v + 0.05 * g**2
            update = m / (1 - 0.95**t) / np.maximum(np.sqrt(v / (1 - 0.95**t)), 1e-30)
        theta = decayed(theta, lr, update)
        expected.append(theta)
    assert deviation(path, "vector", expected) < EXACT


def newton_schulz(matrix, steps):
    """The same polynomial of the singular values, by an exact decomposition."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / max(np.linalg.norm(s), 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ v


def muon(name):
    theta, m = start(name), np.zeros_like(start(name))
    for g, lr in zip(gradients(name), LR, strict=True):
        m = 0.95 * m + 0.05 * g
        update = 0.2 * np.sqrt(max(g.shape)) * newton_schulz(0.95 * m + 0.05 * g, 5)
        theta = decayed(theta, lr, update)
        yield theta


def lion_muon(name):
    theta, m = start(name), np.zeros_like(start(name))
    for step, (g, lr) in enumerate(zip(gradients(name), LR, strict=True)):
        c, m = 0.95 * m + 0.05 * g, 0.99 * m + 0.01 * g
        update = 0.01 * np.sign(c) if step % 5 else 0.2 * np.sqrt(max(g.shape)) * newton_schulz(c, 6)
        theta = decayed(theta, lr, update)
        yield theta


def lion(name, ratio):
    theta, m = start(name), 0.0
    for g, lr in zip(gradients(name), LR, strict=True):
        c, m = 0.9 * m + 0.1 * g, 0.99 * m + 0.01 * g
        theta = decayed(theta, lr, ratio * np.sign(c))
        yield theta


@pytest.mark.parametrize("name", ["matrix", "large"])
def test_muon_follows_its_polynomial_to_the_rounding_of_bfloat16(name):
    """The rates add up to 27 peak rates; bfloat16 has 3 digits."""
    total, moved = LR.sum() / LR.max(), 0.2 * np.sqrt(max(start(name).shape))
    for yaml, rule in (("muon", muon), ("muon_lion", muon), ("lion_muon", lion_muon)):
        share = deviation(ours(yaml, [name, "vector"]), name, rule(name)) / (total * moved)
        assert share < 0.01, yaml


def test_what_is_no_matrix_takes_the_other_rule():
    for yaml in ("muon", "lion_muon"):
        path = ours(yaml, ["matrix", "vector"])
        assert deviation(path, "vector", adam("vector", (0.9, 0.95), 1e-8)) < EXACT
    optim = OmegaConf.load(OPTIM / "muon_lion.yaml")
    optim.routes.lion.momentum_dtype = None
    path = ours("muon_lion", ["matrix", "vector"], routes=optim.routes)
    assert deviation(path, "vector", lion("vector", 0.2)) < EXACT


@pytest.mark.parametrize("yaml", ["muon", "lion_muon"])
def test_an_orthogonalized_step_is_as_large_as_adamws(yaml):
    """match_rms_adamw: the root mean square of the first update is about 0.2 whatever the shape."""
    for shape in ((64, 64), (32, 128), (128, 32)):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.zeros(shape))
        optim = OmegaConf.load(OPTIM / f"{yaml}.yaml")
        optim.lr = 1.0
        optimizer = optimizer_factory(optim)([weight])
        weight.grad = torch.randn(shape)
        optimizer.step()
        assert 0.7 * 0.2 < weight.square().mean().sqrt() < 1.3 * 0.2


def schedule_free(name, evaluated):
    """In the x, y, z of the paper: its average weighs each z by the square of the largest rate so far."""
    x = y = z = start(name)
    v, weights, largest = 0.0, 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients(name), LR, strict=True), 1):
        v = 0.999 * v + 0.001 * g**2
        z = z - lr * (g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + DECAY * y)
        largest = max(largest, lr)
        weights += largest**2
        x = x + largest**2 / weights * (z - x)
        y = 0.1 * z + 0.9 * x
        yield x if evaluated else y


@pytest.mark.parametrize("evaluated", [False, True], ids=["trained", "evaluated"])
def test_schedule_free(evaluated):
    path = ours("schedule_free_adamw", ["vector", "matrix"], evaluated)
    for name in ("vector", "matrix"):
        assert deviation(path, name, schedule_free(name, evaluated)) < EXACT


def prodigy(names):
    """All parameters together: the rate is one for all."""
    thetas = {name: start(name) for name in names}
    m, v, s = (dict.fromkeys(names, 0.0) for _ in range(3))
    d, r, b3 = 1e-6, 0.0, np.sqrt(0.999)
    for step, lr in enumerate(100 * LR):
        g = {name: gradients(name)[step] for name in names}
        r = b3 * r + lr * d**2 * sum(np.vdot(g[n], start(n) - thetas[n]) for n in names)
        s = {n: b3 * s[n] + lr * d**2 * g[n] for n in names}
        m = {n: 0.9 * m[n] + 0.1 * d * g[n] for n in names}
        v = {n: 0.999 * v[n] + 0.001 * (d * g[n]) ** 2 for n in names}
        larger = max(d, r / sum(np.abs(s[n]).sum() for n in names))
        for n in names:
            thetas[n] = decayed(thetas[n], lr * d, m[n] / (np.sqrt(v[n]) + larger * 1e-8))
        d = larger
        yield dict(thetas), d


def test_prodigy():
    names = ["vector", "matrix"]
    path = ours("prodigy", names, lr=100.0)
    expected = list(prodigy(names))
    for name in names:
        assert deviation(path, name, [thetas[name] for thetas, _ in expected]) < EXACT
    assert expected[-1][1] > 3e-6, "the rate has grown"

"""The proxy task: its gradient and training against torch's, common random numbers, and programs that diverge."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lion.discovery.language.program import load, parse
from lion.discovery.optimizer import ProgramOptimizer
from lion.discovery.tasks.proxy import DIVERGED, Task, rescaled, swept, teacher

TASK = Task(teacher(), hidden=8, steps=40, batch_size=32)


def network(w: np.ndarray) -> list[Tensor]:
    """One copy's arrays as torch parameters in float64."""
    parts = np.split(w.astype(np.float64), np.cumsum(TASK.lengths)[:-1])
    return [torch.tensor(p.reshape(s), requires_grad=True) for p, s in zip(parts, TASK.shapes, strict=True)]


def loss_of(params: list[Tensor], x: np.ndarray, y: np.ndarray) -> Tensor:
    w1, b1, w2, b2 = params
    scores = torch.tanh(torch.tensor(x, dtype=torch.float64) @ w1 + b1) @ w2 + b2
    return nn.functional.cross_entropy(scores, torch.tensor(y))


def test_loss_and_gradient_are_torchs() -> None:
    w = TASK._start["weights"] + np.random.default_rng(0).normal(size=TASK._start["weights"].shape).astype(np.float32)
    x, y = TASK.data.train_x[:96].reshape(6, 16, -1), TASK.data.train_y[:96].reshape(6, 16)
    gradient = TASK._gradient(w, x, y)
    losses = TASK._loss(w, TASK.data.val_x, TASK.data.val_y)
    assert gradient.dtype == losses.dtype == np.float32
    for copy in range(6):
        params = network(w[copy])
        loss_of(params, x[copy], y[copy]).backward()  # type: ignore[no-untyped-call]
        expected = torch.cat([p.grad.flatten() for p in params if p.grad is not None]).numpy()
        np.testing.assert_allclose(gradient[copy], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(losses[copy], loss_of(params, TASK.data.val_x, TASK.data.val_y).item(), rtol=1e-5)


@pytest.mark.parametrize("name", ["program3", "program4", "program8"])
def test_training_is_what_the_program_does_in_torch(name: str) -> None:
    """A whole training of one copy by ProgramOptimizer in float64, batches and labels as the task draws them."""
    losses = TASK.losses(load(name))
    assert losses is not None
    params = network(TASK._start["weights"][2])
    optimizer = ProgramOptimizer(params, name)
    for step in range(TASK.steps):
        indices = TASK._start["batches"][step, 2]
        optimizer.zero_grad()
        loss_of(params, TASK.data.train_x[indices], TASK._start["labels"][2, indices]).backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = 0.5 * (1 + math.cos(math.pi * step / TASK.steps))
        optimizer.step()
    assert losses[2] == pytest.approx(loss_of(params, TASK.data.val_x, TASK.data.val_y).item(), rel=2e-3)


def test_random_numbers_are_common_and_seeds_independent() -> None:
    adamw = load("program3")
    losses, again = TASK.losses(adamw, 10), Task(teacher(), hidden=8, steps=40, batch_size=32).losses(adamw, 10)
    assert losses is not None
    assert again is not None
    assert losses.tobytes() == again.tobytes()
    alone = TASK.with_seeds([3]).losses(adamw, 10)
    assert alone is not None
    assert alone[0] == pytest.approx(losses[3], rel=1e-5)  # a copy does not see the others
    assert len({float(loss) for loss in losses}) == 6
    assert TASK.fitness(adamw, 10) == pytest.approx(losses.mean())


def test_an_epoch_shows_each_example_once_and_labels_are_noisy() -> None:
    task = Task(teacher(examples=600), seeds=(0, 1), steps=20, batch_size=20, label_noise=0.3)
    batches = task._start["batches"]
    assert batches.shape == (20, 2, 20)
    for seed in range(2):
        assert sorted(batches[:, seed].ravel()) == list(range(400))
        wrong = (task._start["labels"][seed] != task.data.train_y).mean()
        assert 0.15 < wrong < 0.3  # a fourth of the replaced labels falls on the old one
    assert (batches[:, 0] != batches[:, 1]).any()


def test_a_program_that_diverges_is_cut_short() -> None:
    for line in ("update = g * -10.0", "update = sqrt(g)", "update = g / 0.0"):
        program = parse(f"def train(w, g, m, v, lr):\n    {line}\n    return update, m, v\n")
        if line == "update = g / 0.0":  # which is 0: no divergence, the network stays where it began
            assert TASK.fitness(program) == pytest.approx(
                TASK._loss(TASK._start["weights"], TASK.data.val_x, TASK.data.val_y).mean()
            )
        else:
            assert TASK.fitness(program) == DIVERGED
    steps: list[int] = []

    class Counted(Task):
        def gradient(self, w: np.ndarray, step: int) -> np.ndarray:
            steps.append(step)
            return super().gradient(w, step)

    task = Counted(teacher(), hidden=8, steps=40, batch_size=32)
    assert task.fitness(load("program3")) == TASK.fitness(load("program3"))
    assert steps == list(range(40))
    steps.clear()
    assert task.fitness(load("program3"), 1e30) == DIVERGED
    assert steps == list(range(4))  # the first look is after a tenth


def test_training_helps_and_the_sweep_finds_the_best_factor() -> None:
    adamw = load("program3")
    factor, fitness = swept(TASK, adamw, (0.1, 1, 10, 1000))
    assert factor == 10
    assert fitness == TASK.fitness(adamw, 10) < 0.8 * TASK.fitness(adamw, 0.1)


def test_rescaled_features_differ_by_magnitudes_and_hold_the_same_information() -> None:
    data = teacher()
    scaled = rescaled(data)
    ratio = scaled.train_x / data.train_x
    assert ratio.std(0).max() < 1e-2 * ratio.mean()
    assert ratio.max() / ratio.min() > 100
    np.testing.assert_allclose(scaled.val_x / data.val_x, ratio[: len(data.val_x)], rtol=1e-5)
    assert (scaled.train_y == data.train_y).all()

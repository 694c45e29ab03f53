import math

import pytest
import torch
from accelerate import Accelerator

from recipes.training.step_statistics import StepStatistics


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_a_window_has_the_mean_of_its_steps(accelerator: Accelerator) -> None:
    statistics = StepStatistics(0, 4, accelerator)
    for step, loss in enumerate([1.0, 2.0, 4.0]):
        statistics.add_loss(step, torch.tensor(loss / 2))
        statistics.add_loss(step, torch.tensor(loss / 2))  # two micro-batches
        statistics.add_seconds(0.5)
    window = statistics.close(3)
    assert (window.loss, window.bad_step, window.steps_per_second) == (pytest.approx(7 / 3), None, 2.0)
    statistics.add_loss(3, torch.tensor(10.0))
    statistics.add_seconds(0.25)
    assert (statistics.close(4).loss, statistics.steps_per_second) == (10.0, 4.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_the_first_bad_step_is_named(accelerator: Accelerator, bad: float, at: int) -> None:
    statistics = StepStatistics(10, 5, accelerator)
    for step in range(10, 15):
        statistics.add_loss(step, torch.tensor(bad if step >= 10 + at else 3.0))
        statistics.add_seconds(0.1)
    window = statistics.close(15)
    assert window.bad_step == 10 + at + 1
    assert window.loss == (3.0 if at else None)
    assert window.cause == f"training loss is {bad}"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_counts_as_much_as_a_loss(accelerator: Accelerator, bad: float) -> None:
    statistics = StepStatistics(0, 5, accelerator)
    for step in range(5):
        statistics.add_loss(step, torch.tensor(3.0 if step < 4 else math.nan))
        statistics.add_gradient(step, torch.tensor(bad if step == 2 else 1.0))
        statistics.add_seconds(0.1)
    window = statistics.close(5)
    assert (window.bad_step, window.cause, window.loss) == (3, f"gradient norm is {bad}", 3.0)


def test_the_first_window_counts_only_where_there_is_no_other(accelerator: Accelerator) -> None:
    statistics = StepStatistics(0, 2, accelerator)
    for done, seconds in ((2, 10.0), (4, 1.0), (6, 0.5), (8, 0.25)):
        for step in (done - 2, done - 1):
            statistics.add_loss(step, torch.tensor(0.0))
        statistics.add_seconds(seconds)
        statistics.close(done)
        if done == 2:
            assert statistics.steps_per_second == 0.2
    assert statistics.steps_per_second == 4.0


def test_a_window_that_a_checkpoint_fell_into_goes_on(accelerator: Accelerator) -> None:
    whole, first = StepStatistics(0, 4, accelerator), StepStatistics(0, 4, accelerator)
    losses = [0.1, 0.7, 0.3, 0.9]
    for step, loss in enumerate(losses):
        whole.add_loss(step, torch.tensor(loss))
        if step < 3:
            first.add_loss(step, torch.tensor(loss))
            first.add_gradient(step, torch.tensor(math.nan if step == 1 else 1.0))
    second = StepStatistics(3, 4, accelerator, first.steps(3))
    assert second.start == 0
    second.add_loss(3, torch.tensor(losses[3]))
    whole.add_seconds(1.0)
    second.add_seconds(0.5)
    assert [loss for loss, _ in second.steps(4)] == [loss for loss, _ in whole.steps(4)]
    window = second.close(4)
    assert (window.bad_step, window.cause) == (2, "gradient norm is nan")  # seen before the checkpoint
    assert window.loss == pytest.approx(losses[0])
    assert window.steps_per_second == 2.0  # one step in half a second: the others' time went with the killed process


def test_the_optimizers_time_is_a_median(accelerator: Accelerator) -> None:
    statistics = StepStatistics(0, 4, accelerator)
    statistics.optimizer_seconds += [0.001, 0.002, 5.0]
    assert statistics.optimizer_step_ms == 2.0

"""Schedules against those of transformers and against closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.settings.schema import Schedule
from recipes.training.schedule import SHAPES, factor


def reference(make: str, steps: int, warmup: int) -> list[float]:
    """The rates that a schedule of transformers sets, at a peak of 1."""
    optimization = pytest.importorskip("transformers.optimization")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    length = {} if "constant" in make else {"num_training_steps": steps}
    scheduler = getattr(optimization, make)(optimizer, num_warmup_steps=warmup, **length)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(50, 0), (57, 7), (20, 19)])
def test_after_the_warmup_rates_are_those_of_transformers(name: str, steps: int, warmup: int) -> None:
    expected = reference(f"get_{name}_schedule_with_warmup", steps, warmup)
    ours = [factor(step, steps, Schedule(name, warmup)) for step in range(steps)]
    assert ours[warmup:] == pytest.approx(expected[warmup:], abs=1e-12)
    # Theirs begin the warmup at 0, ours one step further, so that the first step moves the weights.
    assert ours[: max(warmup - 1, 0)] == pytest.approx(expected[1:warmup], abs=1e-12)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("steps", [3, 5, 6, 40])
def test_the_warmup_rises_in_equal_parts_however_long_the_run(name: str, steps: int) -> None:
    rising = [factor(step, steps, Schedule(name, 5)) for step in range(min(steps, 5))]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0][:steps])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("warmup", [0, 4])
def test_the_step_after_the_warmup_has_the_peak_rate(name: str, warmup: int) -> None:
    assert factor(warmup, 100, Schedule(name, warmup)) == 1


def test_rsqrt_falls_with_the_root_of_the_steps_since_the_warmup() -> None:
    cfg = Schedule("rsqrt", warmup_steps=10, timescale=100)
    for step in (10, 11, 60, 110, 310, 999):
        assert factor(step, 1000, cfg) == pytest.approx(math.sqrt(100 / (100 + step - 10)))
    assert factor(110, 1000, cfg) == pytest.approx(2**-0.5)  # one timescale later
    assert factor(110, 2000, cfg) == factor(110, 1000, cfg)  # the run's length does not matter


def test_final_factor_is_the_share_that_cosine_and_linear_end_at() -> None:
    for name in ("cosine", "linear"):
        cfg = Schedule(name, warmup_steps=2, final_factor=0.2)
        assert factor(102, 102, cfg) == pytest.approx(0.2)
        assert factor(52, 102, cfg) == pytest.approx(0.6)  # both are half-way down in the middle
    assert factor(27, 102, Schedule("linear", 2, final_factor=0.2)) == pytest.approx(0.8)
    assert factor(27, 102, Schedule("cosine", 2, final_factor=0.2)) == pytest.approx(0.6 + 0.4 * math.sqrt(0.5))


@pytest.mark.parametrize("final", [0.0, 0.3])
def test_cooldown_descends_linearly_over_the_last_steps(final: float) -> None:
    flat = Schedule("constant", warmup_steps=5, cooldown_steps=10, final_factor=final)
    ours = [factor(step, 100, flat) for step in range(5, 101)]
    assert ours[:86] == [1.0] * 86  # up to step 90, which is ten before the end
    assert ours[85:] == pytest.approx(torch.linspace(1, final, 11, dtype=torch.float64).tolist())
    falling = Schedule("rsqrt", warmup_steps=5, cooldown_steps=10, final_factor=final, timescale=20)
    bare = Schedule("rsqrt", warmup_steps=5, timescale=20)
    for step in range(5, 101):
        expected = factor(step, 100, bare) * factor(step, 100, flat)
        assert factor(step, 100, falling) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_cooldown_leaves_schedules_alone_that_descend_anyway(name: str) -> None:
    with_cooldown, without = Schedule(name, 3, cooldown_steps=30), Schedule(name, 3)
    assert [factor(s, 50, with_cooldown) for s in range(50)] == [factor(s, 50, without) for s in range(50)]


schedules = st.builds(
    Schedule,
    name=st.sampled_from(list(SHAPES)),
    warmup_steps=st.integers(0, 50),
    final_factor=st.floats(0, 1),
    timescale=st.integers(1, 10_000),
    cooldown_steps=st.integers(0, 50),
)


@given(schedules, st.integers(1, 120))
def test_factors_lie_between_0_and_1_and_never_rise_after_the_warmup(cfg: Schedule, steps: int) -> None:
    factors = [factor(step, steps, cfg) for step in range(steps)]
    assert all(0 <= value <= 1 for value in factors)
    warmup = factors[: cfg.warmup_steps]
    assert warmup == sorted(warmup)
    assert warmup == [] or warmup[0] > 0
    rest = factors[cfg.warmup_steps :]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(rest))

"""The forward process against diffusers' own arithmetic, its definition, and the closed form of the best denoiser."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.diffusion.noise_schedule import noise_schedule
from recipes.errors import ConfigError


@pytest.mark.parametrize(("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
@pytest.mark.parametrize("target", ["epsilon", "v"])
def test_noised_images_and_targets_are_those_of_diffusers(ours: str, theirs: str, target: str) -> None:
    schedule = noise_schedule(ours, 1000, target)  # type: ignore[arg-type]
    scheduler = DDPMScheduler(1000, beta_schedule=theirs)
    torch.manual_seed(0)
    x, noise, t = torch.randn(64, 3, 4, 4), torch.randn(64, 3, 4, 4), torch.randint(0, 1000, (64,))
    torch.testing.assert_close(schedule.noised(x, noise, t), scheduler.add_noise(x, noise, t), atol=2e-5, rtol=1e-4)
    wanted = noise if target == "epsilon" else scheduler.get_velocity(x, noise, t)
    torch.testing.assert_close(schedule.target_values(x, noise, t), wanted, atol=2e-5, rtol=1e-4)


def test_the_linear_schedule_is_the_one_that_was_published() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(noise_schedule("linear").alpha_squared, (1 - betas).cumprod(0), rtol=1e-4, atol=0)


def test_the_cosine_schedule_is_the_one_that_was_published() -> None:
    steps = torch.arange(1001, dtype=torch.float64) / 1000
    curve = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
    kept = noise_schedule("cosine").alpha_squared
    torch.testing.assert_close(kept[:900], (curve / curve[0])[1:901], rtol=1e-4, atol=0)  # β is capped at the end


@settings(max_examples=25, deadline=None)
@given(
    target=st.sampled_from(["epsilon", "v"]),
    schedule=st.sampled_from(["linear", "cosine"]),
    shift=st.floats(-3, 3),
    seed=st.integers(0, 2**31),
)
def test_a_perfect_answer_gives_the_image_back_and_the_variance_stays_one(
    target: str, schedule: str, shift: float, seed: int
) -> None:
    noising = noise_schedule(schedule, 100, target, log_snr_shift=shift)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, 32, 1, 3, 3, generator=generator)
    t = torch.randint(0, 90, (32,), generator=generator)  # beyond, z holds hardly any of x
    alpha, sigma = noising.coefficients(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    back = noising.predicted_image(noising.noised(x, noise, t), noising.target_values(x, noise, t), t)
    torch.testing.assert_close(back, x, atol=2e-3, rtol=1e-3)


def test_the_shift_is_one_of_the_log_signal_to_noise_ratio() -> None:
    plain, shifted = (noise_schedule("cosine", 1000, log_snr_shift=s).alpha_squared for s in (0.0, -1.5))
    torch.testing.assert_close(torch.logit(shifted), torch.logit(plain) - 1.5)


@pytest.mark.parametrize("target", ["epsilon", "v"])
@pytest.mark.parametrize("min_snr", [1.0, 5.0])
def test_the_weight_makes_every_target_a_weighted_error_of_the_image(target: str, min_snr: float) -> None:
    """Whatever a model answers, its weighted loss is min(snr, γ) |x̂ - x|²."""
    noising = noise_schedule("cosine", 1000, target, min_snr)  # type: ignore[arg-type]
    torch.manual_seed(1)
    t = torch.arange(0, 950, 10)
    x, noise, off = torch.randn(3, len(t), 1, 4, 4)
    z, goal = noising.noised(x, noise, t), noising.target_values(x, noise, t)
    answer = goal + 0.1 * off
    loss = noising.weight(t) * (answer - goal).square().mean((1, 2, 3))
    kept = noising.alpha_squared[t]
    image_error = (noising.predicted_image(z, answer, t) - x).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, (kept / (1 - kept)).clamp(max=min_snr).float() * image_error, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"schedule": "cosin"}, "schedule=cosin is unknown; known: linear, cosine"),
        ({"target": "x"}, "target=x is unknown; known: epsilon, v"),
        ({"steps": 1}, "steps=1 must be"),
        ({"min_snr": 0}, "min_snr=0 must be above 0"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        noise_schedule(**arguments)  # type: ignore[arg-type]

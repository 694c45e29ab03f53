"""Samplers on Gaussian data, where the best denoiser and what comes of it are known in closed form."""

import itertools

import pytest
import torch
from torch import Tensor

from recipes.diffusion.noise_schedule import NoiseSchedule, noise_schedule
from recipes.diffusion.samplers import guided, sample, sampler
from recipes.errors import ConfigError

MEAN = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
# Eigenvalues from a tenth to four, in directions of no axis. The posterior's variance is exact in the limit of small
# steps; at 1,000 of them a variance of 0.01 still comes out 7% too small.
ROTATION = torch.linalg.qr(torch.tensor([[2.0, 1, 0, 3], [1, -1, 4, 0], [0, 5, 1, 1], [1, 0, 2, -2]]).double())[0]
VARIANCES = torch.tensor([0.1, 0.25, 1.0, 4.0], dtype=torch.float64)
COVARIANCE = ROTATION @ torch.diag(VARIANCES) @ ROTATION.T


def best_denoiser(noise: NoiseSchedule):  # type: ignore[no-untyped-def]
    """E[target | z] for x of N(MEAN, COVARIANCE): x and ε given z are linear in z."""

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        kept = noise.alpha_squared[t[0]]
        alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        flat = z.double().flatten(1) - alpha * MEAN
        spread = torch.linalg.inv(kept * COVARIANCE + (1 - kept) * torch.eye(4))
        epsilon = sigma * flat @ spread
        x = MEAN + alpha * flat @ spread @ COVARIANCE
        answer = epsilon if noise.target == "epsilon" else alpha * epsilon - sigma * x
        return answer.view_as(z)

    return denoise


def drawn(noise: NoiseSchedule, name: str, steps: int, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(number, 1, 2, 2, generator=generator, dtype=torch.float64)
    return sample(best_denoiser(noise), sampler(noise, name, steps, clip=False), start, generator).flatten(1)


@pytest.mark.parametrize(
    ("schedule", "name", "target"),
    [("linear", "ddpm", "epsilon"), ("cosine", "ddpm", "v"), ("linear", "ddim", "v"), ("cosine", "ddim", "epsilon")],
)
@pytest.mark.parametrize("number", [4_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_thousand_steps_reproduce_mean_and_covariance(schedule: str, name: str, target: str, number: int) -> None:
    got = drawn(noise_schedule(schedule, 1000, target), name, 1000, number)  # type: ignore[arg-type]
    along = (got - MEAN) @ ROTATION  # in the covariance's own directions, where errors are independent
    standard_error = (VARIANCES / number).sqrt()
    assert (along.mean(0).abs() < 4 * standard_error + 0.01 * VARIANCES.sqrt()).all()
    covariance = along.T @ along / number
    expected = torch.diag(VARIANCES)
    # A variance's own error is sqrt(2/N) of it, a covariance's sqrt(1/N); 2% more for a thousand finite steps.
    scale = torch.outer(VARIANCES, VARIANCES).sqrt()
    assert ((covariance - expected).abs() < (4 * (2 / number) ** 0.5 + 0.02) * scale).all()


@pytest.mark.parametrize("steps", [1, 5, 50])
@pytest.mark.parametrize("target", ["epsilon", "v"])
def test_few_steps_of_ddim_end_where_the_formula_says(steps: int, target: str) -> None:
    """Along each direction, a step of DDIM is a product with a number that can be written down (float64)."""
    noise = noise_schedule("cosine", 1000, target)  # type: ignore[arg-type]
    times = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    kept = [*noise.alpha_squared[times].tolist(), 1.0]
    factor, offset = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    mean = MEAN @ ROTATION
    for now, then in itertools.pairwise(kept):
        alpha, sigma, next_alpha, next_sigma = now**0.5, (1 - now) ** 0.5, then**0.5, (1 - then) ** 0.5
        gain = (next_alpha * alpha * VARIANCES + next_sigma * sigma) / (now * VARIANCES + 1 - now)
        factor, offset = gain * factor, gain * (offset - alpha * mean) + next_alpha * mean
    got = drawn(noise, "ddim", steps, 100) @ ROTATION
    start = torch.randn(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ ROTATION
    # The model's answer is float32; an error in epsilon is divided by alpha, which is small in the first step.
    tolerance = 1e-6 if target == "v" else 2e-3
    torch.testing.assert_close(got, factor * start + offset, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("steps", [5, 50])
def test_ancestral_steps_have_the_posteriors_mean_and_variance(steps: int) -> None:
    """Of normal data every step is linear with normal noise, so that mean and variance can be carried along by hand.

    With the larger of Ho et al.'s two variances, 5 steps would end with 1.4 to 2.7 times the variance.
    """
    noise, number = noise_schedule("cosine", 1000, "v"), 40_000
    times = [1000 - i * 1000 // steps - 1 for i in range(steps)]
    kept = [*noise.alpha_squared[times].tolist(), 1.0]
    mean, variance = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    centre = MEAN @ ROTATION
    for now, then in itertools.pairwise(kept):
        alpha = now / then  # of this step, squared
        from_x = then**0.5 * (1 - alpha) / (1 - now)
        from_z = alpha**0.5 * (1 - then) / (1 - now)
        slope = now**0.5 * VARIANCES / (now * VARIANCES + 1 - now)  # of E[x | z] in z
        gain = from_x * slope + from_z
        mean = gain * mean + from_x * (centre - slope * now**0.5 * centre)
        variance = gain**2 * variance + (1 - then) / (1 - now) * (1 - alpha)
    got = drawn(noise, "ddpm", steps, number) @ ROTATION
    assert ((got.mean(0) - mean).abs() < 4 * (variance / number).sqrt() + 1e-3).all()
    assert ((got.var(0) / variance - 1).abs() < 4 * (2 / number) ** 0.5 + 1e-3).all()


@pytest.mark.parametrize("target", ["epsilon", "v"])
@pytest.mark.parametrize("how", ["clip", "threshold"])
def test_ddim_goes_on_from_the_estimate_that_was_clipped(target: str, how: str) -> None:
    """Each step is α' x + σ' ε with the clipped x and the ε that leads from it to z, by hand in float64."""
    noise, steps = noise_schedule("cosine", 1000, target), 10  # type: ignore[arg-type]
    denoise = best_denoiser(noise)
    start = torch.randn(200, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = start
    for step in range(steps):
        t = torch.full((200,), 999 - step * 100)
        kept = noise.alpha_squared[t[0]]
        then = noise.alpha_squared[t[0] - 100] if step < steps - 1 else torch.tensor(1.0)
        alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        answer = denoise(z, t)
        x = (z - sigma * answer) / alpha if target == "epsilon" else alpha * z - sigma * answer
        if how == "clip":
            x = x.clamp(-1, 1)
        else:
            s = x.flatten(1).abs().quantile(0.75, dim=1).clamp(min=1)[:, None, None, None]
            x = x.clamp(-s, s) / s
        z = then.sqrt() * x + (1 - then).sqrt() * (z - alpha * x) / sigma
    options = {"clip": True} if how == "clip" else {"threshold": 0.75}
    got = sample(denoise, sampler(noise, "ddim", steps, **options), start)  # type: ignore[arg-type]
    torch.testing.assert_close(got, z, rtol=1e-4, atol=1e-4)


def test_each_image_can_have_noise_of_its_own() -> None:
    noise = noise_schedule("cosine", 100)
    start = torch.randn(6, 1, 2, 2, dtype=torch.float64)

    def drawn_from(rows: slice) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in range(6)][rows]
        return sample(best_denoiser(noise), sampler(noise, "ddpm", 20, clip=False), start[rows], generators)

    torch.testing.assert_close(drawn_from(slice(0, 6))[4:], drawn_from(slice(4, 6)))


def test_ancestral_sampling_draws_from_its_generator_and_ddim_does_not() -> None:
    noise = noise_schedule("cosine", 100)
    start = torch.randn(8, 1, 2, 2, dtype=torch.float64)

    def end(name: str, seed: int) -> Tensor:
        scheduler = sampler(noise, name, 20, clip=False)
        return sample(best_denoiser(noise), scheduler, start, torch.Generator().manual_seed(seed))

    assert torch.equal(end("ddpm", 0), end("ddpm", 0))
    assert not torch.equal(end("ddpm", 0), end("ddpm", 1))
    assert torch.equal(end("ddim", 0), end("ddim", 1))


def test_estimates_are_clipped_or_divided_by_a_quantile() -> None:
    """With one step the last estimate is the sample."""
    noise = noise_schedule("cosine", 1000, "v")
    start = torch.randn(500, 1, 2, 2, dtype=torch.float64)
    free, clipped, scaled = (
        sample(best_denoiser(noise), sampler(noise, "ddim", 1, **how), start)
        for how in ({"clip": False}, {"clip": True}, {"threshold": 0.75})
    )
    assert free.abs().max() > 1.5
    torch.testing.assert_close(clipped, free.clamp(-1, 1))
    s = free.flatten(1).abs().quantile(0.75, dim=1).clamp(min=1)[:, None, None, None]
    torch.testing.assert_close(scaled, free.clamp(-s, s) / s)


def test_guidance_is_a_step_beyond_the_conditional_answer() -> None:
    def constant(value: float):  # type: ignore[no-untyped-def]
        return lambda z, t: torch.full_like(z, value)

    z, t = torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    for scale, expected in ((1, 3.0), (0, 1.0), (5, 11.0)):
        assert guided(constant(3.0), constant(1.0), scale)(z, t).unique().tolist() == [expected]


def test_what_is_wrong_is_said() -> None:
    noise = noise_schedule("cosine", 100)
    with pytest.raises(ConfigError, match=r"sampler\.name=dpm is unknown; known: ddpm, ddim"):
        sampler(noise, "dpm")
    with pytest.raises(ConfigError, match=r"sampler\.steps=30 must divide the noise schedule's 100"):
        sampler(noise, "ddim", 30)

"""Sample images from noise: ancestral sampling (DDPM) and DDIM, with diffusers' schedulers.

Ancestral sampling draws from the learned Markov chain backwards, over all T steps or every T/n-th (Ho et al. 2020);
DDIM is its deterministic counterpart and needs fewer steps (Song et al. 2021, arXiv:2010.02502).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipes.diffusion.noise_schedule import NoiseSchedule
from recipes.errors import ConfigError
from recipes.settings.arguments import is_count, is_number

SAMPLERS = ("ddpm", "ddim")
Denoiser = Callable[[Tensor, Tensor], Tensor]  # z [B, C, H, W] and t int64 [B] to the model's answer


def sampler(
    noise: NoiseSchedule, name: str = "ddim", steps: int = 50, *, clip: bool = True, threshold: float | None = None
) -> Any:
    """A scheduler of diffusers over a noise schedule.

    Args:
        noise: what the model was trained with.
        name: `ddpm` (ancestral, with the posterior's variance, the smaller of Ho et al.'s two) or `ddim`.
        steps: of the sampler, a divisor of the schedule's.
        clip: clip each estimate of the image to [-1, 1].
        threshold: instead of that, divide each estimate by this quantile of its absolute values where that is above 1
            (Imagen's dynamic thresholding, Saharia et al. 2022, arXiv:2205.11487, section 2.3).

    Raises:
        ConfigError: a name is unknown or a number out of range.
    """
    from diffusers.schedulers import DDIMScheduler, DDPMScheduler

    if name not in SAMPLERS:
        raise ConfigError(f"model.args.sampler.name={name} is unknown; known: {', '.join(SAMPLERS)}")
    if not is_count(steps) or noise.steps % steps:
        raise ConfigError(f"model.args.sampler.steps={steps} must divide the noise schedule's {noise.steps}")
    if not isinstance(clip, bool):
        raise ConfigError(f"model.args.sampler.clip={clip} must be true or false")
    if threshold is not None and not (is_number(threshold) and 0 < threshold <= 1):
        raise ConfigError(f"model.args.sampler.threshold={threshold} must be a quantile above 0 and at most 1, or null")
    alpha_squared = noise.alpha_squared
    betas = 1 - alpha_squared / torch.cat([torch.ones_like(alpha_squared[:1]), alpha_squared[:-1]])
    shared: dict[str, Any] = {
        "num_train_timesteps": noise.steps,
        "trained_betas": betas.tolist(),
        "prediction_type": "epsilon" if noise.target == "epsilon" else "v_prediction",
        "clip_sample": clip and threshold is None,
        "thresholding": threshold is not None,
        "dynamic_thresholding_ratio": threshold or 1.0,
        "sample_max_value": float("inf"),
        # Few steps have to begin where there is no signal: spacing from the other end leaves the last steps out.
        "timestep_spacing": "trailing",
    }
    # The last step of DDIM goes to the clean image itself, not to what t = 0 would be.
    scheduler: Any = DDPMScheduler(**shared) if name == "ddpm" else DDIMScheduler(**shared, set_alpha_to_one=True)
    scheduler.alphas_cumprod = alpha_squared.clone()  # in float64: float32 products of a thousand lose the small ones
    scheduler.set_timesteps(steps)
    return scheduler


@torch.no_grad()
def sample(
    denoise: Denoiser,
    scheduler: Any,
    start: Tensor,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Images [B, C, H, W] from noise of that shape.

    Args:
        denoise: the model; it sees one time step for all.
        scheduler: from `sampler`.
        start: standard normal.
        generator: of the noise that ancestral sampling adds, one for all or one for each image; on the CPU or on
            start's device.
    """
    from diffusers.schedulers import DDIMScheduler

    images = start
    options: dict[str, Any] = {
        "generator": generator if isinstance(generator, torch.Generator | None) else [*generator]
    }
    if isinstance(scheduler, DDIMScheduler):
        # The direction follows from the estimate that was clipped; with the model's own, z would no longer be
        # α x + σ ε of the two, the worse the more steps there are.
        options["use_clipped_model_output"] = True
    for t in scheduler.timesteps.tolist():
        prediction = denoise(images, torch.full((len(images),), t, device=images.device))
        images = scheduler.step(prediction.to(start.dtype), t, images, **options).prev_sample.to(start.dtype)
    return images


def guided(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): u + scale (c - u); a scale of 1 is c."""
    if scale == 1:
        return conditional

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        without = unconditional(z, t)
        return without + scale * (conditional(z, t) - without)

    return denoise


def grid(images: Tensor, columns: int) -> np.ndarray:
    """Images [N, C, H, W] in [-1, 1] side by side on grey, uint8 [H', W', C]."""
    from torchvision.utils import make_grid

    tiled = make_grid((images.detach().cpu().float() + 1) / 2, nrow=columns, padding=1, pad_value=0.5)
    pixels: np.ndarray = (tiled.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels

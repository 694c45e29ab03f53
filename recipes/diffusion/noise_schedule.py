"""Gaussian diffusion's forward process and what a model learns of it (Ho et al. 2020, arXiv:2006.11239).

z_t = α_t x + σ_t ε with α_t² + σ_t² = 1, at time steps t = 0 (hardly any noise) to T - 1. The schedules are those of
diffusers; training needs two tables of T numbers, sampling the schedulers of the same settings (samplers.py).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from recipes.errors import ConfigError
from recipes.settings.arguments import is_count, is_number

Target = Literal["epsilon", "v"]
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # ours: diffusers'


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of the signal is left at each time step, and what the model predicts from it.

    Attributes:
        alpha_squared: float64 [T], the signal's share of the variance, falling.
        target: `epsilon`, the noise; or `v` = α ε - σ x (Salimans and Ho 2022, arXiv:2202.00512, appendix D).
        min_snr: the loss counts as one on x weighted by min(α²/σ², min_snr) (Hang et al. 2023, arXiv:2303.09556);
            None is the plain mean square on the target.
    """

    alpha_squared: Tensor
    target: Target
    min_snr: float | None = None
    _on_device: dict[torch.device, dict[str, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def steps(self) -> int:
        """The number of time steps, T."""
        return len(self.alpha_squared)

    def _tables(self, t: Tensor) -> dict[str, Tensor]:
        """α, σ and the weight of an example's loss by time step, float32 [T] on t's device: copied there once."""
        if t.device not in self._on_device:
            ratio = self.alpha_squared / (1 - self.alpha_squared)
            # Errors of x, ε and v at the same z differ by constants: |Δε|² = snr |Δx|², |Δv|² = (snr + 1) |Δx|².
            target_ratio = ratio if self.target == "epsilon" else ratio + 1
            weight = torch.ones_like(ratio) if self.min_snr is None else ratio.clamp(max=self.min_snr) / target_ratio
            tables = {
                "alpha": self.alpha_squared.sqrt(),
                "sigma": (1 - self.alpha_squared).sqrt(),
                "weight": weight,
            }
            placed = {name: table.float().to(t.device) for name, table in tables.items()}
            if type(t) is not Tensor:  # a dry run's, which has no values
                return placed
            self._on_device[t.device] = placed
        return self._on_device[t.device]

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at time steps int64 [B], each float32 [B, 1, 1, 1]."""
        tables = self._tables(t)
        return tables["alpha"][t][:, None, None, None], tables["sigma"][t][:, None, None, None]

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z_t of clean images x and noise, both [B, C, H, W]."""
        alpha, sigma = self.coefficients(t)
        return alpha * x + sigma * noise

    def target_values(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect model would answer, had it seen x: [B, C, H, W]."""
        if self.target == "epsilon":
            return noise
        alpha, sigma = self.coefficients(t)
        return alpha * noise - sigma * x

    def weight(self, t: Tensor) -> Tensor:
        """The weight of each example's mean square on the target, float32 [B]."""
        return self._tables(t)["weight"][t]

    def predicted_image(self, z: Tensor, answer: Tensor, t: Tensor) -> Tensor:
        """The estimate of x that the model's answer on z_t amounts to, [B, C, H, W]."""
        alpha, sigma = self.coefficients(t)
        return (z - sigma * answer) / alpha if self.target == "epsilon" else alpha * z - sigma * answer


def noise_schedule(
    schedule: str = "cosine",
    steps: int = 1000,
    target: Target = "epsilon",
    min_snr: float | None = None,
    log_snr_shift: float = 0.0,
) -> NoiseSchedule:
    """One of diffusers' schedules by name.

    Args:
        schedule: `linear` (β from 1e-4 to 0.02, Ho et al.) or `cosine` (Nichol and Dhariwal 2021, arXiv:2102.09672).
        steps: T.
        target: what the model predicts.
        min_snr: see NoiseSchedule.
        log_snr_shift: added to log α²/σ² at every step. Fewer pixels lose more to the same noise: going from side s to
            side s', 2 log(s / s') keeps what is lost (Hoogeboom et al. 2023, arXiv:2301.11093).

    Raises:
        ConfigError: a name is unknown or a number out of range.
    """
    from diffusers.schedulers import DDPMScheduler

    if schedule not in SCHEDULES:
        raise ConfigError(f"model.args.noise.schedule={schedule} is unknown; known: {', '.join(SCHEDULES)}")
    if target not in get_args(Target):
        raise ConfigError(f"model.args.noise.target={target} is unknown; known: {', '.join(get_args(Target))}")
    if not is_count(steps) or steps < 2:
        raise ConfigError(f"model.args.noise.steps={steps} must be a whole number of at least 2")
    if min_snr is not None and not (is_number(min_snr) and min_snr > 0):
        raise ConfigError(f"model.args.noise.min_snr={min_snr} must be above 0, or null")
    if not is_number(log_snr_shift):
        raise ConfigError(f"model.args.noise.log_snr_shift={log_snr_shift} must be a number")
    # On the CPU whatever torch's default device is: these are numbers, not part of a model that has no memory.
    with torch.device("cpu"):
        scheduler: Any = DDPMScheduler(num_train_timesteps=steps, beta_schedule=SCHEDULES[schedule])
        alpha_squared = (1 - scheduler.betas.double()).cumprod(0)
        shifted = torch.special.expit(torch.special.logit(alpha_squared) + log_snr_shift)
    return NoiseSchedule(shifted, target, min_snr)

"""The one place where a config becomes objects."""

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recipes import schedule
from recipes.errors import ConfigError
from recipes.param_groups import DECAYING

# What an optimizer's YAML says about itself, beside the arguments of its class.
DESCRIPTION = ("name", "variant")

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def optimizer_factory(optim: DictConfig) -> OptimizerFactory:
    """The optimizer's class with its settings, waiting for parameters.

    Raises:
        ConfigError: there is no such class, it does not take an argument of that name, or refuses a value.
    """
    arguments: Any = OmegaConf.to_container(optim, resolve=True)
    known = inspect.signature(_class(optim)).parameters
    given = [name for name in arguments if name not in (*DESCRIPTION, "_target_", "_partial_")]
    if unknown := [name for name in given if name not in known]:
        allowed = ", ".join(name for name in known if name != "params")
        raise ConfigError(f"optim={optim.name} has no argument {unknown[0]}; it takes {allowed}")
    factory = instantiate({k: v for k, v in arguments.items() if k not in DESCRIPTION}, _convert_="all")

    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        try:
            optimizer: torch.optim.Optimizer = factory(groups)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"optim={optim.name}: {error}") from None
        return optimizer

    return make


def further_arguments(optim: DictConfig) -> dict[str, Any]:
    """An optimizer's settings other than learning rate and weight decay, as they stand in its record."""
    arguments: Any = OmegaConf.to_container(optim, resolve=True)
    left_out = (*DESCRIPTION, "_target_", "_partial_", "lr", "weight_decay")
    return {name: value for name, value in sorted(arguments.items()) if name not in left_out}


def _class(optim: DictConfig) -> type:
    module, _, name = str(optim._target_).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"optim={optim.name}: _target_={optim._target_} cannot be imported: {error}") from None


def check(cfg: DictConfig) -> None:
    """Refuse impossible values before any work is done.

    Raises:
        ConfigError: a value is out of its range.
    """
    for key in (
        "steps",
        "batch_size",
        "accumulate",
        "eval_every",
        "eval_batch_size",
        "log_every",
        "checkpoint_every",
    ):
        if cfg[key] < 1:
            raise ConfigError(f"{key}={cfg[key]} must be at least 1")
    for name, least, value in (
        ("seed", 0, cfg.seed),
        ("data.workers", 0, cfg.data.workers),
        ("scale.threads", 1, 1 if cfg.scale.threads is None else cfg.scale.threads),
        ("augment.shift", 0, cfg.augment.shift),
        ("augment.mixup", 0, cfg.augment.mixup),
    ):
        if not value >= least:
            raise ConfigError(f"{name}={value} must be at least {least}")
    for key in ("lr", "weight_decay"):
        value = cfg.optim.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ConfigError(f"optim.{key}={value} must be a finite number of at least 0")
    if cfg.precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision={cfg.precision} is unknown; known: fp32, bf16")
    if cfg.device not in ("auto", "cpu"):
        raise ConfigError(f"device={cfg.device} is unknown; known: auto, cpu")
    if cfg.decay not in DECAYING:
        raise ConfigError(f"decay={cfg.decay} is unknown; known: {', '.join(DECAYING)}")
    if cfg.clip_norm is not None and not cfg.clip_norm > 0:
        raise ConfigError(f"clip_norm={cfg.clip_norm} must be above 0, or null for no clipping")
    if cfg.ema_decay is not None and not 0 < cfg.ema_decay < 1:
        raise ConfigError(f"ema_decay={cfg.ema_decay} must lie between 0 and 1, or be null for no averaging")
    schedule.check(cfg.schedule)

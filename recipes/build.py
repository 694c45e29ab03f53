"""The one place where a config becomes objects."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from recipes.errors import ConfigError
from recipes.validation import DESCRIPTION

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


def parameter_groups(model: nn.Module, rule: str, weight_decay: float) -> list[dict[str, Any]]:
    """Split a model's parameters into those that decay and those that do not: the same rule for every optimizer.

    Args:
        model: its trainable parameters are grouped.
        rule: `matrices` decays what has two axes or more and is no position embedding or class token (what the
            model's own `no_weight_decay` names), as the paper's code base does; `all` decays everything.
        weight_decay: the coefficient of those that decay.
    """
    exempt: set[str] = set()
    if hasattr(model, "no_weight_decay"):
        exempt = set(model.no_weight_decay())  # type: ignore[operator]
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = rule == "all" or (parameter.ndim >= 2 and name not in exempt)
            (decayed if decays else rest).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]

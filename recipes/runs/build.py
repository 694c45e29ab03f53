"""The one place where a config becomes objects."""

import importlib
import inspect
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recipes.errors import ConfigError
from recipes.settings.optimizer_arguments import DESCRIPTION
from recipes.training.param_groups import OptimizerFactory


def optimizer_factory(optim: DictConfig) -> OptimizerFactory:
    """The optimizer's class with its settings, waiting for parameters.

    On CUDA torch's own optimizers take their fused step where they have one, unless the settings choose: their default
    there is several passes over memory, while Lion's is one. On the CPU torch's defaults stay.

    Raises:
        ConfigError: there is no such class, it does not take an argument of that name, or refuses a value.
    """
    arguments: Any = OmegaConf.to_container(optim, resolve=True)
    parameters = inspect.signature(_class(optim)).parameters
    names = [name for name in arguments if name not in (*DESCRIPTION, "_target_", "_partial_")]
    if unknown := [name for name in names if name not in parameters]:
        accepted = ", ".join(name for name in parameters if name != "params")
        raise ConfigError(f"optim={optim.name} has no argument {unknown[0]}; it takes {accepted}")
    choosable = _class(optim).__module__.startswith("torch.optim") and not {"fused", "foreach"} & set(names)
    factory = instantiate({k: v for k, v in arguments.items() if k not in DESCRIPTION}, _convert_="all")

    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        try:
            on_cuda = all(p.is_cuda for group in groups for p in group["params"])
            chosen = {"fused": True} if on_cuda and choosable and "fused" in parameters else {}
            optimizer: torch.optim.Optimizer = factory(groups, **chosen)
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

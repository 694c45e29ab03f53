"""Build an optimizer from its config: the class with its settings, or several classes with routes."""

import importlib
import inspect
import warnings
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch._subclasses.fake_tensor import FakeTensor

from recipes.errors import ConfigError
from recipes.routed_optimizer import Route, RoutedOptimizer
from recipes.settings.optimizer_arguments import DESCRIPTION, HYDRA_KEYS
from recipes.training.param_groups import OptimizerFactory, Role, set_training


def optimizer_factory(optim: DictConfig) -> OptimizerFactory:
    """A function from parameter groups to the configured optimizer, which may have routes to several classes.

    On CUDA torch's optimizers use their fused step if they have one and the settings do not choose: their default takes
    several passes over memory, Lion's takes one. On the CPU torch's defaults are kept.

    Raises:
        ConfigError: the class does not exist, lacks an argument or refuses a value.
    """
    settings: Any = OmegaConf.to_container(optim, resolve=True)
    name = str(settings["name"])
    main = _class_factory(f"optim={name}", settings)
    further = {key: route for key, route in (settings.get("routes") or {}).items() if route is not None}
    if not further:
        return main
    routes = [Route("optim.roles", _roles(settings), main)]
    for key, route in further.items():
        ratio = float(route["lr_ratio"] if "lr_ratio" in route else route["lr"] / settings["lr"])
        rates = {"lr": settings["lr"] * ratio, "weight_decay": settings["weight_decay"] / ratio}
        make = _class_factory(f"optim.routes.{key}", route | rates)
        routes.append(Route(f"optim.routes.{key}.roles", _roles(route), make, ratio))
    return lambda groups: RoutedOptimizer(groups, name, routes)


def _roles(settings: dict[str, Any]) -> frozenset[Role]:
    return frozenset(Role[role.upper()] for role in settings["roles"])


def _class_factory(setting: str, settings: dict[str, Any]) -> OptimizerFactory:
    """One class with its settings; error messages call it `setting`."""
    parameters = inspect.signature(_class(setting, str(settings["_target_"]))).parameters
    names = [name for name in settings if name not in (*DESCRIPTION, *HYDRA_KEYS)]
    if unknown := [name for name in names if name not in parameters]:
        accepted = ", ".join(name for name in parameters if name != "params")
        raise ConfigError(f"{setting} has no argument {unknown[0]}; it takes {accepted}")
    of_torch = str(settings["_target_"]).startswith("torch.optim.")
    choosable = of_torch and "fused" in parameters and not {"fused", "foreach"} & set(names)
    described = {k: v for k, v in settings.items() if k not in DESCRIPTION}
    factory = instantiate({**described, "_partial_": True}, _convert_="all")

    def make(groups: Any) -> torch.optim.Optimizer:
        groups = [_without_roles(group) for group in groups]
        chosen = {"fused": True} if choosable and _are_on_cuda(groups) else {}
        try:
            optimizer: torch.optim.Optimizer = factory(groups, **chosen)
            _try_steps(partial(factory, **chosen), optimizer.param_groups)
        except (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).strip() or "its class refuses a setting"
            if isinstance(error, ArithmeticError):
                reason = f"a step with these settings ends in a {reason}"
            raise ConfigError(f"{setting}: {reason}") from None
        return optimizer

    return make


def _try_steps(factory: OptimizerFactory, groups: list[dict[str, Any]]) -> None:
    """Step small parameters and switch to their weights for evaluation: some classes refuse a setting only then."""
    if any(isinstance(p, FakeTensor) for group in groups for p in group["params"]):
        return  # kernels cannot compute with them
    by_axes = [{p.ndim: _small(p) for p in group["params"]} for group in groups]
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        optimizer = factory([{"params": [*small.values()]} for small in by_axes if small])
        set_training(optimizer, True)
        for _ in range(2):  # the first of some is of another kind
            for parameter in (p for small in by_axes for p in small.values()):
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        set_training(optimizer, False)


def _small(parameter: torch.Tensor) -> torch.nn.Parameter:
    """A parameter with two elements along each axis, on the same device if that computes."""
    device = "cpu" if parameter.is_meta else parameter.device
    return torch.nn.Parameter(torch.ones((2,) * parameter.ndim, dtype=parameter.dtype, device=device))


def _without_roles(group: Any) -> Any:
    """A parameter group without our key `roles`, which library classes do not know."""
    return {key: value for key, value in group.items() if key != "roles"} if isinstance(group, dict) else group


def _are_on_cuda(groups: list[Any]) -> bool:
    parameters = [p for group in groups if isinstance(group, dict) for p in group["params"]]
    return bool(parameters) and all(isinstance(p, torch.Tensor) and p.is_cuda for p in parameters)


def further_arguments(optim: DictConfig) -> dict[str, Any]:
    """An optimizer's settings other than learning rate and weight decay, as in its record."""
    arguments: Any = OmegaConf.to_container(optim, resolve=True)
    left_out = ("name", "variant", "refuses_shards", "_target_", "_partial_", "lr", "weight_decay")
    return {name: value for name, value in sorted(arguments.items()) if name not in left_out}


def _class(setting: str, target: str) -> type:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{setting}: _target_={target} cannot be imported: {error}") from None

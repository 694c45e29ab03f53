"""What a family of tasks has to say about itself; the training loop knows nothing more of it."""

import importlib
import inspect
import types
import typing
from typing import Any, Literal, Protocol

import torch
from omegaconf import DictConfig
from torch import nn

from recipes.errors import ConfigError
from recipes.loading import Batch, Examples


class Recipe(Protocol):
    """Model, data, loss and metric of a task."""

    learns_from: str  # what its data set has to hold, a value of HOLDS
    metric: str  # the validation metric that chooses hyperparameters
    goal: Literal["max", "min"]

    def examples(self) -> dict[str, Examples]:
        """The data: `train`, `val`, `test`, and further test sets by name."""
        ...

    def model(self) -> nn.Module:
        """The model with fresh weights, drawn from torch's global generator; on the meta device it is free."""
        ...

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Load the weights of another run, as `init_from=` asks."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars of a training batch; `loss` is minimised, others are logged beside it."""
        ...

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Figures of each example, first axis the batch's: the loop gathers them over batches and processes."""
        ...

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """The metrics of a whole split from its examples' figures, in the data set's order."""
        ...

    def blank_batch(self, size: int) -> Batch:
        """A training batch of this size without data, on torch's default device: the dry run's input."""
        ...


def make(cfg: DictConfig) -> Recipe:
    """The recipe that the task names: the `Recipe` class of a module in recipes/.

    Raises:
        ConfigError: the data set is of another kind or does not take its options, or a setting of the model is not
            what it has to be.
    """
    recipe: Any = importlib.import_module(f"recipes.{cfg.task.recipe}").Recipe
    holds, wanted = _holds(cfg), recipe.learns_from
    if holds != wanted:
        raise ConfigError(f"data={cfg.data.name} holds {holds}; task={cfg.task.name} learns from {wanted}")
    _check_options(cfg)
    made: Recipe = recipe(cfg)
    return made


def load_data(cfg: DictConfig) -> dict[str, Any]:
    """The data set that the config names: `load` of a module in recipes/data/.

    Raises:
        ConfigError: an option is not what the module takes, or the data are missing.
    """
    _check_options(cfg)
    return _module(cfg).load(**_place(cfg), **cfg.data.options)


def _module(cfg: DictConfig) -> Any:
    return importlib.import_module(f"recipes.data.{cfg.data.module}")


# What a data set holds, by what its `load` returns.
HOLDS = {
    "ImageArrays": "images with labels",
    "ImageExamples": "images with labels",
    "PairData": "images with captions",
    "TextPairs": "texts with answers",
    "TokenWindows": "text",
}


def _holds(cfg: DictConfig) -> str:
    """What the data set of a config holds."""
    returned = inspect.signature(_module(cfg).load, eval_str=True).return_annotation
    kind = (typing.get_args(returned) or (returned,))[-1]  # dict[str, kind] or kind
    return HOLDS.get(kind.__name__, kind.__name__)


def _place(cfg: DictConfig) -> dict[str, str]:
    """Where the data are: a local folder goes before the hub's name that a data set's file may carry."""
    return next(({key: cfg.data[key]} for key in ("path", "hub") if cfg.data[key] is not None), {})


# Types of options that are checked, and what errors call them.
PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}


def _check_options(cfg: DictConfig) -> None:
    """Refuse options that the data set does not take, does not get, or gets with another type."""
    data, takes = cfg.data, inspect.signature(_module(cfg).load, eval_str=True).parameters
    for key in _place(cfg):
        if key not in takes:
            raise ConfigError(
                f"data={data.name} takes no data.{key}; data=text reads texts of your own, data=imagenet images"
            )
    options = {name: taken for name, taken in takes.items() if name not in ("path", "hub")}
    known = ", ".join(options) or "none"
    for name in data.options:
        if name not in options:
            raise ConfigError(f"data={data.name}: data.options.{name} is unknown; known: {known}")
    for name, taken in options.items():
        if name not in data.options:
            if taken.default is taken.empty:
                raise ConfigError(
                    f"data={data.name} needs data.options.{name}, which the setting of this task does not have; its "
                    f"options: {known}"
                )
            continue
        value, kinds = data.options[name], typing.get_args(taken.annotation) or (taken.annotation,)
        if typing.get_origin(taken.annotation) not in (None, types.UnionType) or not set(kinds) <= set(PLAIN):
            continue
        if type(value) not in kinds and not (float in kinds and type(value) is int):
            expected = " or ".join(PLAIN[kind] for kind in kinds)
            raise ConfigError(f"data={data.name}: data.options.{name}={value} must be {expected}")

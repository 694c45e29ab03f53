"""What a family of tasks has to say about itself; the training loop knows nothing more of it."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig, OmegaConf

from recipes.errors import ConfigError
from recipes.settings import declarations, from_data

if TYPE_CHECKING:  # a command's mistakes are answered without these imports, which take seconds
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from recipes.training.sampler import Batch, Examples


class Recipe(ABC):
    """Model, data, loss and metric of a task. What has a body here, a family may leave out.

    Attributes:
        learns_from: what its data set has to hold, the constant `HOLDS` of a module in recipes/data/.
        metric: the validation metric that chooses hyperparameters; an instance may have another than its class.
        goal: whether more or less of it is better.
        tokenizer: what texts are read with, known once `examples` has been called.
        forward_methods: methods of its model that are called from outside, beside `forward`.
    """

    learns_from: str
    metric: str
    goal: Literal["max", "min"]
    tokenizer: Tokenizer | None = None
    forward_methods: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, cfg: DictConfig) -> None: ...

    @abstractmethod
    def examples(self) -> dict[str, Examples]:
        """The data: `train`, `val`, `test`, and further test sets by name."""

    @abstractmethod
    def model(self) -> nn.Module:
        """The model with fresh weights, drawn from torch's global generator; on the meta device it is free."""

    @abstractmethod
    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Load the weights of another run, as `init_from=` asks."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars of a training batch; `loss` is minimised, others are logged beside it."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Figures of each example, first axis the batch's: the loop gathers them over batches and processes."""

    @abstractmethod
    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """The metrics of a whole split from its examples' figures, in the data set's order."""

    @abstractmethod
    def blank_batch(self, size: int) -> Batch:
        """A training batch of this size without data, on torch's default device: the dry run's input."""

    def targets(self, batch: Batch) -> torch.Tensor | None:
        """How many targets a batch's loss is a mean over, 0-d int64; None where it is a mean over the examples."""
        return None

    def pictures(self, model: nn.Module, device: torch.device) -> dict[str, np.ndarray]:
        """Pictures to keep of a trained model, uint8 [H, W, C] by name."""
        return {}


def recipe_class(module: str) -> type[Recipe]:
    """The class `Recipe` of recipes/<module>.py, which knows metric and goal without being built."""
    return importlib.import_module(f"recipes.{module}").Recipe


def make(cfg: DictConfig) -> Recipe:
    """The recipe that the task names: the `Recipe` class of a module in recipes/.

    Raises:
        ConfigError: the data set is of another kind or does not take its options, or a setting of the model is not
            what it has to be.
    """
    if mistakes := option_problems(cfg):
        raise ConfigError("; ".join(mistakes))
    return recipe_class(cfg.task.recipe)(cfg)


def load_data(cfg: DictConfig) -> dict[str, Any]:
    """The data set that the config names: `load` of a module in recipes/data/.

    Raises:
        ConfigError: an option is not what the module takes, or the data are missing.
    """
    if mistakes := _data_problems(cfg):
        raise ConfigError("; ".join(mistakes))
    loaded: dict[str, Any] = importlib.import_module(f"recipes.data.{cfg.data.module}").load(
        **_place(cfg), **cfg.data.options
    )
    return loaded


def problems(cfg: DictConfig, typed: Sequence[str] | None = None) -> list[str]:
    """All mistakes in a command's settings of data, each with what to type; most without importing torch.

    A dry run reads no data, so that a place that is not there is none of its mistakes.

    Args:
        cfg: the composed config.
        typed: the settings that the command names, or its overrides; None where they are not known.
    """
    found = option_problems(cfg, typed) + _family_problems(cfg)
    if not cfg.get("dry_run"):
        found += _place_problems(cfg)
    return found or from_data.problems(cfg, typed)


def _family_problems(cfg: DictConfig) -> list[str]:
    """Settings of a family of tasks that do not go together, as far as they can be told without its module."""
    found = []
    shift, side, batch = (OmegaConf.select(cfg, key) for key in ("augment.shift", "model.args.img_size", "batch_size"))
    embedded_images = cfg.task.recipe == "classification" and cfg.data.module not in from_data.OWN
    if embedded_images and isinstance(side, int) and isinstance(shift, int) and shift > side // 2:
        found.append(f"augment.shift={shift} moves images of {side} pixels out of sight: choose at most {side // 2}")
    if cfg.task.recipe == "contrastive.recipe" and isinstance(batch, int) and batch < 2:
        found.append(f"batch_size={batch}: a pair is told from the others of its batch; choose 2 or more")
    return found


def option_problems(cfg: DictConfig, typed: Sequence[str] | None = None) -> list[str]:
    """Mistakes in what kind of data a task is given, and in the options of these that were typed."""
    try:
        holds, wanted = declarations.holds(cfg.data.module), declarations.learns_from(cfg.task.recipe)
    except ConfigError as error:
        return [str(error)]
    if holds != wanted:
        return [f"data={cfg.data.name} holds {holds}; task={cfg.task.name} learns from {wanted}"]
    return _data_problems(cfg, from_data.superfluous(cfg, typed))


def _place(cfg: DictConfig) -> dict[str, str]:
    """Where the data are: a local folder goes before the hub's name that a data set's file may carry."""
    return next(({key: cfg.data[key]} for key in ("path", "hub") if cfg.data[key] is not None), {})


def _place_problems(cfg: DictConfig) -> list[str]:
    """A place that is not given or not there."""
    data = cfg.data
    try:
        if "path" not in declarations.options(data.module):
            return []
    except ConfigError:  # said already
        return []
    if data.path is not None:
        if not Path(data.path).expanduser().exists():
            return [f"data.path={data.path} does not exist: set data.path to where the data of data={data.name} are"]
    elif data.hub is None:
        return [f"data={data.name} needs data.path=, a file or folder, or data.hub=, a name on the Hugging Face hub"]
    return []


# Types of options that are checked, by their names in an annotation, and what errors call them.
PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "None": "null"}


def _data_problems(cfg: DictConfig, dropped: Sequence[str] = ()) -> list[str]:
    """Options that the data set does not take, does not get, or gets with another type; none of those dropped."""
    data = cfg.data
    try:
        takes = declarations.options(data.module)
    except ConfigError as error:
        return [str(error)]
    found = [
        f"data={data.name} takes no data.{key}; data=text reads texts of your own, data=imagenet images"
        for key in _place(cfg)
        if key not in takes
    ]
    options = {name: taken for name, taken in takes.items() if name not in ("path", "hub")}
    known = ", ".join(options) or "none"
    for name in data.options:
        if name not in options and name not in dropped:
            found.append(f"data={data.name}: data.options.{name} is unknown; known: {known}")
    for name, taken in options.items():
        if name not in data.options:
            if taken.required:
                found.append(
                    f"data={data.name} needs data.options.{name}, which the setting of this task does not have; its "
                    f"options: {known}"
                )
            continue
        value, kinds = data.options[name], taken.kinds
        kind = "None" if value is None else type(value).__name__
        if set(kinds) <= set(PLAIN) and kind not in kinds and not ("float" in kinds and kind == "int"):
            expected = " or ".join(PLAIN[each] for each in kinds)
            found.append(f"data={data.name}: data.options.{name}={value} must be {expected}")
    return found

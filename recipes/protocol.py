"""The interface of a recipe: what a family of tasks implements, and all that the training loop uses of it."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig

from recipes.errors import ConfigError
from recipes.settings import declarations, from_data

if TYPE_CHECKING:  # a command's mistakes are answered without these imports, which take seconds
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from recipes.training.sampler import Batch, Examples


class Recipe(ABC):
    """Model, data, loss and metric of a task; methods with a body here are optional.

    Attributes:
        learns_from: the kind of its data, equal to the constant `HOLDS` of a module in recipes/data/.
        metric: the validation metric for choosing hyperparameters; an instance may differ from its class.
        goal: whether a higher or lower value is better.
        tokenizer: of its texts, set by `examples`.
        forward_methods: methods of its model other than `forward` that are called from outside.
        uses_initial_weights: `initialise` computes with the model, so each process needs all weights.
    """

    learns_from: str
    metric: str
    goal: Literal["max", "min"]
    tokenizer: Tokenizer | None = None
    forward_methods: tuple[str, ...] = ()
    uses_initial_weights: bool = False

    @abstractmethod
    def __init__(self, cfg: DictConfig) -> None: ...

    @abstractmethod
    def examples(self) -> dict[str, Examples]:
        """The data: `train`, `val`, `test`, and further test sets by name."""

    @abstractmethod
    def model(self) -> nn.Module:
        """The model with fresh weights, drawn from torch's global generator; on the meta device it takes no memory."""

    @abstractmethod
    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Load the weights of another run, as `init_from=` asks."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars of a training batch; `loss` is minimised, others are logged."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Values of each example, batch first; the loop gathers them over batches and processes."""

    @abstractmethod
    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """The metrics of a whole split from the values of its examples, in the data set's order."""

    @abstractmethod
    def blank_batch(self, size: int) -> Batch:
        """A training batch of this size without data, on torch's default device: the dry run's input."""

    def targets(self, batch: Batch) -> torch.Tensor | None:
        """The number of targets over which a batch's loss is a mean, 0-d int64; None if that is over examples."""
        return None

    def pictures(self, model: nn.Module, device: torch.device) -> dict[str, np.ndarray]:
        """Images to save from a trained model, uint8 [H, W, C] by name."""
        return {}


def recipe_class(module: str) -> type[Recipe]:
    """The class `Recipe` of recipes/<module>.py, whose metric and goal are known without an instance."""
    return importlib.import_module(f"recipes.{module}").Recipe


def make(cfg: DictConfig) -> Recipe:
    """The recipe that the task names: the `Recipe` class of a module in recipes/.

    Raises:
        ConfigError: the data set is of another kind or does not take its options, or a setting of the model is not
            what it has to be.
    """
    if mistakes := from_data.option_problems(cfg):
        raise ConfigError("; ".join(mistakes))
    return recipe_class(cfg.task.recipe)(cfg)


def load_data(cfg: DictConfig) -> dict[str, Any]:
    """The data set that the config names: `load` of a module in recipes/data/. Its options have been checked (`make`).

    Raises:
        ConfigError: the data are missing.
    """
    from recipes.data.hub import NotAvailableError

    load: Any = importlib.import_module(f"recipes.data.{cfg.data.module}").load
    try:
        loaded: dict[str, Any] = load(**declarations.place(cfg.data), **cfg.data.options)
    except NotAvailableError as error:
        if cfg.data.get("download"):
            raise NotAvailableError(f"{error}; to get: {cfg.data.download}") from None
        raise
    return loaded

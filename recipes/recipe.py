"""What a family of tasks has to say about itself; the training loop knows nothing more of it."""

import importlib
from typing import Any, Literal, Protocol

import torch
from omegaconf import DictConfig
from torch import nn

from recipes.errors import ConfigError
from recipes.loading import Batch, Examples


class Recipe(Protocol):
    """Model, data, loss and metric of a task."""

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
    """The recipe that the task names: the `Recipe` class of a module in recipes/."""
    module = importlib.import_module(f"recipes.{cfg.task.recipe}")
    recipe: Any = module.Recipe(cfg)
    return recipe


def load_data(cfg: DictConfig) -> dict[str, Any]:
    """The data set that the config names: `load` of a module in recipes/data/.

    Raises:
        ConfigError: an option is unknown to the module, or the data are missing.
    """
    module = importlib.import_module(f"recipes.data.{cfg.data.module}")
    # A local folder goes before the hub's name that a data set's file may carry.
    given = next(({key: cfg.data[key]} for key in ("path", "hub") if cfg.data[key] is not None), {})
    try:
        return module.load(**given, **cfg.data.options)
    except TypeError as error:
        if "unexpected keyword" in str(error):
            raise ConfigError(f"data={cfg.data.name}: {error}") from None
        raise

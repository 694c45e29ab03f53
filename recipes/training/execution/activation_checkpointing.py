"""Activation checkpointing: blocks recompute activations in the backward pass (`activation_checkpointing=true`)."""

from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from recipes.errors import ConfigError


def apply(blocks: list[nn.Module]) -> None:
    """Let each block keep only its input, in place; results and gradients stay the same, dropout included.

    Blocks with running statistics, which a second pass would update again, are left unchanged.

    Args:
        blocks: a model's, none within another, before they are compiled.

    Raises:
        ConfigError: no block can be checkpointed.
    """
    taken = recomputable(blocks)
    if not taken:
        raise ConfigError(
            "activation_checkpointing=true: this model has no block without batch norm, whose running statistics a "
            "second pass would move again; set activation_checkpointing=false"
        )
    for block in taken:
        recomputed: Any = partial(checkpoint, block.forward, use_reentrant=False)
        block.forward = recomputed


def recomputable(blocks: list[nn.Module]) -> list[nn.Module]:
    """The blocks that `apply` accepts."""
    return [block for block in blocks if not any(_moves(module) for module in block.modules())]


def _moves(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.track_running_stats

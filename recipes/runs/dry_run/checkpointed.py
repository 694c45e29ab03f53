"""What lives from forward to backward where blocks keep their inputs alone and are computed again in backward."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from recipes.distributed import sharding
from recipes.training.execution.activation_checkpointing import recomputable

Batch = dict[str, Tensor]


def blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that activation_checkpointing=true computes again; none of a model of batch norm."""
    return recomputable(sharding.innermost(model))


def kept_for_backward(model: nn.Module, loss_fn: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> tuple[int, int]:
    """Return the bytes alive when the largest block is computed again, and the largest tensor's.

    Alive are the inputs of all blocks, what is kept outside of them, and what the largest block keeps.
    """
    outside: list[Tensor] = list(batch.values())
    inside: dict[nn.Module, list[Tensor]] = {block: [] for block in blocks(model)}
    running: list[nn.Module] = []

    def enter(block: nn.Module, args: Any, kwargs: Any) -> None:
        outside.extend(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        running.append(block)

    def leave(block: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    def pack(tensor: Tensor) -> Tensor:
        (inside[running[-1]] if running else outside).append(tensor)
        return tensor

    for block in inside:
        block.register_forward_pre_hook(enter, with_kwargs=True)
        block.register_forward_hook(leave)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_fn(model, batch)
    parameters = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept = _storages(outside, parameters)
    again = [_storages(tensors, parameters | set(kept)) for tensors in inside.values()]
    largest = max((size for each in (kept, *again) for size in each.values()), default=0)
    return sum(kept.values()) + max((sum(each.values()) for each in again), default=0), largest


def _storages(tensors: list[Tensor], but: set[int]) -> dict[int, int]:
    """Bytes of the tensors' storages by identity, each once and whole."""
    storages = {storage._cdata: storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}
    return {key: size for key, size in storages.items() if key not in but}

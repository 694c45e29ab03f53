"""Initial values of a sharded model: the first process draws them and sends each process its part.

The other processes build the model on the meta device, so that none holds the whole model. A run has the same initial
weights on any number of processes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from recipes.distributed import processes

Values = tuple[dict[str, Tensor], dict[tuple[str, str], Tensor]]


def values_of(model: nn.Module) -> Values:
    """The whole tensors of a model before it is split: its state, and tensors that its state dictionary leaves out.

    They stay accessible here after the modules only hold parts of them.
    """
    named = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}  # tied tensors have one name
    state = {name: value.detach() for name, value in model.state_dict().items() if name in named}
    return state, {place: value.detach() for place, value in _unsaved(model).items()}


def distribute(model: nn.Module, values: Values, device: torch.device) -> None:
    """Give each process its parts of the first process's values.

    Args:
        model: in shards, on the meta device or not.
        values: of the first process; on the others only the names are used.
        device: of the parts.
    """
    state, unsaved = values
    if all(value.is_meta for value in state.values()):
        model.to_empty(device=device)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, dict(state) if processes.is_first() else {}, options=options)
    for (place, name), value in processes.broadcast_from_first(lambda: _on_cpu(unsaved)).items():
        module = model.get_submodule(place)
        current: Any = getattr(module, name)
        # A plain attribute has the device that the model's builder gave it.
        there = value.to(device) if name in module._buffers or current.device.type != "cpu" else value
        module._buffers.update({name: there}) if name in module._buffers else setattr(module, name, there)


def _on_cpu(tensors: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
    return {place: tensor.cpu() for place, tensor in tensors.items()}


def _unsaved(model: nn.Module) -> dict[tuple[str, str], Tensor]:
    """Buffers that are not saved and tensors in plain attributes, by module name and attribute name."""
    unsaved = {}
    for place, module in model.named_modules():
        tensors: dict[str, Any] = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        tensors |= {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
        unsaved.update({(place, name): value for name, value in tensors.items() if value is not None})
    return unsaved

"""A model in shards begins with the values of the first process: the others build it without memory.

Each process would else hold the whole model once before it keeps its part. The values are those that one process alone
would draw, so that a run has the same initial weights on any number of processes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from recipes.distributed import processes

Values = tuple[dict[str, Tensor], dict[tuple[str, str], Tensor]]


def values_of(model: nn.Module) -> Values:
    """What a model holds before it is split: its state, and tensors that its state dictionary leaves out.

    Parameters are still to be found here when their modules hold parts of them.
    """
    own = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}  # what is tied has one name here
    state = {name: value.detach() for name, value in model.state_dict().items() if name in own}
    return state, {place: value.detach() for place, value in _unsaved(model).items()}


def distribute(model: nn.Module, values: Values, device: torch.device) -> None:
    """Give every process its parts of the first one's values.

    Args:
        model: in shards, on the meta device or not.
        values: those of the first process; elsewhere they count for their names.
        device: where the parts lie.
    """
    state, unsaved = values
    if all(value.is_meta for value in state.values()):
        model.to_empty(device=device)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, dict(state) if processes.is_first() else {}, options=options)
    for (place, name), value in processes.sent_by_first(lambda: _on_cpu(unsaved)).items():
        module = model.get_submodule(place)
        held: Any = getattr(module, name)
        # A plain attribute has the device that the model's builder gave it.
        there = value.to(device) if name in module._buffers or held.device.type != "cpu" else value
        module._buffers.update({name: there}) if name in module._buffers else setattr(module, name, there)


def _on_cpu(tensors: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
    return {place: tensor.cpu() for place, tensor in tensors.items()}


def _unsaved(model: nn.Module) -> dict[tuple[str, str], Tensor]:
    """Buffers that are not saved and tensors in plain attributes, by the module's name and their own."""
    found = {}
    for place, module in model.named_modules():
        held: dict[str, Any] = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        held |= {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
        found.update({(place, name): value for name, value in held.items() if value is not None})
    return found

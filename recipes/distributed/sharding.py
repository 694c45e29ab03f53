"""Shard a model over processes (FSDP): which parameters are gathered together, and in which dtype.

The dry run uses the same rules.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.modules.conv import _ConvNd

from recipes.distributed import initial_values


@dataclass(frozen=True)
class Unit:
    """Parameters that are gathered when the first of their modules is used, and freed after the last.

    Attributes:
        modules: its parameters are those of these modules that are not in earlier units.
        half: gathered in bfloat16.
    """

    modules: list[nn.Module]
    half: bool


def units(model: nn.Module, precision: str) -> list[Unit]:
    """How a model is split, inner units before outer ones; the last is the root, which stays gathered for a whole step.

    Each block is a unit; under autocast (bf16), the weights that autocast would copy are separate units, in bfloat16.
    """
    holders = Counter(p for module in model.modules() for p in module.parameters(recurse=False))
    tied = {parameter for parameter, count in holders.items() if count > 1}  # stay with the root
    taken: set[nn.Module] = set()
    units: list[Unit] = []
    for part in (*blocks(model), model):
        if part in taken:
            continue
        if precision == "bf16":
            inner = [module for module in part.modules() if module is not part and module not in taken]
            cast = [module for module in inner if _is_cast(module) and not tied & set(module.parameters())]
            # Those of a block are used together; of the root, some before the blocks and some after them.
            groups = [[module] for module in cast] if part is model else [cast] if cast else []
            units += [Unit(group, half=True) for group in groups]
        units.append(Unit([part], half=False))
        taken.update(part.modules())
    return units


def blocks(model: nn.Module) -> list[nn.Module]:
    """Transformer blocks and stages, no single layers; inner ones before outer ones."""
    lists = [module for module in reversed(list(model.modules())) if isinstance(module, nn.ModuleList | nn.Sequential)]
    return [block for module in lists for block in module if len(list(block.parameters())) > 2]


def innermost(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model that contain no other block."""
    candidates = blocks(model)
    holders = {id(block) for block in candidates for inner in candidates if inner is not block and _holds(block, inner)}
    return [block for block in candidates if id(block) not in holders]


def _holds(block: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in block.modules())


def _is_cast(module: nn.Module) -> bool:
    """Whether autocast copies a module's parameters to the lower precision."""
    return isinstance(module, nn.Linear | _ConvNd) or type(module).__name__ == "Conv1D"  # GPT-2's in transformers


def parameters(units: list[Unit]) -> list[list[nn.Parameter]]:
    """The parameters of each unit."""
    seen: set[nn.Parameter] = set()
    each = []
    for unit in units:
        unit_parameters = {p: None for module in unit.modules for p in module.parameters() if p not in seen}
        seen.update(unit_parameters)
        each.append(list(unit_parameters))
    return each


def shard(
    model: nn.Module,
    device: torch.device,
    precision: str,
    forward_methods: Sequence[str] = (),
    size: int | None = None,
) -> None:
    """Split parameters, gradients and optimizer state over the processes, in place.

    One unit after the other is moved to the device, and its part is kept there. A forward pass computes the same values
    as on one process; gradients are averaged in float32. Scalars become vectors of one element, which can be split;
    checkpoints hold them as scalars, whose names the model keeps in `scalars`.

    Args:
        model: on the CPU or the devices, not wrapped; on the meta device on any process but the first.
        device: of this process.
        precision: fp32, or bf16 for autocast.
        forward_methods: methods of the model other than `forward` that are called from outside; they gather too.
        size: processes that share one copy of the model, neighbours by rank; each such group has a copy, so that only
            gradients travel between groups, as suits several machines. None: all processes share one.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policies = {
        False: MixedPrecisionPolicy(),
        True: MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False),
    }
    mesh = _mesh(device.type, size)
    _make_vectors(model)
    values = initial_values.values_of(model)
    for unit in units(model, precision):
        modules = unit.modules if len(unit.modules) > 1 else unit.modules[0]
        fully_shard(modules, mesh=mesh, mp_policy=policies[unit.half])
    for name in forward_methods:
        register_fsdp_forward_method(model, name)
    initial_values.distribute(model, values, device)


def _mesh(device: str, size: int | None) -> DeviceMesh:
    """The processes as one row, or as rows of `size`, each with a copy."""
    processes = dist.get_world_size()
    if size in (None, processes):
        return init_device_mesh(device, (processes,))
    return init_device_mesh(device, (processes // int(size or 1), int(size or 1)), mesh_dim_names=("copies", "parts"))


def _make_vectors(model: nn.Module) -> None:
    """Turn scalar parameters into vectors of one element, and store their names in the model."""
    scalars = {name for name, parameter in model.named_parameters() if parameter.ndim == 0}
    for name in scalars:
        place, _, attribute = name.rpartition(".")
        scalar = model.get_parameter(name)
        vector = nn.Parameter(scalar.detach().reshape(1), scalar.requires_grad)
        setattr(model.get_submodule(place), attribute, vector)
    model.scalars = scalars  # type: ignore[assignment]

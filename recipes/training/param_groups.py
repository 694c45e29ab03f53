"""The role of each parameter of a model, and whether it decays: one rule for all models and optimizers.

A parameter's role follows from the module that owns it, independent of that module's place in the model. So a parameter
has the same role whether its model is trained alone or as a part of another.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from tabulate import tabulate
from torch import nn


class Role(StrEnum):
    """What a parameter does in its model."""

    MATRIX = "matrix"  # of a linear layer or of attention
    CONVOLUTION = "convolution"
    EMBEDDING = "embedding"  # of tokens or classes
    HEAD = "output head"  # the linear layer that computes logits; if it is tied, the embedding
    VECTOR = "vector"  # biases, scales of norms, scalars such as a temperature
    POSITION = "position"  # embeddings of positions and segments, class tokens, tables of relative positions

    @property
    def key(self) -> str:
        """Its name in a setting, as in optim.roles=[matrix,head]."""
        return self.name.lower()


DECAYING = {
    "matrices": frozenset({Role.MATRIX, Role.CONVOLUTION}),
    "weights": frozenset({Role.MATRIX, Role.CONVOLUTION, Role.EMBEDDING, Role.HEAD}),
    "all": frozenset(Role),
}

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]

# Only the name distinguishes an embedding of positions from one of tokens: both are nn.Embedding.
_POSITION = re.compile(
    r"wpe|pos(ition(al|s)?)?_?emb\w*|embed_pos\w*|rel(ative)?_(pos|emb)\w*|relative_attention_bias|token_type_emb\w*"
)
_TOKEN = re.compile(r"(\w+_)?tokens?|latent|query")  # learned inputs that are attributes of the model, like cls_token


@dataclass(frozen=True)
class Parameter:
    """A trainable parameter with its full name and its role."""

    name: str
    role: Role
    value: nn.Parameter


def parameters_of(model: nn.Module) -> Iterator[Parameter]:
    """Each trainable parameter of a model once, in the order of `named_parameters()`."""
    heads, exempt = _heads(model), _exempt(model)
    for name, value in model.named_parameters():
        if value.requires_grad:
            path, _, last = name.rpartition(".")
            yield Parameter(name, _role(model.get_submodule(path), path, last, value, heads, exempt), value)


def parameter_groups(model: nn.Module, rule: str, weight_decay: float) -> list[dict[str, Any]]:
    """Split a model's trainable parameters into those that decay and those that do not.

    Each group has the key `roles`: the roles of its parameters, in order.

    Args:
        model: its trainable parameters are grouped.
        rule: a key of `DECAYING`. `weights` decays the weights of linear and convolutional layers and of embeddings
            of tokens and classes, but no biases, norms, position embeddings or class tokens; `matrices` leaves
            embeddings and the output layer out, too; `all` decays everything.
        weight_decay: the coefficient for those that decay.
    """
    decayed: list[Parameter] = []
    rest: list[Parameter] = []
    for parameter in parameters_of(model):
        (decayed if parameter.role in DECAYING[rule] else rest).append(parameter)
    return [
        {"params": [p.value for p in group], "roles": [p.role for p in group], "weight_decay": coefficient}
        for group, coefficient in ((decayed, weight_decay), (rest, 0.0))
        if group
    ]


def table(model: nn.Module, rule: str) -> str:
    """A text table of a model's roles: tensors, parameters, whether they decay, and an example by name."""
    rows = []
    everything = list(parameters_of(model))
    for role in Role:
        with_role = [parameter for parameter in everything if parameter.role == role]
        if with_role:
            count = f"{sum(parameter.value.numel() for parameter in with_role):,}"
            rows.append([role, len(with_role), count, "yes" if role in DECAYING[rule] else "no", with_role[0].name])
    return tabulate(rows, ["role", "tensors", "parameters", "decays", "for example"], disable_numparse=True)


def _role(owner: nn.Module, path: str, name: str, value: nn.Parameter, heads: set[int], exempt: set[int]) -> Role:
    if value.ndim < 2:
        return Role.VECTOR
    named = path.rpartition(".")[2] if isinstance(owner, nn.Embedding) else name
    if id(value) in exempt or _POSITION.fullmatch(named):
        return Role.POSITION
    if isinstance(owner, nn.Embedding):
        return Role.EMBEDDING
    if isinstance(owner, nn.modules.conv._ConvNd):
        return Role.CONVOLUTION
    if id(value) in heads:
        return Role.HEAD
    if _TOKEN.fullmatch(name):
        return Role.POSITION
    # A scale or shift of channels may have axes of size 1 for broadcasting (ResMLP's affine norm).
    broadcast = sum(size > 1 for size in value.shape) <= 1 and not isinstance(owner, nn.Linear)
    return Role.VECTOR if broadcast else Role.MATRIX


def _heads(model: nn.Module) -> set[int]:
    """The weights of output layers, as timm and transformers name them."""
    head_weights = set()
    for module in model.modules():
        for accessor in ("get_classifier", "get_output_embeddings"):
            head = getattr(module, accessor)() if callable(getattr(module, accessor, None)) else None
            if isinstance(head, nn.Linear):
                head_weights.add(id(head.weight))
    return head_weights


def _exempt(model: nn.Module) -> set[int]:
    """The parameters that a part of the model exempts from weight decay (timm's `no_weight_decay`)."""
    exempt = set()
    for module in model.modules():
        if callable(names_exempt := getattr(module, "no_weight_decay", None)):
            inside = dict(module.named_parameters())
            exempt |= {id(inside[name]) for name in names_exempt() if name in inside}
    return exempt


def set_training(optimizer: torch.optim.Optimizer, training: bool) -> None:
    """Switch a schedule-free optimizer between its weights for training and those for evaluation."""
    switch = getattr(optimizer, "train" if training else "eval", None)
    if switch is not None:
        switch()


def set_rate(group: dict[str, Any], lr: float) -> None:
    """Set a group's learning rate; a tensor is changed in place, so that compiled or captured steps see it."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr

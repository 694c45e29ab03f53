"""Several optimizers for one model, chosen by a parameter's role: one for matrices, another for embeddings.

conf/optim/muon.yaml is an example: `roles` are those of the class itself, `routes` name further classes, each with its
roles and its learning rate: a ratio to the main one, or a rate of its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from recipes.errors import ConfigError
from recipes.training.param_groups import Role, set_training

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class Route:
    """An optimizer class and the roles of the parameters that it updates.

    Attributes:
        setting: the key of its roles on the command line, such as `optim.routes.adamw.roles`.
        roles: of the parameters that it updates.
        make: builds it from parameter groups.
        lr_ratio: its learning rate over the main one. Its weight decay is divided by it, so that a step takes the same
            share lr·λ off every parameter that decays.
    """

    setting: str
    roles: frozenset[Role]
    make: Callable[[Groups], Optimizer]
    lr_ratio: float = 1.0


class RoutedOptimizer(Optimizer):
    """Several optimizers behind torch's interface: their groups and state, stepped one after the other.

    Args:
        params: as for any optimizer. A group's `roles` names the role of each of its parameters; where it is missing, a
            tensor with two axes is a matrix, one with fewer a vector and one with more a convolution.
        name: of the file in conf/optim, for messages.
        routes: the main one first.

    Raises:
        ConfigError: a parameter's role has no route, or the main route has no parameter.
    """

    def __init__(self, params: Iterable[Any], name: str, routes: list[Route]) -> None:
        super().__init__(params, {})
        groups = self.param_groups
        _check(groups, name, routes)
        self.parts: list[torch.optim.Optimizer] = []
        for route in routes:
            if routed := [part for group in groups if (part := _of_route(group, route))["params"]]:
                self.parts.append(route.make(routed))
        self._share()

    def _share(self) -> None:
        """Take over the parts' groups and their common state."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        for part in self.parts:
            if part.state is not self.state:
                self.state.update(part.state)
                part.state = self.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group in the constructor, and refuse one afterwards."""
        if hasattr(self, "parts"):
            raise RuntimeError("a routed optimizer takes all its parameters when it is made")
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy: the parts hold everything else."""
        return {"defaults": self.defaults, "parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the parts of a copy."""
        super().__setstate__({**state, "state": state["parts"][0].state, "param_groups": []})
        self._share()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load into each part its share of a state dictionary: some classes load theirs in a special way."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        groups, self.state = iter(state_dict["param_groups"]), type(self.state)(dict)
        for part in self.parts:
            groups_of_part = [next(groups) for _ in part.param_groups]
            keys = {key for group in groups_of_part for key in group["params"]}
            part.load_state_dict(
                {"state": {k: v for k, v in state_dict["state"].items() if k in keys}, "param_groups": groups_of_part}
            )
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient, and return what the closure returned."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for part in self.parts:
            part.step()
        return loss

    def train(self) -> None:
        """Switch the parts with two sets of weights (schedule-free) to those for training."""
        for part in self.parts:
            set_training(part, True)

    def eval(self) -> None:
        """Switch the parts with two sets of weights to those for evaluation."""
        for part in self.parts:
            set_training(part, False)


def _check(groups: Groups, name: str, routes: list[Route]) -> None:
    """Refuse a model that the routes do not fit."""
    present = {role for group in groups for role in _roles(group)}
    covered = {role for route in routes for role in route.roles}
    for role in Role:
        if role in present - covered:
            settings = " or ".join(f"{route.setting}=[...]" for route in routes)
            raise ConfigError(f"optim={name} has no rule for parameters of role {role.key}: add it to {settings}")
    if not present & routes[0].roles and any("roles" in group for group in groups):
        has = ", ".join(role.key for role in Role if role in present)
        wanted = ", ".join(role.key for role in Role if role in routes[0].roles)
        raise ConfigError(
            f"optim={name} has nothing to step by its own rule: the model has no parameter of role {wanted}, only "
            f"{has}; choose another optim="
        )


def _roles(group: dict[str, Any]) -> list[Role]:
    by_axes = {0: Role.VECTOR, 1: Role.VECTOR, 2: Role.MATRIX}
    return group.get("roles") or [by_axes.get(p.ndim, Role.CONVOLUTION) for p in group["params"]]


def _of_route(group: dict[str, Any], route: Route) -> dict[str, Any]:
    """A group's parameters that a route steps, with the group's settings."""
    routed = {key: value for key, value in group.items() if key not in ("params", "param_names", "roles")}
    named = list(zip(group["param_names"], group["params"], strict=True)) if "param_names" in group else group["params"]
    routed["params"] = [p for p, role in zip(named, _roles(group), strict=True) if role in route.roles]
    if "lr" in routed:
        routed["lr"] = routed["lr"] * route.lr_ratio
    if "weight_decay" in routed:
        routed["weight_decay"] = routed["weight_decay"] / route.lr_ratio
    return routed

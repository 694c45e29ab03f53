"""Any program as an optimizer of torch."""

from collections.abc import Callable, Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lion.discovery.language.analysis import live
from lion.discovery.language.compile import compile_torch, reads_whole_tree, states_of
from lion.discovery.language.program import STATES, Program, load, parse, render


class ProgramOptimizer(Optimizer):
    """Runs a program of the search as an optimizer: `w -= update`, with the states that later updates depend on.

    Program 1 with a decay of 0 moves weights as `lion.Lion` does, to the last bit.

    Args:
        params: parameters, named or not, or dictionaries that describe groups of them.
        program: a Program, the name of one that comes along (`program4`), or a file.
        lr: what the program gets as `lr` (default 1): where the peak stands inside the program, the schedule's factor.
        weight_decay: must be 0: decay is part of the program, and acts on every parameter.
        foreach: functions over lists of tensors. None, the default: not on the CPU.

    Raises:
        ProgramError: there is no such program, or it is not valid (a ValueError).
        ValueError: a setting is out of its range, or a checkpoint belongs to another program.
        RuntimeError: a gradient is sparse, or groups have different lr and the program runs over all arrays at once.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = ProgramOptimizer([weight], "program1", lr=0.25)
        >>> (weight**2).sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([ 0.5000, -1.2500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        program: Program | str | Path = "program4",
        lr: float | Tensor = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
    ) -> None:
        whole = program if isinstance(program, Program) else load(program)
        self._compile(whole)
        defaults = {"lr": lr, "weight_decay": weight_decay, "foreach": foreach, "program": render(whole)}
        super().__init__(params, defaults)

    def _compile(self, program: Program) -> None:
        self.states = states_of(program)
        needed = live(program)
        self._each = None if reads_whole_tree(needed) else compile_torch(needed)
        self._lists = compile_torch(needed)
        self._foreach = compile_torch(needed, foreach=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters after checking its settings."""
        settings = self.defaults | param_group
        lr, decay, foreach = settings["lr"], settings["weight_decay"], settings["foreach"]
        if isinstance(lr, bool) or not isinstance(lr, Real | Tensor) or not 0 <= float(lr) < float("inf"):
            raise ValueError(f"lr must be a finite number of at least 0, not {lr!r}")
        if decay != 0:
            raise ValueError(f"weight_decay must be 0, not {decay!r}: a program's decay stands in the program")
        if not (foreach is None or isinstance(foreach, bool)):
            raise ValueError(f"foreach must be True, False or None, not {foreach!r}")
        super().add_param_group(param_group)
        if any(p.is_complex() for p in self.param_groups[-1]["params"]):
            self.param_groups.pop()
            raise ValueError("a program takes real parameters; view a complex one with torch.view_as_real")
        group = self.param_groups[-1]
        if isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].detach().clone()  # its own: schedules write into it

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled or loaded state, without the key that torch adds to the defaults of later groups."""
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)
        if "defaults" in state:  # a copy or a pickle, which holds the program as text
            self._compile(parse(self.defaults["program"]))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that the same program wrote.

        Raises:
            ValueError: it was written by another program, or by another optimizer.
        """
        if any(group.get("program") != self.defaults["program"] for group in state_dict["param_groups"]):
            raise ValueError("the state belongs to another program: start anew, or give the program that wrote it")
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient; return what `closure`, which evaluates the model, returned."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        batches = [
            (params, group)
            for group in self.param_groups
            if (params := [p for p in group["params"] if p.grad is not None])
        ]
        if any(p.grad.layout != torch.strided for params, _ in batches for p in params):
            raise RuntimeError("a program needs dense gradients; a sparse one came (Embedding with sparse=True?)")
        if self._each is None and len(batches) > 1:  # norms run over the model, not over a group
            rates = [float(group["lr"]) for _, group in batches]
            if len(set(rates)) > 1:
                raise RuntimeError(f"this program runs over all parameters at once and takes one lr, not {rates}")
            batches = [([p for params, _ in batches for p in params], batches[0][1])]
        for params, group in batches:
            on_cpu = any(p.device.type == "cpu" for p in params)
            foreach = not on_cpu if group["foreach"] is None else group["foreach"]
            if foreach:
                self._update(self._foreach, params, group["lr"])
            elif self._each is None:
                self._update(self._lists, params, group["lr"])
            else:
                for p in params:  # one after the other: what is computed on the way is as large as one array
                    self._update(self._each, [p], group["lr"])
        return loss

    def _update(self, train: Callable[..., Any], params: list[Tensor], lr: float | Tensor) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update({name: torch.zeros_like(p) for name in self.states})
        # A state that is not kept is never read before it is written, so that anything may stand in its place.
        before = [[self.state[p].get(name, p) for p in params] for name in STATES]
        updates, *after = train(params, [p.grad for p in params], *before, lr)
        for name, values in zip(STATES, after, strict=True):
            if name in self.states:
                for p, value in zip(params, values, strict=True):
                    self.state[p][name] = value
        for p, update in zip(params, updates, strict=True):
            p.sub_(update)

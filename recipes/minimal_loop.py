"""A minimal training loop without record, timers and schedule: the baseline for the suite's speed."""

import os
import sys
import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_leaves

from recipes import protocol
from recipes.distributed import devices
from recipes.runs import build, prerequisite
from recipes.training import checkpoint, param_groups
from recipes.training.execution.device_layout import Placement
from recipes.training.progress import duration
from recipes.training.sampler import seed_all
from recipes.training.step_kind import StepKind

BATCHES = 64  # drawn once, then repeated from the first


class MinimalLoop:
    """One optimizer with its own copy of a setting's model, and its own position in the common stream of batches.

    Args:
        cfg: a composed config; where it has an `ema_decay`, the weights are averaged as the suite does.
        device: where it trains; the CPU if not given.
    """

    def __init__(self, cfg: DictConfig, device: torch.device | None = None) -> None:
        cfg = prerequisite.resolved(cfg)
        self.cfg, self.recipe, self.device = cfg, protocol.make(cfg), device or torch.device("cpu")
        self.train = self.recipe.examples()["train"]
        devices.set_precision(cfg, self.device)
        seed_all(cfg.seed)
        self.model = self.recipe.model().train()
        if cfg.init_from is not None:  # a locked tower's features may be cached from these weights
            self.recipe.initialise(self.model, checkpoint.load_weights(cfg.init_from))
        self.model.to(self.device)
        self.placed = Placement(self.device)
        groups = param_groups.parameter_groups(self.model, cfg.decay, cfg.optim.weight_decay)
        self.optimizer = build.optimizer_factory(cfg.optim)(groups)
        param_groups.set_training(self.optimizer, True)
        self.average: AveragedModel | None = None
        if cfg.ema_decay is not None:
            average_fn = get_ema_multi_avg_fn(cfg.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=average_fn, use_buffers=True)
        generator = torch.Generator().manual_seed(cfg.seed)
        self.order = torch.randint(len(self.train), (BATCHES, cfg.batch_size), generator=generator).tolist()
        self.done = 0

    def steps(self, number: int) -> tuple[float, float]:
        """Train for a block of steps; returns the seconds it took, and those of one optimizer step alone.

        On the CPU that is the mean over the block. On a device, which runs asynchronously, timing needs a wait that
        costs speed, so only the block's last step is timed.
        """
        background = self.device.type != "cpu"
        inside, timed, start = 0.0, 0, time.perf_counter()
        for place in range(number):
            self._gradients()
            last = place == number - 1
            if background and last:
                torch.accelerator.synchronize(self.device)
            before = time.perf_counter()
            self.optimizer.step()
            if background and last:
                torch.accelerator.synchronize(self.device)
            if last or not background:
                inside, timed = inside + time.perf_counter() - before, timed + 1
            self.optimizer.zero_grad()
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.done += 1
        if background:
            torch.accelerator.synchronize(self.device)
        return time.perf_counter() - start, inside / max(timed, 1)

    def step_kind(self) -> str:
        """Take one more step, and say which kind it is: fused, foreach or loop."""
        self._gradients()
        with StepKind(sum(p.requires_grad for p in self.model.parameters())) as watched:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1
        return watched.kind

    def _gradients(self) -> None:
        """Compute the gradients of the next batch, clipped where the setting says so."""
        indices = self.order[self.done % len(self.order)]
        batch: Any = self.train.__getitems__([(self.done * len(indices) + i, j) for i, j in enumerate(indices)])
        batch = self.placed(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.precision == "bf16"):
            loss = self.recipe.loss(self.model, batch)["loss"]
        loss.backward()
        if self.cfg.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip_norm)

    def trained_parameters(self) -> int:
        """Numbers that the optimizer updates."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def state_bytes(self) -> int:
        """Bytes of the optimizer's state, scalars such as step counts left out."""
        states = tree_leaves([*self.optimizer.state.values()])
        return sum(v.numel() * v.element_size() for v in states if isinstance(v, torch.Tensor) and v.ndim)


def device_of(cfg: DictConfig) -> torch.device:
    """The device that a run with this config trains on."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if cfg.device == "cpu" or accelerator is None else accelerator


class Rounds:
    """Prints the progress of a measurement on standard error: in place on a terminal, at intervals elsewhere.

    Args:
        total: rounds to come.
        every: least seconds between two lines if the output is not a terminal.
    """

    def __init__(self, total: int, every: float = 10.0) -> None:
        self.total, self.start = total, time.monotonic()
        self.in_place = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.every, self.said = 0.0 if self.in_place else every, self.start

    def done(self, number: int) -> None:
        """Print the number of completed rounds."""
        now = time.monotonic()
        if now - self.said >= self.every:
            self.said = now
            left = duration((now - self.start) / number * (self.total - number))
            line = f"round {number}/{self.total}, {left} left"
            end = "\n" if number == self.total else ""
            print(f"\r\x1b[K{line}{end}" if self.in_place else f"{line}\n", end="", file=sys.stderr, flush=True)

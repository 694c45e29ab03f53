"""The loop that a tutorial would write: no record, no clock, no schedule. What the suite's speed is held against."""

import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recipes import build, checkpoint, forerunner, param_groups, recipe
from recipes.loading import seed_all

BATCHES = 64  # drawn once, then again from the first on


class BareLoop:
    """One optimizer with its own copy of a setting's model, and its own place in the common stream of batches.

    Args:
        cfg: a composed config; where it has an `ema_decay`, the weights are averaged as the suite does.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg, self.recipe = cfg, recipe.make(cfg)
        self.train = self.recipe.examples()["train"]
        seed_all(cfg.seed)
        self.model = self.recipe.model().train()
        if cfg.init_from is not None:  # a locked tower's features may be cached from these weights
            self.recipe.initialise(self.model, checkpoint.load_weights(forerunner.source(cfg)))
        groups = param_groups.parameter_groups(self.model, cfg.decay, cfg.optim.weight_decay)
        self.optimizer = build.optimizer_factory(cfg.optim)(groups)
        self.average: AveragedModel | None = None
        if cfg.ema_decay is not None:
            average_fn = get_ema_multi_avg_fn(cfg.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=average_fn, use_buffers=True)
        generator = torch.Generator().manual_seed(cfg.seed)
        self.order = torch.randint(len(self.train), (BATCHES, cfg.batch_size), generator=generator).tolist()
        self.done = 0

    def steps(self, number: int) -> tuple[float, float]:
        """Train for a block of steps; returns the seconds it took, and those inside the optimizer."""
        inside, start = 0.0, time.perf_counter()
        for _ in range(number):
            indices = self.order[self.done % len(self.order)]
            batch: Any = self.train.__getitems__([(self.done * len(indices) + i, j) for i, j in enumerate(indices)])
            with torch.autocast("cpu", torch.bfloat16, enabled=self.cfg.precision == "bf16"):
                loss = self.recipe.loss(self.model, batch)["loss"]
            loss.backward()
            if self.cfg.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip_norm)
            before = time.perf_counter()
            self.optimizer.step()
            inside += time.perf_counter() - before
            self.optimizer.zero_grad()
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.done += 1
        return time.perf_counter() - start, inside

    def state_bytes(self) -> int:
        """Bytes of the optimizer's state, scalars such as step counts left out."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(v.numel() * v.element_size() for v in states if isinstance(v, torch.Tensor) and v.ndim)

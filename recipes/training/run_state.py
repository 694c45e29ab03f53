"""The state of a run: what it has come to, how it may end, and where it logs."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class DivergedError(Exception):
    """The loss or the metric is not finite any more: a result, not a failure."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"{cause} at step {step}")
        self.step, self.cause = step, cause


class InterruptedRunError(Exception):
    """The run was asked to stop and has written a checkpoint."""


class MetricLogger(Protocol):
    """Where measurements go."""

    def check(self) -> None:
        """Raise ConfigError where they cannot go any more."""

    def begin(self, step: int, redone: Collection[str] = ()) -> None:
        """Keep what was measured up to the step that the run goes on from."""

    def log(self, step: int, split: str, values: dict[str, float], seconds: float) -> None:
        """Record measurements of one step."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Keep a picture, uint8 [H, W, C]."""


@dataclass
class RunState:
    """What a run has come to; filled while it goes on, so that a run cut short has its part."""

    metric: str = ""
    final: float | None = None
    best: float | None = None
    test: dict[str, float] = field(default_factory=dict)
    num_parameters: int = 0
    optimizer_state_bytes: int = 0
    steps_per_second: float | None = None
    optimizer_step_ms: float | None = None  # the step alone
    optimizer_step: str | None = None  # its kind: fused, foreach or loop
    execution: dict[str, Any] = field(default_factory=dict)  # what the device and settings come to, results aside
    data_fingerprint: dict[str, str] = field(default_factory=dict)
    tokenizer: str | None = None  # what its tokens are, where it reads texts
    seconds: dict[str, float] = field(default_factory=dict)

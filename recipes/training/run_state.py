"""Types that the loop shares with the rest of a run: its state, its errors and the logger's interface."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class DivergedError(Exception):
    """The loss, a gradient or a metric is not finite: a result, not a failure."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"{cause} at step {step}")
        self.step, self.cause = step, cause


class InterruptedRunError(Exception):
    """The run was asked to stop and has written a checkpoint."""


class MetricLogger(Protocol):
    """Receives measurements."""

    def secure(self) -> None:
        """Bring the measurements to the disk; raises ConfigError if they can no longer be written."""

    def begin(self, step: int, redone: Collection[str] = ()) -> None:
        """Keep the measurements up to the step from which the run continues."""

    def log(self, step: int, split: str, values: dict[str, float], seconds: float) -> None:
        """Record measurements of one step."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Keep a picture, uint8 [H, W, C]."""


@dataclass
class RunState:
    """The results of a run so far; updated during the run, so that a run that ends early has results too."""

    metric: str = ""
    final: float | None = None
    best: float | None = None
    test: dict[str, float] = field(default_factory=dict)
    num_parameters: int = 0
    optimizer_state_bytes: int = 0
    steps_per_second: float | None = None
    optimizer_step_ms: float | None = None  # the step alone
    optimizer_step: str | None = None  # its kind: fused, foreach or loop
    execution: dict[str, Any] = field(default_factory=dict)  # device and settings that do not affect results
    data_fingerprint: dict[str, str] = field(default_factory=dict)
    tokenizer: str | None = None  # fingerprint of the tokenizer, if it reads texts
    seconds: dict[str, float] = field(default_factory=dict)

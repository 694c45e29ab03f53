"""Asking a run to stop between two steps instead of in the middle of one."""

import signal
from types import FrameType
from typing import Any, Self

import torch
from accelerate import Accelerator


class StopRequests:
    """Turns SIGINT and SIGTERM into a question; a second signal stops at once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        except ValueError:
            pass  # not the main thread: signals are somebody else's
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._asked = True
        signal.signal(number, self._before[number])

    def asked(self, together: bool) -> bool:
        """Whether to stop now.

        Args:
            together: all processes ask at this step; several of them stop only then, at the same step.
        """
        if self._accelerator.num_processes == 1:
            return self._asked
        if not together:
            return False
        flag = torch.tensor(float(self._asked), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)

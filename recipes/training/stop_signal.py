"""Handle signals so that a run stops between two steps, not within one."""

import os
import signal
import stat
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from accelerate import Accelerator


class StopRequests:
    """Turns SIGINT, SIGTERM and SIGHUP into a request to stop; a second SIGINT or SIGTERM stops at once.

    Under nohup, SIGHUP stays ignored. After a SIGHUP the terminal is gone, so output to it is dropped.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        except ValueError:
            pass  # not the main thread, which handles signals
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._asked = True
        if number == signal.SIGHUP:  # comes from the terminal and from the shell
            _leave_terminal()
        else:
            signal.signal(number, self._before[number])

    def requested(self, together: bool) -> bool:
        """Whether to stop now.

        Args:
            together: all processes ask at this step, so several processes can stop at the same step.
        """
        if self._accelerator.num_processes == 1:
            return self._asked
        if not together:
            return False
        flag = torch.tensor(float(self._asked), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)


def _leave_terminal() -> None:
    """Drop output to a terminal that is gone, where each write would raise an error."""
    with Path(os.devnull).open("w") as nowhere:
        for output in (1, 2):
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(nowhere.fileno(), output)

"""A timer for the parts of a run: exactly one part runs at any time, so their seconds add up to the wall time."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class PhaseTimer:
    """Seconds spent in each named part of a run.

    Args:
        part: the part that runs first.
        seconds: what an earlier part of the same run had spent, after a resume.
        synchronize: waits for the device; called before the time is read, so that queued work counts for the part
            that queued it.
    """

    def __init__(
        self,
        part: str,
        seconds: dict[str, float] | None = None,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float, seconds or {})
        self.part = part
        self.synchronize = synchronize
        self._since = time.perf_counter()

    def switch(self, part: str) -> float:
        """Stop the running part, start another, and return the seconds since the last switch."""
        if self.synchronize is not None:
            self.synchronize()
        now = time.perf_counter()
        stretch = now - self._since
        self.seconds[self.part] += stretch
        self.part, self._since = part, now
        return stretch

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """Run one part, then return to the one that was interrupted."""
        before = self.part
        self.switch(part)
        try:
            yield
        finally:
            self.switch(before)

    @property
    def elapsed(self) -> float:
        """Wall seconds over all parts up to now."""
        return sum(self.seconds.values()) + time.perf_counter() - self._since

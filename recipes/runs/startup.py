"""What is settled before a command's first import that takes time: where it prints, how it reads names, how it stops.

Imports nothing but Python's own small modules.
"""

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130  # the shell's convention for a process that SIGINT ended

_cleanups: list[Callable[[], None]] = []


def begin() -> None:
    """Make standard output, file names and Ctrl-C safe to use; calling it again changes nothing."""
    _occupy_standard_streams()
    _read_names_as_utf8()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without é shows \xe9
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def interruptible() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that what has begun can be ended in order."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def on_leaving(cleanup: Callable[[], None]) -> None:
    """Have something done where Ctrl-C ends the process before anything has begun."""
    _cleanups.append(cleanup)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: raised within an import, KeyboardInterrupt turns into whatever that import makes of it."""
    for cleanup in _cleanups:
        cleanup()
    os.write(2, b"\ninterrupted before the first step\n")
    os._exit(INTERRUPTED)


def _occupy_standard_streams() -> None:
    """Where one is closed (`>&-`), the next file opened would get its number, and be printed into."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale would have file names in ASCII."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

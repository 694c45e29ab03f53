"""Set up standard output, file name encoding and Ctrl-C before the first slow import of a command.

This module imports only small modules of the standard library.
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
    """From here on Ctrl-C raises KeyboardInterrupt, so that open records and processes can be closed."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def on_leaving(cleanup: Callable[[], None]) -> None:
    """Register what to do if Ctrl-C ends the process before `interruptible` was called."""
    _cleanups.append(cleanup)


def _leave(number: int, frame: FrameType | None) -> None:
    """Exit at once: an import may turn KeyboardInterrupt into another error."""
    for cleanup in _cleanups:
        cleanup()
    os.write(2, b"\ninterrupted before the first step\n")
    os._exit(INTERRUPTED)


def _occupy_standard_streams() -> None:
    """If one is closed (`>&-`), the next file opened would get its number, and prints would go to that file."""
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
    """Restart in Python's UTF-8 mode if the locale's encoding of file names is ASCII."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

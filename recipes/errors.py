"""Errors for users' mistakes, which are printed as one line each, without a stack trace."""

# Said of a record; not a mistake if two sweeps share a folder.
BUSY = "is being written by another process"


class ConfigError(ValueError):
    """A setting, a file or a data set is missing or invalid.

    The message says in one line what was given, what is allowed and what to do next; a command with several mistakes
    has a line for each.
    """


class DeviceMemoryError(RuntimeError):
    """A device's memory is too small for a run; the message says what fits, in one line. The record is kept."""

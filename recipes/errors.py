"""The errors that a user's mistake raises: they end as a line each, never as a stack trace."""

# What is said of a record that is no mistake where two sweeps share a folder.
BUSY = "is being written by another process"


class ConfigError(ValueError):
    """A setting, a file or a data set is not what it has to be.

    The message says what was given, what is allowed, and what to do next, in one line; a command with several
    mistakes has a line for each.
    """


class DeviceMemoryError(RuntimeError):
    """A device's memory is too small for a run; the message says what fits, in one line. The record stays."""

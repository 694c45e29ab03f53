"""The one error that a user's mistake raises: it ends as a single line, never as a stack trace."""


class ConfigError(ValueError):
    """A setting, a file or a data set is not what it has to be.

    The message says what was given, what is allowed, and what to do next, in one line.
    """

"""Checks of single settings and of names, shared by recipes and settings."""

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from recipes.errors import ConfigError


def check_names(settings: object, names: Sequence[str], where: str, needed: Sequence[str] | None = None) -> None:
    """Refuse settings that are unknown or lacking.

    Args:
        settings: from the config.
        names: of the settings that exist.
        where: the setting that these belong to.
        needed: names that must be set; None is all.

    Raises:
        ConfigError: with the known names.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{where}={settings} must hold {', '.join(names)}")
    odd = sorted({str(name) for name in settings} - set(names))
    lacking = sorted(set(names if needed is None else needed) - set(settings))
    if odd or lacking:
        what = f"{odd[0]} is unknown" if odd else f"{lacking[0]} is missing"
        raise ConfigError(f"{where}.{what}; known: {', '.join(names)}")


def check_arguments(settings: object, function: Callable[..., Any], where: str, elsewhere: Sequence[str] = ()) -> None:
    """Refuse settings that a function does not take or lacks; `elsewhere` names arguments that are not settings.

    Raises:
        ConfigError: with the names that it takes.
    """
    taken = {name: p for name, p in inspect.signature(function).parameters.items() if name not in elsewhere}
    check_names(settings, list(taken), where, [name for name, p in taken.items() if p.default is p.empty])


def is_number(value: object) -> bool:
    """Whether a setting is a finite number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """Whether a setting is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def parse_bytes(text: str | int) -> int:
    """Read a size: 32GiB (2^30 each), 80GB (10^9), or a number of bytes. ConfigError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?))?B?", str(text).strip(), re.IGNORECASE)
    power = "KMGT".index(match[2].upper()) + 1 if match and match[2] else 0
    size = float(match[1]) * (1024 if match[3] else 1000) ** power if match else 0.0
    number = int(size) if math.isfinite(size) else 0
    if number <= 0:
        raise ConfigError(f"device_memory={text} is not a size: write a number and a unit, as in 32GiB or 80GB.")
    return number


def near(name: str, names: Iterable[str]) -> str:
    """`; did you mean ...?` if one of the names is similar, else an empty text."""
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or value is True or value is False
        else str(value)
    )

"""Format numbers and plain-text tables, for all tables, figures and pages."""

import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

from recipes.figure_format import NONE as NONE
from recipes.figure_format import fixed as fixed

PIPE_WIDTH = 160  # columns, if the output is not a terminal


def short_count(number: int) -> str:
    """Write a count with three figures: 410k, 86.6M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def short_number(value: float) -> str:
    """Write a number with three figures: 0.0003, 1.5e-05, 1234; a dash if there is none."""
    return NONE if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def interval(low: float, high: float, places: int, sign: str = "") -> str:
    """Write the ends of an interval: [0.95, 0.97]."""
    return f"[{fixed(low, places, sign)}, {fixed(high, places, sign)}]"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Give each name one of letters, digits, '-' and '_' for anchors and files; different names, different ones."""
    by_name: dict[str, str] = {}
    used: set[str] = set()
    for name in sorted(set(names), key=lambda name: (_slug(name) != name, name)):  # valid names are kept
        slug, number = _slug(name), 2
        while slug.lower() in used:
            slug, number = f"{_slug(name)}-{number}", number + 1
        used.add(slug.lower())
        by_name[name] = slug
    return by_name


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80]


def columns() -> int:
    """Return the width of the terminal, or PIPE_WIDTH where there is none."""
    return max(shutil.get_terminal_size((PIPE_WIDTH, 24)).columns, 20)


def laid_out(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Lay rows of texts out as a table, or as a block of lines for each row where the table is wider than `width`.

    The first column is aligned left, the others right; in a block it is above the others.
    """
    names = list(rows[0]) if rows else []
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        lines = [names, *([row[name] for name in names] for row in rows)]
        return ["  ".join(_set(text, place, widths) for place, text in enumerate(line)).rstrip() for line in lines]
    label = max((len(name) for name in names[1:]), default=0)
    return [
        line
        for row in rows
        for line in (row[names[0]], *(f"  {name:<{label}}  {row[name]}" for name in names[1:] if row[name]))
    ]


def _set(text: str, place: int, widths: Sequence[int]) -> str:
    return text.rjust(widths[place]) if place else text.ljust(widths[place])

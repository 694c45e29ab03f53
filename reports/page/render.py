"""Render the results page as one HTML file, with inlined template, style, scripts and content (JSON).

The tables, heatmaps and verdicts are plain HTML, readable without JavaScript; the scripts sort, filter and draw the
curves from the JSON. The same content gives the same bytes, and the file makes no network requests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.number_format import fixed, short_number
from reports.page.content import Block, CurveBlock, Effect, Fold, Heatmap, HeatmapBlock, Page, Series, TableBlock
from reports.plots.plot_style import DASHES, REFERENCE_COLOUR, Style, styles_of
from reports.protocol import REFERENCE, SUBJECT

HERE = Path(__file__).parent
STROKES = dict(zip(DASHES, ("none", "7 4", "2 3", "7 3 2 3"), strict=True))  # as SVG's stroke-dasharray
BORDERS = dict(zip(DASHES, ("solid", "dashed", "dotted", "double"), strict=True))  # as CSS's border-style
CURVE_DIGITS = 7  # of each number in a curve's JSON: far below a pixel, and half the bytes


def render_page(page: Page) -> str:
    """Return the page as one HTML file."""
    optimizers, tasks = _names(page, "optim"), _names(page, "task")
    styles = styles_of(optimizers, REFERENCE, SUBJECT)
    blocks = dict(_walk(page))
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    environment.filters |= {"prose": _prose, "interval": _interval, "number": short_number, "slug": _slug}
    return environment.get_template("template.html").render(
        page=page,
        optimizers=optimizers,
        tasks=tasks,
        looks=[_look(styles[name]) for name in optimizers],
        content=_plain({"optimizers": optimizers, "tasks": tasks, "blocks": blocks, "commands": page.commands}),
        placed=_placed,
        tint=_tint,
        heat=_heat,
        limits=_limits,
        source=lambda name: Markup((HERE / name).read_text(encoding="utf-8")),
    )


def _names(page: Page, name: str) -> list[str]:
    """Return the optimizers ("optim") or tasks ("task") of the page: the reference first, then alphabetically."""
    distinct = {getattr(item, name) for item in _items(page)} - {""}
    if name == "optim" and page.overview and page.overview.effects:
        distinct |= set(page.overview.effects.optimizers) - {""}
    return sorted(distinct, key=lambda text: (text != REFERENCE, text != SUBJECT, text))


def _placed(blocks: Sequence[Block], prefix: str) -> list[tuple[str, Block]]:
    """Give each block its id on the page: the section's or fold's, and the block's number in it."""
    return [(f"{prefix}.{number}", block) for number, block in enumerate(blocks, 1)]


def _walk(page: Page) -> Iterator[tuple[str, Block]]:
    """Yield all blocks with their ids, those inside folds too."""
    waiting = [each for section in page.sections for each in _placed(section.blocks, section.anchor)]
    while waiting:
        place, block = waiting.pop(0)
        if isinstance(block, Fold):
            waiting = [*_placed(block.blocks, block.anchor), *waiting]
        else:
            yield place, block


def _items(page: Page) -> Iterator[Any]:
    """Yield everything that has an optimizer and a task."""
    for _, block in _walk(page):
        match block:
            case TableBlock():
                yield from block.rows
            case CurveBlock():
                yield from (series for view in block.views for series in view.series)
            case HeatmapBlock():
                yield from block.panels


def _tint(effect: Effect) -> int:
    """Return how much of the colour of better or worse an effect gets, in percent: all at three deviations."""
    return round(60 * min(abs(effect.value or 0.0) / 3, 1))


def _look(style: Style) -> dict[str, str]:
    """Return an optimizer's colour and dashes as CSS; the reference is black on white and white on black."""
    colour = f"light-dark({style.colour}, #FFFFFF)" if style.colour == REFERENCE_COLOUR else style.colour
    width = "2.4" if style.width > 2 else "1.6"
    return {"colour": colour, "stroke": STROKES[style.dashes], "border": BORDERS[style.dashes], "width": width}


def _plain(value: Any, digits: int = 17) -> Any:
    """Return the content for JSON: lists, objects with their `kind`, and null for numbers that do not exist."""
    if is_dataclass(value):
        digits = CURVE_DIGITS if isinstance(value, Series) else digits
        plain = {each.name: _plain(getattr(value, each.name), digits) for each in fields(value)}
        return {"kind": value.kind, **plain} if hasattr(value, "kind") and "kind" not in plain else plain
    if isinstance(value, dict):
        return {key: _plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def _slug(words: str) -> str:
    return words.replace(" ", "-")


def _prose(text: str) -> Markup:
    """Escape a text, and mark text between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _interval(text: str) -> Markup:
    """Put an interval or remark at the end of a number's text on a second line."""
    parts = re.fullmatch(r"([^\[(]*\S) ([\[(].*)", text)
    return escape(text) if parts is None else Markup("{} <small>{}</small>").format(*parts.groups())


def _limits(block: HeatmapBlock) -> tuple[float, float] | None:
    """Return the values at the ends of a block's colour scale, None if it has no values."""
    values = [x for panel in block.panels for row in panel.values for x in row if x is not None and math.isfinite(x)]
    return block.limits or ((min(values), max(values)) if values else None)


def _heat(
    block: HeatmapBlock, limits: tuple[float, float] | None, panel: Heatmap, row: int, column: int
) -> dict[str, Any]:
    """Return a heatmap cell's text, and its position on the colour scale in percent or None."""
    value = panel.values[row][column]
    chosen, diverged = panel.chosen == (row, column), (row, column) in panel.diverged
    if value is None or not math.isfinite(value) or limits is None:
        return {"text": "", "percent": None, "chosen": chosen, "diverged": diverged}
    share = min(max((value - limits[0]) / (limits[1] - limits[0] or 1.0), 0.0), 1.0)
    percent = round(100 * (share if block.goal == "max" else 1 - share))
    return {"text": fixed(value, block.digits), "percent": percent, "chosen": chosen, "diverged": diverged}

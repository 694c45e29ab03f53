"""The content of the results page as plain values: `sections` fills these types, `render` lays them out.

If a type has a field `task` or `optim`, the page's filter hides the rows, series or panels of other tasks or
optimizers; an empty field is always shown. Texts are plain, but for `code` between backticks in prose (summary, section
texts, captions, notes, claims, evidence and values of lists). A number that does not exist is None, nan or infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

VerdictWord: TypeAlias = Literal["supported", "contradicted", "not shown", "not judged", "not run"]


@dataclass(frozen=True)
class Column:
    """A column of a table; `help` explains it under the table and as the tooltip of its header.

    An `extra` column is shown when the reader asks for all columns.
    """

    name: str
    kind: Literal["text", "number"]
    help: str = ""
    extra: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: its text and its sort key.

    `sort` is a number in a number column, where a missing one comes last in both directions; in a text column it
    replaces the text as sort key if given. In a number column, an interval or remark that ends the text, as in
    "0.91 [0.90, 0.92]" or "1,200 (2.00×)", is set small on a second line. `title` is shown as a tooltip and above
    the run ids. `runs`: ids of the runs behind the cell, shown when it is clicked. `verdict` is set as a mark
    after the text.
    """

    text: str
    sort: float | str | None = None
    title: str = ""
    runs: list[str] = field(default_factory=list)
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table, a cell a column. With an optimizer, its first cell gets the optimizer's colour."""

    cells: list[Cell]
    optim: str = ""
    task: str = ""


@dataclass(frozen=True)
class TableBlock:
    """A table that the reader can sort by its columns, initially in the given order.

    Raises:
        ValueError: A row has not a cell a column, or a cell of a number column is to be sorted by a text.
    """

    kind: ClassVar = "table"
    caption: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{self.caption!r}: a row of {len(row.cells)} cells under {len(self.columns)} columns")
            for cell, column in zip(row.cells, self.columns, strict=True):
                if column.kind == "number" and isinstance(cell.sort, str):
                    raise ValueError(f"{self.caption!r}: {column.name!r} holds numbers, not {cell.sort!r}")


@dataclass(frozen=True)
class Series:
    """A curve of one optimizer: points (x, y) with x ascending, and a band from `low` to `high` at each of them.

    `stops` are points where a run diverged, drawn as crosses. A series with stops and no band is treated as the path
    of a run that diverged: it is drawn thin and may leave the vertical range, which the other series set. `dashed`
    distinguishes a series from another of its optimizer.

    Raises:
        ValueError: The band is neither empty nor as long as the points, or x descends.
    """

    optim: str
    label: str
    points: list[tuple[float, float]]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    task: str = ""
    dashed: bool = False
    stops: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or len(self.low) not in (0, len(self.points)):
            raise ValueError(
                f"{self.label!r}: a band of {len(self.low)}, {len(self.high)} at {len(self.points)} points"
            )
        if any(after < before for (before, _), (after, _) in zip(self.points, self.points[1:], strict=False)):
            raise ValueError(f"{self.label!r}: x must ascend")


@dataclass(frozen=True)
class View:
    """The curves of a block against one horizontal axis, such as steps or seconds; `x_label` names the axis."""

    x_label: str
    series: list[Series]
    x_log: bool = False


@dataclass(frozen=True)
class CurveBlock:
    """Curves with one vertical axis; the reader chooses among the views. `target` is drawn as a horizontal line."""

    kind: ClassVar = "curves"
    caption: str
    y_label: str
    views: list[View]
    y_log: bool = False
    target: float | None = None


@dataclass(frozen=True)
class Heatmap:
    """A grid of values: `values[row][column]` is the one at `ys[row]` and `xs[column]`; the first row is the lowest.

    `chosen` and `diverged` are places (row, column). A missing value was not tried, unless it diverged.

    Raises:
        ValueError: `values` has another shape, or a place is outside it.
    """

    title: str
    xs: list[float]
    ys: list[float]
    values: list[list[float | None]]
    chosen: tuple[int, int] | None = None
    diverged: list[tuple[int, int]] = field(default_factory=list)
    optim: str = ""
    task: str = ""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.ys) or any(len(row) != len(self.xs) for row in self.values):
            raise ValueError(f"{self.title!r}: values must be {len(self.ys)} rows of {len(self.xs)}")
        for row, column in [*self.diverged, *([self.chosen] if self.chosen else [])]:
            if not (0 <= row < len(self.ys) and 0 <= column < len(self.xs)):
                raise ValueError(f"{self.title!r}: no cell {(row, column)}")


@dataclass(frozen=True)
class HeatmapBlock:
    """Heatmaps side by side on one colour scale, the best value the darkest on white.

    `goal` says which values are best, `digits` how many decimals are printed. The scale covers `limits`, or
    the smallest to the largest value; values beyond get the colour of the end.
    """

    kind: ClassVar = "heatmaps"
    caption: str
    x_label: str
    y_label: str
    panels: list[Heatmap]
    goal: Literal["max", "min"] = "max"
    digits: int = 3
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Verdict:
    """Our verdict on a claim: its `source`, the `evidence`, the `experiment` that tests it and the `rule`.

    `others` are sentences on the results of other studies.
    """

    claim: str
    source: str
    verdict: VerdictWord
    evidence: str
    experiment: str
    rule: str = ""
    others: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VerdictBlock:
    """Claims and their verdicts; the reader filters by verdict, which are listed above with their counts."""

    kind: ClassVar = "verdicts"
    claims: list[Verdict]


@dataclass(frozen=True)
class ListBlock:
    """Names and values, such as the machine and the commands."""

    kind: ClassVar = "list"
    caption: str
    items: list[tuple[str, str]]


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown when their title is clicked; `note` and `verdict` are next to the title."""

    kind: ClassVar = "fold"
    title: str
    anchor: str
    blocks: list[Block]
    note: str = ""
    verdict: str = ""
    task: str = ""


Block: TypeAlias = TableBlock | CurveBlock | HeatmapBlock | VerdictBlock | ListBlock | Fold


@dataclass(frozen=True)
class Section:
    """A section of the page; `anchor` is its name in links. Hidden when the filter leaves none of its blocks."""

    title: str
    anchor: str
    text: list[str]
    blocks: list[Block]


@dataclass(frozen=True)
class Card:
    """One card of the first screen: a title, a short statement, and a sentence on it."""

    title: str
    figure: str
    detail: str


@dataclass(frozen=True)
class ForestLine:
    """One task of the forest plot: ends and value in percent of the plot's width, and the same in words."""

    name: str
    task: str
    anchor: str
    metric: str
    figures: str
    difference: str
    value: float
    interval: tuple[float, float]
    joint: tuple[float, float]
    verdict: str
    seeds: int
    open: bool


@dataclass(frozen=True)
class Forest:
    """The forest plot: `ticks` are places in percent of the width, each with its label."""

    caption: str
    ticks: list[tuple[float, str]]
    lines: list[ForestLine]


@dataclass(frozen=True)
class Effect:
    """One optimizer on one task: positive where it is better, None where nothing is known; `title` says it in full."""

    value: float | None
    verdict: str = ""
    open: bool = False
    title: str = ""


@dataclass(frozen=True)
class Effects:
    """Effects of optimizers (columns) on tasks (rows), each row with its name, task and anchor."""

    caption: str
    optimizers: list[str]
    rows: list[tuple[str, str, str, list[Effect]]]


@dataclass(frozen=True)
class Overview:
    """The first screen."""

    answer: str
    cards: list[Card]
    forest: Forest | None = None
    effects: Effects | None = None


@dataclass(frozen=True)
class Page:
    """The page: `summary` states the evidence of the answer in small print, `commands` has each run's command.

    Raises:
        ValueError: Two sections have the same anchor, or one is no word of letters, digits, '-' and '_'.
    """

    title: str
    summary: list[str]
    sections: list[Section]
    overview: Overview | None = None
    commands: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folds = [block for section in self.sections for block in section.blocks if isinstance(block, Fold)]
        anchors = [*(section.anchor for section in self.sections), *(fold.anchor for fold in folds)]
        for anchor in anchors:
            if not anchor or not anchor.replace("-", "a").replace("_", "a").isalnum():
                raise ValueError(f"{anchor!r} is not an anchor: letters, digits, '-' and '_'")
            if anchors.count(anchor) > 1:
                raise ValueError(f"two parts have the anchor {anchor!r}")

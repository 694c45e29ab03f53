"""What the results page holds, as plain values: whoever reads the records fills these, `render` lays them out.

Where a field is called `task` or `optim`, the page's filter hides the row, series or panel whose task or optimizer is
not chosen; an empty one is always shown. Texts are plain, but for `code` between backticks in prose (summary, facts,
section texts, captions, notes, claims and evidence). A number that does not exist is None, nan or infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

VerdictWord: TypeAlias = Literal["supported", "contradicted", "not shown", "not judged", "not run"]


@dataclass(frozen=True)
class Column:
    """A column of a table; `help` explains it under the table and where the pointer rests on its header."""

    name: str
    kind: Literal["text", "number"]
    help: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: the text that is read, and what it is sorted by.

    `sort` is a number in a number column, where a missing one comes last in both directions; in a text column it
    stands for the text if given. In a number column, an interval or remark that ends the text, as in
    "0.91 [0.90, 0.92]" or "1,200 (2.00×)", is set small on a second line. `title` is shown where the pointer rests,
    and above the run ids. `runs`: ids of the runs behind the cell, shown when it is clicked.
    """

    text: str
    sort: float | str | None = None
    title: str = ""
    runs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A row of a table, a cell a column. With an optimizer, its first cell gets the optimizer's colour."""

    cells: list[Cell]
    optim: str = ""
    task: str = ""


@dataclass(frozen=True)
class TableBlock:
    """A table that the reader sorts by its columns; as given until then.

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

    `stops` are points where a run diverged, drawn as crosses. A series with stops and no band is taken for the path
    of a run that diverged: it is drawn thin and may leave the vertical range, which the other series set. `dashed`
    sets a series apart from another of its optimizer.

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
    """Curves with one vertical axis; the reader chooses among the views. `target`: a value to reach, a level line."""

    kind: ClassVar = "curves"
    caption: str
    y_label: str
    views: list[View]
    y_log: bool = False
    target: float | None = None


@dataclass(frozen=True)
class Heatmap:
    """A grid of values: `values[row][column]` is the one at `ys[row]` and `xs[column]`; the first row is the lowest.

    `chosen` and `diverged` are places (row, column). A value that is missing was not tried, unless it diverged.

    Raises:
        ValueError: `values` has another shape, or a place lies outside it.
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

    `goal` says which values are best, `digits` how many decimals are printed. The scale reaches over `limits`, or
    from the smallest to the largest value; what lies beyond gets the colour of the end.
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
    """What our runs say of a claim: its `source`, the `evidence` in a sentence, the `experiment` that tests it."""

    claim: str
    source: str
    verdict: VerdictWord
    evidence: str
    experiment: str


@dataclass(frozen=True)
class VerdictBlock:
    """Claims and what became of them, with a count of each verdict above."""

    kind: ClassVar = "verdicts"
    claims: list[Verdict]


Block: TypeAlias = TableBlock | CurveBlock | HeatmapBlock | VerdictBlock


@dataclass(frozen=True)
class Section:
    """A section of the page; `anchor` is its name in links. Hidden when the filter leaves none of its blocks."""

    title: str
    anchor: str
    text: list[str]
    blocks: list[Block]


@dataclass(frozen=True)
class Page:
    """The page. `facts` are (name, value) pairs: machine, versions, commands, dates of the records.

    Raises:
        ValueError: Two sections have the same anchor, or one is no word of letters, digits, '-' and '_'.
    """

    title: str
    summary: list[str]
    facts: list[tuple[str, str]]
    sections: list[Section]

    def __post_init__(self) -> None:
        anchors = [section.anchor for section in self.sections]
        for anchor in anchors:
            if not anchor or not anchor.replace("-", "a").replace("_", "a").isalnum():
                raise ValueError(f"{anchor!r} is no anchor: letters, digits, '-' and '_'")
            if anchors.count(anchor) > 1:
                raise ValueError(f"two sections have the anchor {anchor!r}")

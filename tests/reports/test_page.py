"""The results page as a file: the same bytes for the same content, sound HTML, and no text that breaks out of it."""

import json
import math
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.page.content import (
    Card,
    Cell,
    Column,
    CurveBlock,
    Effect,
    Effects,
    Fold,
    Forest,
    ForestLine,
    Heatmap,
    HeatmapBlock,
    ListBlock,
    Overview,
    Page,
    Row,
    Section,
    Series,
    TableBlock,
    Verdict,
    VerdictBlock,
    View,
)
from reports.page.render import render_page
from reports.plots.plot_style import HIGHLIGHT_COLOUR, OTHERS, PLACES
from tests.reports.example_page import example_page

VOID = {"meta", "link", "br", "input", "img", "hr"}
# Texts that would end the script, open a comment in it, or leave an attribute, among arbitrary ones.
ATTACKS = ["</script><b>", "<!--<script>", "-->", '" onclick="x', "' onfocus='x", "&lt;", "</td></tr>", "{{ 7 }}"]
TEXTS = st.text(max_size=40) | st.sampled_from([*ATTACKS, "\\u003c", "a\r\nb", "\u2028"])


class Reader(HTMLParser):
    """Python's own parser: counts elements, holds their nesting, keeps the texts of scripts, cells and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.counts, self.scripts, self.cells, self.attributes = [], {}, {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.kind = dict(attributes).get("type", "javascript")
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[self.kind] = self.scripts.get(self.kind, "") + data
        elif "td" in self.open:
            self.cells[-1] += data

    @property
    def content(self):
        return json.loads(self.scripts["application/json"])


def page_of(*blocks, title="Results"):
    return Page(title, ["Summary."], [Section("Section", "section", ["Text."], [*blocks])])


def _overview_of(name, cell, title, task):
    line = ForestLine(name, task, "a", cell, title, cell, 50.0, (40.0, 60.0), (30.0, 70.0), title, 3, True)
    effect = Effect(1.0, title, False, cell)
    return Forest(name, [(50.0, cell)], [line]), Effects(title, [name], [(cell, task, "a", [effect, Effect(None)])])


def table_of(rows, optim="lion"):
    columns = [Column("optimizer", "text"), Column("test", "number", "Mean over seeds.")]
    return TableBlock("Table", columns, [Row([Cell(name), Cell(str(x), x)], optim, "digits") for name, x in rows])


def test_the_same_content_gives_the_same_bytes():
    assert render_page(example_page()) == render_page(example_page())
    assert render_page(example_page()) != render_page(example_page(seed=1))


def test_the_file_is_well_formed_and_names_no_address_outside_it():
    text = render_page(example_page())
    page = Reader(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.open == []
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    addresses = [value for _, name, value in page.attributes if name in ("href", "src", "action", "data", "srcset")]
    assert all(address == "data:," or (address[0] == "#" and address[1:] in ids) for address in addresses)
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|sendBeacon|WebSocket", text)
    labels = {value for _, name, value in page.attributes if name == "aria-labelledby"}
    assert labels <= set(ids)


def all_blocks(page):
    """The blocks of a page in its order, those inside folds too."""
    waiting = [block for section in page.sections for block in section.blocks]
    while waiting:
        block = waiting.pop(0)
        if isinstance(block, Fold):
            waiting = [*block.blocks, *waiting]
        else:
            yield block


def test_everything_but_the_curves_is_there_without_javascript():
    example = example_page(tables=2, curves=2)
    page = Reader(render_page(example))
    blocks = list(all_blocks(example))
    expected = []
    for *_, effects in example.overview.effects.rows:
        expected += [f"{effect.value:+.1f}" + ("○" if effect.open else "") for effect in effects]
    for block in blocks:
        if isinstance(block, TableBlock):
            expected += [cell.text for row in block.rows for cell in row.cells]
        elif isinstance(block, HeatmapBlock):
            for panel in block.panels:
                for row in reversed(range(len(panel.ys))):  # the first is the lowest
                    for column, value in enumerate(panel.values[row]):
                        mark = "✗" if (row, column) in panel.diverged else ""
                        expected.append(("" if value is None else f"{value:.3f}") + mark)
                expected.append("")  # the corner below the weight decays
        elif isinstance(block, VerdictBlock):
            expected += [claim.verdict for claim in block.claims]
    texts = Counter(" ".join(cell.split()) for cell in page.cells)
    assert not Counter(expected) - texts
    text = " ".join(page.cells)
    for claim in next(block for block in blocks if isinstance(block, VerdictBlock)).claims:
        for part in (claim.claim, claim.source, claim.evidence.replace("`", ""), claim.rule, *claim.others):
            assert part.strip() in text
    assert page.counts["noscript"] == sum(isinstance(block, CurveBlock) for block in blocks) == 3


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=16, max_size=16), rows=st.integers(0, 4))
def test_no_text_leaves_its_place(texts, rows):
    t = iter(texts)
    table = TableBlock(next(t), [Column(next(t), "text", next(t)), Column("n", "number")], [], [next(t)])
    name, cell, title, run, optim, task = (next(t) for _ in range(6))
    table.rows.extend([Row([Cell(name, name, title, [run]), Cell(cell, 1.0)], optim, task)] * rows)
    curve = CurveBlock(next(t), next(t), [View(next(t), [Series(optim, next(t), [(0.0, 1.0)], task=task)])])
    claim = VerdictBlock([Verdict(next(t), name, "not run", cell, title)])
    listed = ListBlock(task, [(name, cell)])
    fold = Fold(name, "f", [table, listed], cell, title, task)
    overview = Overview(name, [Card(title, cell, run)], *_overview_of(name, cell, title, task))
    page = Page(next(t), [run], [Section(title, "a", [task], [table, curve, claim, fold])], overview, {run: cell})
    text = render_page(page)
    read = Reader(text)
    assert read.open == []
    assert read.counts["tr"] == 2 * (rows + 1) + 2 + 2  # two tables, the claims and the effects
    assert read.counts["script"] == 3
    assert text.encode()
    content = read.content
    assert content["commands"] == {run: cell}
    blocks = content["blocks"]
    assert list(blocks) == ["a.1", "a.2", "a.3", "f.1", "f.2"]
    for row in [*blocks["a.1"]["rows"], *blocks["f.1"]["rows"]]:
        assert row["cells"][0] == {"text": name, "sort": name, "title": title, "runs": [run], "verdict": ""}
        assert [row["optim"], row["task"]] == [optim, task]
    assert blocks["a.2"]["views"][0]["series"][0]["label"] == curve.views[0].series[0].label
    assert blocks["a.3"]["claims"][0]["claim"] == claim.claims[0].claim
    assert blocks["f.2"]["items"] == [[name, cell]]
    handlers = {name for _, name, _ in read.attributes if name.startswith("on")}
    assert not handlers


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_a_number_that_does_not_exist_is_null(missing):
    curve = CurveBlock("c", "loss", [View("step", [Series("lion", "lion", [(1.0, missing), (2.0, 0.5)])])])
    blocks = Reader(render_page(page_of(table_of([("lion", missing)]), curve))).content["blocks"]
    assert blocks["section.1"]["rows"][0]["cells"][1]["sort"] is None
    assert blocks["section.2"]["views"][0]["series"][0]["points"] == [[1.0, None], [2.0, 0.5]]


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=50, deadline=None)
def test_what_a_cell_is_sorted_by_keeps_every_digit(value):
    content = Reader(render_page(page_of(table_of([("lion", value)])))).content
    assert content["blocks"]["section.1"]["rows"][0]["cells"][1]["sort"] == value


def test_each_optimizer_has_its_own_colour_and_the_reference_follows_the_scheme():
    text = render_page(page_of(table_of([("x", 1.0)], "adamw"), *(table_of([("x", 1.0)], o) for o in ("lion", "sgd"))))
    assert Reader(text).content["optimizers"] == ["adamw", "lion", "sgd"]
    assert "--o0: light-dark(#000000, #FFFFFF);" in text
    assert f"--o1: {HIGHLIGHT_COLOUR};" in text
    assert f"--o2: {OTHERS[PLACES.index('sgd')]};" in text


def test_an_interval_stands_on_a_line_of_its_own_and_code_is_code():
    cells = [Cell("0.91 [0.90, 0.92]", 0.91), Cell("24 (3 diverged)", 24.0), Cell("(none)"), Cell("-0.5", -0.5)]
    table = TableBlock("As `a<b` says", [Column("n", "number")], [Row([cell]) for cell in cells])
    text = render_page(page_of(table))
    assert re.findall(r'<td class="number"[^>]*>(.*?)</td>', text) == [
        "0.91 <small>[0.90, 0.92]</small>",
        "24 <small>(3 diverged)</small>",
        "(none)",
        "-0.5",
    ]
    assert "As <code>a&lt;b</code> says" in text


@pytest.mark.parametrize(("goal", "best"), [("max", "0.900"), ("min", "0.500")])
def test_the_best_cell_of_all_panels_is_at_the_end_of_the_scale(goal, best):
    panels = [Heatmap("a", [1e-4, 1e-3], [0.1], [[0.5, 0.7]], (0, 1)), Heatmap("b", [1e-3], [0.1], [[0.9]])]
    text = render_page(page_of(HeatmapBlock("h", "lr", "decay", panels, goal)))
    percents = dict(re.findall(r"--heat: (\d+)%\">([\d.]+)<", text))
    assert percents["100"] == best
    assert percents["50"] == "0.700"
    assert text.count('class="chosen ') == 1


def test_a_heatmap_has_its_first_row_lowest_and_each_value_at_its_rate_and_decay():
    panel = Heatmap("a", [1e-4, 3e-4], [0.01, 1.0], [[0.11, 0.12], [0.21, None]], (1, 0), [(1, 1)])
    text = render_page(page_of(HeatmapBlock("h", "lr", "decay", [panel], digits=2)))
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    assert [re.sub(r"<[^>]*>", " ", row).split() for row in rows] == [
        ["1", "0.21", "✗"],
        ["0.01", "0.11", "0.12"],
        ["0.0001", "0.0003"],
    ]
    assert re.search(r'class="chosen [^"]*"[^>]*>0.21<', text)


def test_a_scale_with_given_ends_is_held_to_them():
    panels = [Heatmap("a", [1.0, 2.0, 3.0], [0.1], [[0.0, 2.5, 80.0]])]
    text = render_page(page_of(HeatmapBlock("h", "lr", "decay", panels, "max", 1, (2.0, 3.0))))
    assert re.findall(r"--heat: (\d+)%\">([\d.]+)<", text) == [("0", "0.0"), ("50", "2.5"), ("100", "80.0")]


def test_content_that_does_not_fit_is_refused():
    columns = [Column("a", "text"), Column("b", "number")]
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        TableBlock("t", columns, [Row([Cell("x")])])
    with pytest.raises(ValueError, match="'b' holds numbers, not 'y'"):
        TableBlock("t", columns, [Row([Cell("x"), Cell("y", "y")])])
    with pytest.raises(ValueError, match="a band of 1, 1 at 2 points"):
        Series("lion", "lion", [(0, 1), (1, 1)], [1], [1])
    with pytest.raises(ValueError, match="x must ascend"):
        Series("lion", "lion", [(1, 1), (0, 1)])
    with pytest.raises(ValueError, match="must be 1 rows of 2"):
        Heatmap("h", [1, 2], [1], [[1]])
    with pytest.raises(ValueError, match=r"no cell \(1, 0\)"):
        Heatmap("h", [1, 2], [1], [[1, 2]], chosen=(1, 0))
    with pytest.raises(ValueError, match="two parts have the anchor 'a'"):
        Page("p", [], [Section("s", "a", [], []), Section("t", "b", [], [Fold("f", "a", [])])])
    with pytest.raises(ValueError, match="'a b' is not an anchor"):
        Page("p", [], [Section("s", "a b", [], [])])

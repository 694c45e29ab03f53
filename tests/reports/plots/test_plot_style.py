"""Colours of optimizers and verdicts, as eyes see them that lack a kind of cone."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from reports.plots import plot_style
from reports.plots.forest import COLOURS
from reports.plots.plot_style import (
    HIGHLIGHT_COLOUR,
    OTHERS,
    PLACES,
    REFERENCE_COLOUR,
    label,
    new_figure,
    styles_of,
    write_in_unit,
)
from reports.plots.tuning import write_speed_memory, write_tuning_curves
from reports.records.reader import read_records
from reports.tables.comparison import build_tables

# Machado, Oliveira and Fernandes 2009, full severity, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ @ np.ones(3)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour: str, sight: str) -> np.ndarray:
    """CIELAB of a colour as this kind of sight has it."""
    xyz = TO_XYZ @ np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1) / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: str, other: str, sight: str) -> float:
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def test_the_measure_itself():
    assert lab("#FFFFFF", "normal") == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("#FF0000", "normal") == pytest.approx([53.2, 80.1, 67.2], abs=0.1)  # the known value of sRGB's red
    assert apart("#CC2222", "#667722", "deuteranopia") < 20 < 60 < apart("#CC2222", "#667722", "normal")


@pytest.mark.parametrize("sight", SIGHT)
def test_optimizers_are_told_apart(sight):
    colours = [HIGHLIGHT_COLOUR, REFERENCE_COLOUR, *OTHERS[: len(PLACES)]]
    closest = min(apart(one, other, sight) for one, other in combinations(colours, 2))
    assert closest > 15, closest  # 2.3 is just noticeable side by side


@pytest.mark.parametrize("sight", SIGHT)
def test_better_and_worse_are_told_apart_and_from_grey(sight):
    colours = set(COLOURS.values())
    assert min(apart(one, other, sight) for one, other in combinations(colours, 2)) > 15


def test_an_optimizer_keeps_its_colour_whatever_is_beside_it():
    few, many = styles_of(["lion", "adamw", "sgd"], "adamw", "lion"), styles_of([*PLACES, "x"], "adamw", "lion")
    assert few["sgd"] == many["sgd"]
    assert few["lion"] == many["lion"]


def test_a_figure_says_in_a_line_what_it_is_of(write_run, tmp_path):
    write_run(task="vit_b16")
    write_run(task="mine", metric="perplexity", goal="min", final=40.0, test=41.0)
    mine, vit = (label(table) for table in build_tables(read_records([tmp_path]).runs, "adamw"))
    assert vit == (
        "ViT-B/16 design on digits (vit_b16), scale embedded: accuracy, higher is better, 400k parameters, "
        "100 steps of 64"
    )
    assert mine.startswith("mine, vit on mnist5k, scale embedded: perplexity, lower is better, ")


def test_an_axis_of_shares_is_in_percent(write_run, tmp_path):
    write_run(task="mine", metric="perplexity", goal="min", final=40.0, test=41.0)
    write_run()
    share, loss = build_tables(read_records([tmp_path]).runs, "adamw")
    written = []
    for table, limits in ((share, (0.9, 1.0)), (loss, (30.0, 50.0))):
        panel = new_figure(3, 3).subplots()
        panel.set_ylim(*limits)
        write_in_unit(panel.yaxis, table)
        written.append(panel.yaxis.get_major_formatter().format_ticks(list(limits)))
    assert written == [["90%", "100%"], ["30", "50"]]


def test_each_kind_of_step_has_its_optimizers_colour_and_the_reference_one_point(tmp_path):
    rows = [("adamw (fused)", 1.0), ("adamw (loop)", 1.0), ("lion (fused)", 1.01), ("lion (loop)", 1.02)]
    frame = pd.DataFrame(
        {"task": "digits", "optim": name, "ratio": ratio, "low": ratio, "high": ratio, "bytes_per_parameter": 8.0}
        for name, ratio in rows
    )
    (path,) = write_speed_memory(frame, tmp_path, "speed", "adamw", "lion")
    drawn = path.read_text()
    assert HIGHLIGHT_COLOUR.lower() in drawn
    assert not any(colour.lower() in drawn for colour in OTHERS)
    assert [text for text in ("adamw", "adamw (fused)", "lion (loop)") if f"<!-- {text} -->" in drawn] == [
        "adamw",
        "lion (loop)",
    ]


def test_the_expected_best_of_trials_is_framed_by_the_lines(tmp_path, write_run, monkeypatch):
    """Bands of a dozen trials reach from the worst to 100%."""
    write_run()
    (table,) = build_tables(read_records([tmp_path / "outputs"]).runs, "adamw")
    curve = pd.DataFrame({"k": [1, 2, 3], "expected": [0.70, 0.76, 0.80], "low": [0.1, 0.2, 0.3], "high": [1.0] * 3})
    drawn = []
    monkeypatch.setattr(plot_style, "save", lambda draw, *_: drawn.append(draw()))
    write_tuning_curves(table, {"adamw": curve}, tmp_path, "trials", [], "lion")
    assert drawn[0].axes[0].get_ylim() == pytest.approx((0.685, 0.815))

"""Colours of optimizers and verdicts, as eyes see them that lack a kind of cone."""

from itertools import combinations

import numpy as np
import pytest

from reports.plots.forest import COLOURS
from reports.plots.plot_style import HIGHLIGHT_COLOUR, OTHERS, PLACES, REFERENCE_COLOUR, styles_of

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

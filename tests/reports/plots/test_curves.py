import math

import matplotlib as mpl
import pytest

from reports.plots.curves import draw_curves, write_curves
from reports.plots.plot_style import HIGHLIGHT_COLOUR, REFERENCE_COLOUR, styles_of
from reports.records.reader import read_records
from reports.statistics.learning_curves import read_curve
from reports.statistics.selection import comparisons
from reports.tables.comparison import build_tables


def ramp(*values, seconds=2.0):
    return [(10 * place, seconds * place, value) for place, value in enumerate(values, start=1)]


@pytest.fixture
def tables(outputs):
    return lambda: build_tables(read_records([outputs]).runs, "adamw")


@pytest.fixture
def curves(outputs):
    def read():
        (comparison,) = comparisons(read_records([outputs]).runs)
        return {c.label: read_curve(c, comparison.metric) for c in comparison.contenders}

    return read


def test_mean_and_band_over_seeds(write_run, curves):
    write_run(seed=0, curve=ramp(0.2, 0.4, 0.6))
    write_run(seed=1, curve=ramp(0.4, 0.8, seconds=4.0))  # its last measurement is missing
    curve = curves()["adamw"]
    assert curve.mean["step"].tolist() == [10, 20]
    assert curve.mean["seconds"].tolist() == [3, 6]
    assert curve.mean["mean"].tolist() == pytest.approx([0.3, 0.6])
    assert curve.mean["low"].tolist() == [0.2, 0.4]
    assert curve.mean["high"].tolist() == [0.4, 0.8]
    assert curve.setting == "lr 0.001, weight decay 0.1, 2 seeds"


def test_only_the_chosen_setting_is_drawn(write_run, curves):
    write_run(lr=1e-3, final=0.9, curve=ramp(0.9))
    write_run(lr=1e-4, final=0.5, curve=ramp(0.5))
    assert curves()["adamw"].last == 0.9


def test_a_diverged_run_ends_where_it_stopped(write_run, curves):
    write_run(curve=ramp(0.5, 0.6))
    write_run(seed=1, status="diverged", diverged_step=27, curve=ramp(0.4, 0.3, math.nan))
    (stop,) = curves()["adamw"].stops
    assert (stop.step, stop.seconds) == (27, 4.0)
    assert stop.values["value"].tolist() == [0.4, 0.3]


def test_where_all_diverged_the_longest_lasting_setting_is_drawn(write_run, curves):
    write_run(lr=1e-2, status="diverged", diverged_step=5)
    write_run(lr=1e-3, status="diverged", diverged_step=50, curve=ramp(0.1, 0.2))
    write_run(lr=1e-3, seed=1, status="diverged", diverged_step=None, curve=ramp(0.1))
    curve = curves()["adamw"]
    assert math.isnan(curve.last)
    assert sorted(stop.step for stop in curve.stops) == [10, 50]
    assert curve.setting == "lr 0.001, weight decay 0.1, none completed, 2 diverged"


def test_colours_are_fixed_by_name_and_told_apart():
    names = [*"hgfedcba", "adamw", "lion"]
    styles = styles_of(names, "adamw", "lion")
    assert styles == styles_of(reversed(names), "adamw", "lion")
    assert styles["lion"].colour == HIGHLIGHT_COLOUR
    assert styles["adamw"].colour == REFERENCE_COLOUR
    assert styles["lion"].width > styles["adamw"].width
    assert len({(style.colour, style.dashes) for style in styles.values()}) == len(names)


@pytest.mark.parametrize(("others", "bands"), [(3, 4), (4, 1)])
def test_beyond_four_optimizers_only_the_reference_and_the_highlighted_one_have_bands(write_run, tables, others, bands):
    for optim in ("adamw", "radam", "nadam", "amsgrad", "adabelief")[: 1 + others]:
        write_run(optim=optim, curve=ramp(0.2, 0.4, 0.6))
    figure = draw_curves(tables(), [], "lion")
    assert [len(panel.collections) for panel in figure.axes] == [bands, bands]


def test_axes_say_what_they_show(write_run, tables):
    write_run(curve=ramp(0.5, 0.6, seconds=400.0))
    figure = draw_curves(tables(), ["adamw"])
    left, right = figure.subfigs[0].axes
    assert left.get_ylabel() == "validation accuracy\n(higher is better)"
    assert left.get_xlabel() == "training step"
    assert right.get_xlabel() == "training step"
    title = figure.subfigs[0].get_suptitle()
    for part in ("digits, vit on mnist5k, scale embedded: ", "accuracy, higher is better", "100 steps of 64"):
        assert part in title


def test_the_end_is_enlarged_to_where_most_end(write_run, tables):
    for optim, end in (("adamw", 0.90), ("lion", 0.91), ("radam", 0.92), ("sgd", 0.30)):
        write_run(optim=optim, curve=ramp(0.1, end - 0.02, end - 0.01, end))
    right = draw_curves(tables(), ["adamw"]).subfigs[0].axes[1]
    (left, last), (low, high) = right.get_xlim(), right.get_ylim()
    assert (left, last) == (20, pytest.approx(40.4))
    assert 0.85 < low < 0.90 < 0.92 < high < 0.95  # without sgd
    assert any(line.get_linestyle() == "--" and set(line.get_ydata()) == {0.90} for line in right.lines)


def test_a_diverged_value_does_not_squeeze_the_others(write_run, tables):
    write_run(goal="min", metric="loss", final=2.0, curve=ramp(3.0, 2.0))
    write_run(goal="min", metric="loss", seed=1, status="diverged", diverged_step=20, curve=ramp(3.0, 1e12))
    figure = draw_curves(tables(), ["adamw"])
    assert figure.subfigs[0].axes[0].get_ylim()[1] < 4


def test_a_wide_metric_to_be_lowered_is_logarithmic(write_run, tables):
    write_run(goal="min", metric="perplexity", final=20.0, curve=ramp(3000.0, 20.0))
    assert draw_curves(tables(), ["adamw"]).subfigs[0].axes[0].get_yscale() == "log"


def test_the_same_records_give_the_same_bytes_whatever_the_settings(write_run, tables, tmp_path):
    write_run(curve=ramp(0.5, 0.6))
    write_run(optim="lion", curve=ramp(0.5, 0.7))
    write_run(optim="lion", seed=1, status="diverged", diverged_step=4)
    write_run(steps=50, curve=ramp(0.1))
    folders = tmp_path / "a", tmp_path / "b"
    written = []
    for folder, size in zip(folders, (6, 20), strict=True):
        folder.mkdir()
        with mpl.rc_context({"font.size": size}):
            written.append(write_curves(tables(), folder, ["lion", "adamw"], "lion"))
    assert [path.name for path in written[0]] == ["curves-digits.png", "curves-digits.svg"]
    for one, two in zip(*written, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert b"Software" not in written[0][0].read_bytes()


def test_records_without_measurements_still_draw(write_run, tables, tmp_path):
    write_run(task="a.b c", curve=ramp(0.1, 0.2))
    (write_run(task="a.b c", optim="lion") / "metrics.jsonl").unlink()
    write_run(task="a.b c", optim="sgd", status="diverged", steps=100)
    write_run(task="failed", status="failed")  # nothing to draw
    assert [path.name for path in write_curves(tables(), tmp_path, [])] == [
        "curves-a_b_c.png",
        "curves-a_b_c.svg",
    ]


def test_values_that_no_axis_can_show_are_left_out(write_run, curves):
    write_run(curve=ramp(0.1, 1e300, math.inf, 0.2))
    write_run(optim="lion", curve=ramp(math.nan))
    assert curves()["adamw"].mean["mean"].tolist() == [0.1, 0.2]
    assert curves()["lion"].mean.empty

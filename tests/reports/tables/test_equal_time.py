"""Quality in the reference's time, on curves whose value at any step is known."""

import math

import pandas as pd
import pytest

from reports.records.reader import read_records
from reports.records.speeds import read_speeds
from reports.statistics.intervals import mean_interval
from reports.tables.comparison import FIELD, build_tables
from reports.tables.overviews import ranks_grid
from reports.tables.paper_comparison import main_tables
from reports.tables.render import IN_TIME, cells, legend, to_markdown
from tests.reports.records.test_speeds import FIGURES, write

HEADER = IN_TIME.format("adamw")
STEPS = (20, 40, 60, 80, 100)


def straight(*ends):
    """Curves that rise on a straight line through 0 to these values at step 100, a second each 20 steps."""
    return [[(step, step / 20, end * step / 100) for step in STEPS] for end in ends]


@pytest.fixture
def compare(outputs, tmp_path):
    def build(**ratios):
        """Tables where these optimizers were timed, at these speeds over AdamW's."""
        timed = {
            f"{name} (loop)": FIGURES | {"ratio": ratio, "steps_per_second": 50 * ratio, "against": "adamw (loop)"}
            for name, ratio in ({"adamw": 1.0} | ratios).items()
        }
        for task in ("digits", "letters"):
            write(tmp_path / "speed", task, task=task, optimizers=timed)
        return build_tables(read_records([outputs]).runs, "adamw", read_speeds([tmp_path / "speed"]))

    return build


def of_field(tables):
    (table,) = [table for table in tables if table.part == FIELD]
    return table, {row.optim: row for row in table.rows}


def test_a_slower_optimizer_is_read_off_where_the_references_time_ends(tune, compare):
    ends = (0.90, 0.94, 0.92)
    tune("adamw", (0.8, 0.8, 0.82), straight(0.8, 0.8, 0.82))
    tune("muon", ends, straight(*ends))
    table, rows = of_field(compare(muon=0.5))
    assert rows["muon"].in_time_step == 50  # between the evaluations at 40 and 60
    expected = mean_interval(pd.Series([0.45, 0.47, 0.46]))
    assert (rows["muon"].in_time_mean, rows["muon"].in_time_low, rows["muon"].in_time_high) == pytest.approx(expected)
    assert (rows["adamw"].in_time_step, rows["adamw"].in_time_mean) == (100, pytest.approx(0.8 + 0.02 / 3))
    shown = cells(table).set_index("optimizer")
    assert shown.loc["muon", HEADER] == "46.0 ± 2.5% (step 50)"  # 4.303 * 0.01 / sqrt(3)
    assert shown.loc["muon", "val"] == "92 ± 5%"
    assert any(line.startswith(HEADER) for line in legend(table))
    assert HEADER in to_markdown([table])


def test_a_faster_optimizer_has_its_own_end(tune, compare):
    tune("adamw", (0.8, 0.82, 0.81), straight(0.8, 0.82, 0.81))
    tune("adopt", (0.9, 0.92, 0.91), straight(0.9, 0.92, 0.91))
    _, rows = of_field(compare(adopt=1.25))
    assert (rows["adopt"].in_time_step, rows["adopt"].in_time_mean) == (100, pytest.approx(0.91))


def test_what_was_not_timed_is_not_measured_and_runs_keep_no_time(tune, compare):
    tune("adamw", (0.8, 0.82, 0.81), straight(0.8, 0.82, 0.81))
    tune("soap", (0.9, 0.92, 0.91), straight(0.9, 0.92, 0.91), steps_per_second=5.0)  # of training: never taken
    table, rows = of_field(compare())
    assert math.isnan(rows["soap"].in_time_mean)
    assert cells(table).set_index("optimizer").loc["soap", HEADER] == "not measured"


def test_before_the_first_evaluation_nothing_is_known(tune, compare):
    tune("adamw", (0.8, 0.82, 0.81), straight(0.8, 0.82, 0.81))
    tune("soap", (0.9, 0.92, 0.91), straight(0.9, 0.92, 0.91))
    table, rows = of_field(compare(soap=0.1))
    assert (rows["soap"].in_time_step, math.isnan(rows["soap"].in_time_mean)) == (10, True)
    assert cells(table).set_index("optimizer").loc["soap", HEADER] == "-"


def test_of_runs_without_curves_nothing_is_known(tune, write_run, compare):
    tune("adamw", (0.8, 0.82, 0.81))
    write_run(optim="muon", status="diverged")
    _, rows = of_field(compare(muon=0.5))
    assert math.isnan(rows["adamw"].in_time_mean)
    assert math.isnan(rows["muon"].in_time_mean)


def test_a_main_table_has_no_such_column(tune, compare):
    tune("adamw", (0.8, 0.82, 0.81), straight(0.8, 0.82, 0.81))
    tune("radam", (0.9, 0.92, 0.91), straight(0.9, 0.92, 0.91))
    tune("muon", (0.9, 0.92, 0.91), straight(0.9, 0.92, 0.91))
    (main,) = [table for table in compare(muon=0.5, radam=1.0) if not table.part]
    assert HEADER not in cells(main)


def test_ranks_of_the_field_at_equal_steps_and_at_equal_time(tune, compare):
    for task in ("digits", "letters"):
        tune("adamw", (0.8, 0.82, 0.81), straight(0.8, 0.82, 0.81), task=task)
        tune("muon", (0.9, 0.92, 0.91), straight(0.9, 0.92, 0.91), task=task)
        tune("soap", (0.94, 0.96, 0.95), straight(0.94, 0.96, 0.95), task=task)
        tune("radam", (0.7, 0.72, 0.71), straight(0.7, 0.72, 0.71), task=task)
    tables = compare(muon=0.95, soap=0.5)
    grid = ranks_grid(main_tables(tables, FIELD))
    assert grid.caption == "Ranks over 2 tasks, field of 2026"
    ranks = grid.cells.set_index("optimizer")
    assert ranks["mean rank"].to_dict() == {"soap": "1.00", "muon": "2.00", "adamw": "3.00"}
    # In AdamW's time: Muon 0.91 * 0.95, AdamW 0.81, SOAP 0.95 * 0.5.
    assert ranks["mean rank in adamw's time"].to_dict() == {"muon": "1.00", "adamw": "2.00", "soap": "3.00"}
    main = ranks_grid(main_tables(tables))
    assert main.caption == "Ranks over 2 tasks"
    assert list(main.cells) == ["optimizer", "mean rank", "score to the reference's figure", "best on"]
    assert set(main.cells["optimizer"]) == {"adamw", "radam"}
    (unmeasured,) = set(ranks_grid(main_tables(compare(muon=0.9), FIELD)).cells["mean rank in adamw's time"])
    assert unmeasured == "not measured"


def test_the_time_is_that_of_the_references_fastest_step(tune, outputs, tmp_path):
    """AdamW takes 100 steps a second fused and 80 in a loop, Muon 60 in a loop: 60 of 100 steps, not 75."""
    tune("adamw", (0.8, 0.82, 0.81), straight(0.8, 0.82, 0.81))
    tune("muon", (0.90, 0.94, 0.92), straight(0.90, 0.94, 0.92))
    speeds = {"adamw (fused)": 100.0, "adamw (loop)": 80.0, "muon (loop)": 60.0}
    timed = {
        label: FIGURES | {"steps_per_second": speed, "ratio": ratio, "against": f"adamw ({label.split('(')[1]}"}
        for (label, speed), ratio in zip(speeds.items(), (1.0, 1.0, 0.75), strict=True)
    }
    write(tmp_path / "speed", "digits", task="digits", optimizers=timed)
    tables = build_tables(read_records([outputs]).runs, "adamw", read_speeds([tmp_path / "speed"]))
    _, rows = of_field(tables)
    assert (rows["muon"].speed_ratio, rows["muon"].in_time_step) == (0.75, pytest.approx(60))
    assert rows["muon"].in_time_mean == pytest.approx(0.6 * 0.92)
    assert rows["adamw"].in_time_step == 100

import json
import math

import pytest

from reports.records.reader import read_records
from reports.records.speeds import read_speeds
from reports.tables.comparison import build_tables
from reports.tables.overviews import speed_grid
from reports.tables.render import cells

FIGURES = {
    "ratio": 1.1,
    "low": 1.05,
    "high": 1.15,
    "steps_per_second": 50.0,
    "optimizer_step_ms": 1.0,
    "state_bytes": 8,
}
FILE = {"task": "digits", "scale": "embedded", "model": "vit", "batch_size": 64, "reference": "adamw"}
FILE |= {"processor": "a processor", "optimizers": {"adamw": FIGURES | {"ratio": 1.0}, "lion": FIGURES}, "rounds": 31}


def write(folder, name, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.speed.json").write_text(json.dumps(FILE | changed))


def test_ratios_reach_the_table_of_the_same_conditions_only(write_run, outputs, tmp_path):
    write_run()
    write_run(optim="lion")
    write_run(optim="sgd")
    for name, changed, expected in [
        ("same", {}, 1.1),
        ("task", {"task": "letters"}, math.nan),
        ("batch", {"batch_size": 32}, math.nan),
        ("model", {"model": "mixer"}, math.nan),
        ("reference", {"reference": "sgd"}, math.nan),
    ]:
        write(tmp_path / name, name, **changed)
        (table,) = build_tables(read_records([outputs]).runs, "adamw", read_speeds([tmp_path / name]))
        rows = {row.optim: row for row in table.rows}
        assert rows["lion"].speed_ratio == pytest.approx(expected, nan_ok=True), name
        assert math.isnan(rows["sgd"].speed_ratio)


def test_state_is_counted_by_the_parameters_that_are_trained(tmp_path):
    for content, expected in (({"trained_parameters": 4}, ["2.00", "2.00"]), ({}, ["-", "-"])):
        write(tmp_path, "file", **content)
        grid = speed_grid(read_speeds([tmp_path]))
        assert grid.cells["state, bytes a trained parameter"].tolist() == expected


def test_files_that_are_no_timings_are_passed_over(tmp_path):
    write(tmp_path, "good")
    (tmp_path / "torn.speed.json").write_text("{")
    (tmp_path / "list.speed.json").write_text("[]")
    (tmp_path / "empty.speed.json").write_text(json.dumps(FILE | {"optimizers": {"adamw": {}}}))
    assert read_speeds([tmp_path])["optim"].tolist() == ["adamw", "lion"]
    assert read_speeds([tmp_path / "nowhere"]).empty


def test_unlike_steps_are_not_held_against_each_other(tmp_path, write_run, outputs):
    fused, loop = ({"against": f"adamw ({kind})"} for kind in ("fused", "loop"))
    figures = {
        "adamw (fused)": FIGURES | {"ratio": 1.0} | fused,
        "adamw (loop)": FIGURES | {"ratio": 1.0} | loop,
        "lion (fused)": FIGURES | {"ratio": 1.2} | fused,
        "lion (loop)": FIGURES | {"ratio": 1.3} | loop,
        "nadam (foreach)": FIGURES | {"ratio": None, "low": None, "high": None, "against": None},
        "radam (foreach)": FIGURES | loop,
    }
    write(tmp_path, "kinds", optimizers=figures)
    old = {"adamw": FIGURES | {"ratio": 1.0}, "lion": FIGURES, "lion (fused)": FIGURES}
    write(tmp_path, "old", optimizers=old, task="letters")
    speeds = read_speeds([tmp_path])
    ratios = {(row["task"], row["optim"], row["step"]): row["ratio"] for row in speeds.to_dict("records")}
    assert ratios["digits", "lion", "fused"] == 1.2
    assert math.isnan(ratios["digits", "nadam", "foreach"])
    assert math.isnan(ratios["digits", "radam", "foreach"])
    assert math.isnan(ratios["letters", "lion", "fused"])  # a fused step over a plain one
    for optim in ("adamw", "lion", "nadam", "sgd"):
        write_run(optim=optim)
    (table,) = build_tables(read_records([outputs]).runs, "adamw", speeds)
    shown = cells(table).set_index("optimizer")["steps/s over adamw's"].tolist()
    assert shown == ["1 fused", "1.200 fused [1.050, 1.150]", "-", "-"]
    (table,) = build_tables(read_records([outputs]).runs, "adamw", None)
    assert not any("step" in name and "steps to" not in name for name in cells(table))

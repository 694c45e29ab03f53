import json
import time

import numpy as np
import pandas as pd
import pytest

from reports.records.reader import missing_folders, read_metrics, read_records
from reports.tables.comparison import build_tables


def test_reads_a_row_a_run_at_any_depth(write_run, tmp_path):
    first = write_run(tmp_path / "a" / "deep" / "er", seed=1)
    second = write_run(tmp_path / "b", seed=2, test=None)
    records = read_records([tmp_path / "b", tmp_path / "a"])
    assert records.problems == []
    assert list(records.runs["path"]) == [str(first), str(second)]
    assert list(records.runs["seed"]) == [1, 2]
    assert list(records.runs["final"]) == [0.9, 0.9]
    assert records.runs["test"].isna().tolist() == [False, True]


def test_empty_tree_has_columns_and_no_rows(tmp_path):
    records = read_records([tmp_path, tmp_path / "nowhere"])
    assert records.runs.empty
    assert {"task", "optim", "final", "path"} <= set(records.runs.columns)
    assert missing_folders([tmp_path, tmp_path / "nowhere"]) == [str(tmp_path / "nowhere")]


def test_unknown_keys_are_ignored_and_absent_ones_are_missing(outputs):
    folder = outputs / "digits" / "lion" / "abc"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(
        json.dumps({"status": "interrupted", "task": "digits", "optim": "lion", "new": {"a": 1}})
    )
    records = read_records([outputs])
    assert records.problems == []
    assert records.runs["seed"].isna().all()
    assert records.runs["status"].tolist() == ["interrupted"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"status": "completed", "task": "di', "torn"),
        (b"", "torn"),
        (b"\xff\xfe\x00", "torn"),
        (b"[1, 2]", "not the summary of a run"),
        (b'{"accuracy": 1}', "not the summary of a run"),
        (b'{"status": "done", "task": "t", "optim": "o"}', "status is 'done'"),
        (b'{"status": null, "task": "t", "optim": "o"}', "status is None"),
        (b'{"status": "failed", "task": "", "optim": "o"}', "empty"),
        (b'{"status": "failed", "task": "t", "optim": "o", "lr": "fast"}', "lr is 'fast'"),
        (b'{"status": "failed", "task": "t", "optim": "o", "seed": 1.5}', "seed is 1.5"),
        (b'{"status": "failed", "task": "t", "optim": "o", "seed": true}', "seed is 'True'"),
        (b'{"status": "failed", "task": "t", "optim": "o", "steps": Infinity}', "steps is inf"),
        (b'{"status": "failed", "task": ["t"], "optim": "o"}', "task is"),
        (b'{"status": "completed", "task": "t", "optim": "o", "goal": "max"}', "no finite final"),
        (
            b'{"status": "completed", "task": "t", "optim": "o", "goal": "max", "final": NaN}',
            "no finite final",
        ),
        (b'{"status": "completed", "task": "t", "optim": "o", "final": 1}', "no goal"),
        (b"[" * 100_000, "torn"),
    ],
)
def test_torn_and_foreign_summaries_are_one_line_each(write_run, outputs, content, said):
    write_run()
    bad = outputs / "digits" / "adamw" / "bad"
    bad.mkdir()
    (bad / "summary.json").write_bytes(content)
    records = read_records([outputs])
    assert len(records.runs) == 1
    (problem,) = records.problems
    assert said in problem
    assert str(bad / "summary.json") in problem
    assert "\n" not in problem


def test_a_record_without_summary_and_a_folder_in_its_place_are_named(write_run, outputs):
    write_run()
    (write_run(seed=1) / "summary.json").unlink()
    folder = write_run(seed=2)
    (folder / "summary.json").unlink()
    (folder / "summary.json").mkdir()
    records = read_records([outputs])
    assert len(records.runs) == 1
    assert len(records.problems) == 2


def test_folders_inside_a_record_are_not_searched(write_run, outputs):
    folder = write_run()
    (folder / "wandb" / "offline-run").mkdir(parents=True)
    (folder / "wandb" / "offline-run" / "summary.json").write_text("{}")
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "summary.json").write_text("{}")
    records = read_records([outputs])
    assert (len(records.runs), records.problems) == (1, [])


def test_a_run_is_counted_once(write_run, tmp_path):
    whole = write_run(tmp_path / "b", run_id="same", seed=3)
    write_run(tmp_path / "a", run_id="same", seed=3, status="interrupted")
    records = read_records([tmp_path, tmp_path / "a", tmp_path / "b"])
    assert list(records.runs["path"]) == [str(whole)]
    assert len(records.problems) == 1
    assert "copy" in records.problems[0]


def test_metrics_without_a_torn_last_line_and_with_the_later_of_two_measurements(tmp_path):
    line = '{"step": %d, "split": "%s", "name": "%s", "value": %s, "seconds": 1.5}\n'
    (tmp_path / "metrics.jsonl").write_text(
        line % (20, "val", "accuracy", "0.5")
        + line % (10, "val", "accuracy", "0.4")
        + line % (10, "train", "loss", "NaN")
        + line % (20, "val", "accuracy", "0.6")
        + line % (20, "val", "loss", "null")
        + "\n[]\n"
        + '{"step": 30, "split": "val", "name": "accuracy", "value": 0.7, "seco'
    )
    everything = read_metrics(tmp_path)
    assert len(everything) == 4
    accuracy = read_metrics(tmp_path, "val", "accuracy")
    assert accuracy[["step", "value"]].to_numpy().tolist() == [[10, 0.4], [20, 0.6]]
    assert np.isnan(read_metrics(tmp_path, "val", "loss")["value"]).all()


def test_no_metrics_is_an_empty_table(tmp_path):
    metrics = read_metrics(tmp_path)
    assert metrics.empty
    assert list(metrics.columns) == ["step", "split", "name", "value", "seconds"]


def _many(write_run, count, measurements):
    curve = [(step, step / 10, 0.5) for step in range(measurements)]
    for place in range(count):
        write_run(
            curve=curve,
            seed=place % 5,
            lr=10.0 ** -(1 + place // 5 % 20),
            optim=f"o{place // 100}",
            final=0.1,
        )


def test_reading_many_records_takes_a_fraction_of_a_second(write_run, outputs):
    _many(write_run, 200, 100)
    start = time.perf_counter()
    tables = build_tables(read_records([outputs]).runs, "o0")
    assert time.perf_counter() - start < 2
    assert sum(row.runs for row in tables[0].rows) == 200


@pytest.mark.slow
def test_2000_records_with_500_measurements_each_take_less_than_10_seconds(write_run, outputs):
    _many(write_run, 2000, 500)
    start = time.perf_counter()
    runs = read_records([outputs]).runs
    tables = build_tables(runs, "o0")
    taken = time.perf_counter() - start
    assert sum(row.runs for row in tables[0].rows) == 2000
    assert taken < 10
    start = time.perf_counter()
    measured = pd.concat(read_metrics(path, "val", "accuracy") for path in runs["path"])
    assert len(measured) == 1_000_000
    print(f"table {taken:.1f} s, all measurements {time.perf_counter() - start:.1f} s")


def test_structures_are_read_as_one_text_and_empty_values_as_missing(write_run, outputs):
    write_run(
        model_args={"width": 64, "depth": 4, "inner": {"a": [1, 2], "b": None, "c": []}},
        data_fingerprint={},
        num_parameters=0,
    )
    (run,) = read_records([outputs]).runs.to_dict("records")
    assert run["model_args"] == "depth 4, inner a 1 2, b none, c none, width 64"
    assert pd.isna(run["data_fingerprint"])
    assert pd.isna(run["num_parameters"])

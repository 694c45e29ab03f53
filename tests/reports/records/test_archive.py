import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.records import archive
from reports.records.reader import raw_record, read_metrics, read_records
from scripts import collect

CURVE = [(10, 1.25, 0.5), (20, 2.5, 0.6123456789), (30, 3.75, 0.7)]


def packed(folder, into):
    assert collect.main([str(folder), str(into)]) == 0
    return read_records([into])


def test_an_archive_reads_as_the_folders_did(write_run, outputs, tmp_path):
    write_run(curve=CURVE)
    write_run(optim="lion", seed=1, status="diverged", diverged_step=12, cause="loss is nan")
    write_run(task="letters", goal="min", metric="loss", final=2.0)
    before = read_records([outputs])
    after = packed(outputs, tmp_path / "records")
    assert after.problems == []
    columns = [column for column in before.runs if column != "path"]
    assert after.runs[columns].equals(before.runs[columns])
    path = after.runs.loc[(after.runs["optim"] == "adamw") & (after.runs["task"] == "digits"), "path"].iloc[0]
    measured = read_metrics(path, "val", "accuracy")
    assert measured["step"].tolist() == [10, 20, 30]
    assert measured["value"].tolist() == pytest.approx([0.5, 0.612346, 0.7], abs=5e-7)
    assert read_metrics(path, "train").empty


def test_packing_again_changes_no_byte_and_keeps_what_is_gone_from_the_folder(write_run, outputs, tmp_path):
    first = write_run(curve=CURVE)
    write_run(seed=1)
    packed(outputs, tmp_path / "records")
    text = (tmp_path / "records" / "digits.runs.jsonl").read_bytes()
    for file in first.iterdir():
        file.unlink()
    packed(outputs, tmp_path / "records")
    assert (tmp_path / "records" / "digits.runs.jsonl").read_bytes() == text
    write_run(seed=2)
    assert len(packed(outputs, tmp_path / "records").runs) == 3


def test_records_that_were_restored_pack_to_the_same_bytes(write_run, outputs, tmp_path, capsys):
    write_run(curve=CURVE)
    write_run(optim="lion", seed=1, status="diverged", diverged_step=12, cause="loss is nan")
    packed(outputs, tmp_path / "records")
    again = tmp_path / "again"
    assert collect.main(["--restore", str(tmp_path / "records"), str(again)]) == 0
    assert "2 records restored, 0 were there already" in capsys.readouterr().out
    kept = next(again.glob("*/lion/*/summary.json"))
    kept.write_text(kept.read_text() + "\n")
    assert collect.main(["--restore", str(tmp_path / "records"), str(again)]) == 0
    assert "0 records restored, 2 were there already" in capsys.readouterr().out
    assert kept.read_text().endswith("\n\n")
    packed(again, tmp_path / "records2")
    name = "digits.runs.jsonl"
    assert (tmp_path / "records2" / name).read_bytes() == (tmp_path / "records" / name).read_bytes()


def test_unfinished_runs_are_left_out_and_said(write_run, outputs, tmp_path, capsys):
    write_run()
    write_run(seed=1, status="interrupted")
    assert len(packed(outputs, tmp_path / "records").runs) == 1
    assert "1 runs that have not ended were left out" in capsys.readouterr().out


def test_nothing_to_pack(write_run, outputs, tmp_path, capsys):
    assert collect.main([str(tmp_path / "nowhere"), str(tmp_path / "records")]) == 2
    write_run(status="failed")
    assert collect.main([str(outputs), str(tmp_path / "records")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "no such folder" in errors[0]
    assert "no finished run" in errors[1]


def test_a_torn_line_is_named_and_the_others_are_read(write_run, outputs, tmp_path):
    write_run()
    write_run(seed=1)
    packed(outputs, tmp_path / "records")
    file = tmp_path / "records" / "digits.runs.jsonl"
    file.write_text(file.read_text()[:-40])
    records = read_records([file])
    assert len(records.runs) == 1
    assert records.problems == [f"{file}#line 2: torn, not whole JSON: left out"]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_values_come_back_with_six_digits(values):
    steps = list(range(len(values)))
    line = archive.line_of({"task": "t"}, {("val", "x"): (steps, values, [0.0] * len(values))})
    json.loads(line, parse_constant=pytest.fail)  # nan and inf are no JSON
    ((_, _, again, read, _),) = map(archive._series, json.loads(line)["measured"])
    assert again == steps
    for value, back in zip(values, read, strict=True):
        assert (math.isnan(value) and math.isnan(back)) or back == pytest.approx(value, rel=5e-6)


def test_a_record_is_packed_with_its_whole_summary(write_run):
    folder = write_run(curve=CURVE, further_tests={"v2": 0.8})
    summary, measured = raw_record(folder)
    assert summary == json.loads((folder / "summary.json").read_text())
    assert measured[("val", "accuracy")] == ([10, 20, 30], [0.5, 0.6123456789, 0.7], [1.25, 2.5, 3.75])


def test_damaged_records_are_counted_and_the_others_packed(write_run, outputs, tmp_path, capsys):
    write_run()
    for seed in range(1, 10):
        (write_run(seed=seed) / "summary.json").write_text('{"status": "comp')
    assert collect.main([str(outputs), str(tmp_path / "records")]) == 1
    said = capsys.readouterr()
    assert "9 of 10 records could not be read whole" in said.err
    assert "1 runs" in said.out


def test_what_cannot_be_restored_is_said(write_run, outputs, tmp_path, capsys):
    write_run()
    packed(outputs, tmp_path / "records")
    with (tmp_path / "records" / "digits.runs.jsonl").open("a") as file:
        file.write("garbage\n{}\n")
    assert collect.main(["--restore", str(tmp_path / "records"), str(tmp_path / "again")]) == 1
    said = capsys.readouterr()
    assert "2 of 3 records could not be read whole" in said.err
    assert "1 records restored" in said.out
    assert len(read_records([tmp_path / "again"]).runs) == 1


@pytest.mark.parametrize("key", ["task", "optim", "run_id"])
@pytest.mark.parametrize("name", ["../../x", "/absolute/x", "a/../../../x", ".."])
def test_nothing_is_restored_outside_the_folder(write_run, outputs, tmp_path, key, name):
    write_run()
    packed(outputs, tmp_path / "records")
    (file,) = (tmp_path / "records").iterdir()
    content = json.loads(file.read_text())
    content["summary"][key] = name
    file.write_text(json.dumps(content) + "\n")
    before = set(tmp_path.rglob("*"))
    assert collect.main(["--restore", str(tmp_path / "records"), str(tmp_path / "a" / "b" / "again")]) == 2
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("restore", [[], ["--restore"]])
def test_an_empty_folder_and_an_impossible_place_are_errors(write_run, outputs, tmp_path, capsys, restore):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    write_run()
    assert collect.main([*restore, str(tmp_path / "empty"), str(tmp_path / "x")]) == 2
    assert "no run record in" in capsys.readouterr().err
    assert collect.main([*restore, str(outputs), str(tmp_path / "file")]) == 2
    assert collect.main([*restore, str(outputs), str(tmp_path / "file" / "x")]) == 1
    assert all(line.startswith("collect.py: ") for line in capsys.readouterr().err.splitlines())


def test_a_run_with_a_nan_is_packed_as_json_and_read_again(write_run, outputs, tmp_path):
    folder = write_run(curve=CURVE, steps_per_second=math.nan)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "split": "val", "name": "accuracy", "value": NaN, "seconds": 5}\n')
    after = packed(outputs, tmp_path / "records")
    text = (tmp_path / "records" / "digits.runs.jsonl").read_text()
    json.loads(text, parse_constant=pytest.fail)
    values = read_metrics(after.runs["path"].iloc[0], "val", "accuracy")["value"]
    assert math.isnan(values.iloc[-1])


def test_an_archive_in_a_folder_with_the_mark_in_its_name(write_run, outputs, tmp_path):
    write_run(curve=CURVE)
    runs = packed(outputs, tmp_path / "a#b" / "records").runs
    assert read_metrics(runs["path"].iloc[0], "val", "accuracy")["step"].tolist() == [10, 20, 30]


def test_an_archive_with_a_torn_line_is_not_written_over(write_run, outputs, tmp_path, capsys):
    for seed in range(3):
        write_run(seed=seed)
    packed(outputs, tmp_path / "records")
    place = tmp_path / "records" / "digits.runs.jsonl"
    torn = place.read_text().replace('{"measured"', '{"mea', 1)
    place.write_text(torn)
    write_run(seed=3)
    capsys.readouterr()
    assert collect.main([str(outputs), str(tmp_path / "records")]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert place.read_text() == torn

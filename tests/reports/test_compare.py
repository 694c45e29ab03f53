"""The command over it all, run as a user runs it."""

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare.py"


@pytest.fixture(scope="module")
def compare():
    return runpy.run_path(str(SCRIPT))["main"]


def test_prints_and_writes(write_run, outputs, compare, capsys):
    write_run(curve=[(10, 1.0, 0.5), (20, 2.0, 0.9)])
    write_run(optim="lion", curve=[(10, 1.0, 0.6), (20, 2.0, 0.9)])
    assert compare([str(outputs)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "lion" in said.out
    for name in ("table.md", "table.csv", "curves-digits.png", "curves-digits.svg"):
        assert (outputs / "report" / name).stat().st_size > 0
        assert str(outputs / "report" / name) in said.out


def test_a_second_time_gives_the_same_bytes(write_run, outputs, compare, tmp_path):
    write_run(curve=[(10, 1.0, 0.5)])
    for folder in ("a", "b"):
        assert compare([str(outputs), "--out", str(tmp_path / folder)]) == 0
    for one in (tmp_path / "a").iterdir():
        assert one.read_bytes() == (tmp_path / "b" / one.name).read_bytes()


def test_one_task_and_several_folders(write_run, tmp_path, compare, capsys):
    write_run(tmp_path / "x", task="one")
    write_run(tmp_path / "y", task="two", optim="lion")
    folders = [str(tmp_path / "x"), str(tmp_path / "y")]
    assert compare([*folders, "--task", "two"]) == 0
    assert "one" not in (tmp_path / "x" / "report" / "table.md").read_text().split()
    assert compare([*folders, "--task", "three"]) == 2
    assert "no runs of task three; there are runs of: one, two" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["outputs", "nowhere"])
def test_no_records_is_one_line_and_status_2(tmp_path, compare, capsys, folder):
    (tmp_path / "outputs").mkdir()
    assert compare([str(tmp_path / folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "python run.py task=" in lines[-1]
    assert "summary.json" in lines[-1]
    assert len(lines) == (2 if folder == "nowhere" else 1)
    assert not (tmp_path / folder / "report").exists()


def test_torn_records_are_said_and_the_rest_is_compared(write_run, outputs, compare, capsys):
    write_run()
    for seed in range(1, 9):
        folder = write_run(seed=seed)
        (folder / "summary.json").write_text('{"status": "comp')
    assert compare([str(outputs)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert "torn" in lines[0]
    assert "3 more" in lines[-1]


def test_a_folder_that_cannot_be_written_is_one_line(write_run, outputs, compare, capsys, tmp_path):
    write_run()
    (tmp_path / "file").write_text("")
    assert compare([str(outputs), "--out", str(tmp_path / "file" / "x")]) == 1
    assert "--out" in capsys.readouterr().err


def test_from_any_folder_and_a_pipe_that_knows_no_unicode(write_run, outputs, tmp_path):
    write_run()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "outputs"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "report" / "table.md").exists()


def test_help_answers_at_once_with_examples(tmp_path):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert time.perf_counter() - start < 1
    assert done.returncode == 0
    assert "python scripts/compare.py outputs --task" in done.stdout

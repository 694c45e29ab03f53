"""scripts/list.py: what there is to run, and the state of the runs so far."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import list as listing

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 2.0  # of CPU time


def write(folder: Path, **summary: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_every_file_of_a_group_is_listed_with_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    for what, group in (*listing.FOLDERS.items(), ("tasks", "task")):
        assert listing.main([what]) == 0
        lines = capsys.readouterr().out.splitlines()
        result = {line.split()[0]: line.split(maxsplit=1)[1:] for line in lines if line.startswith("  ")}
        assert set(result) == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert all(result.values()), "each says something"


def test_a_task_is_listed_with_its_scales_below_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    listing.main(["tasks"])
    families = [part.splitlines() for part in capsys.readouterr().out.split("\n\n")]
    (images,) = [lines for lines in families if lines[0] == "Image classification: task="]
    assert any(line.split()[:4] == ["vit_b16", "[embedded,", "gpu,", "paper]"] for line in images)
    assert any(line.split()[:2] == ["vit_g14", "[paper]"] for line in images)


def test_each_run_is_listed_with_its_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = tmp_path / "outputs"
    write(
        outputs / "a" / "lion" / "1",
        status="completed",
        metric="accuracy",
        goal="max",
        final=0.5,
        test=0.25,
        seed=3,
        lr=1e-3,
        weight_decay=3,
    )
    write(outputs / "a" / "lion" / "2", status="diverged", cause="training loss is nan", final=None)
    write(outputs / "a" / "adamw" / "3", status="interrupted", cause="stopped at step 3")
    (outputs / "a" / "adamw" / "4").mkdir()
    (outputs / "a" / "adamw" / "4" / "summary.json").write_text("{torn")
    busy = write(outputs / "b" / "lion" / "5", status="interrupted", cause="the process was killed")
    elsewhere = write(tmp_path / "elsewhere" / "6", status="completed")
    (outputs / "link").symlink_to(elsewhere.parent)
    (outputs / "b" / "round").symlink_to(outputs)  # a circle
    with (busy / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert listing.main(["runs", str(outputs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    states = {line.split()[3].rpartition("/")[2]: line.split()[0] for line in lines[1:-1]}
    running = "running" if sys.platform == "linux" else "interrupted"
    expected = {
        "1": "completed",
        "2": "diverged",
        "3": "interrupted",
        "4": "unreadable",
        "5": running,
        "6": "completed",
    }
    assert states == expected
    assert any("seed 3, lr 0.001, weight decay 3, val accuracy 50.0%, test accuracy 25.0%" in line for line in lines)
    assert any("training loss is nan" in line for line in lines)
    assert lines[-1].startswith("6 runs: 2 completed, 1 diverged")


def test_a_folder_without_runs_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Runs in {tmp_path}: none\n"


def test_it_answers_at_once_and_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    script = "import runpy, sys, atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr));"
    script += f"sys.argv[0] = 'list.py'; runpy.run_path({str(ROOT / 'scripts' / 'list.py')!r}, run_name='__main__')"
    for arguments, status in ((["all"], 0), (["runs", "nowhere"], 1)):
        start = os.times()
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        end = os.times()
        assert done.returncode == status
        assert done.stderr.splitlines()[-1] == "False"
        assert len(done.stderr.splitlines()) == 1 + status
        assert end.children_user - start.children_user + end.children_system - start.children_system < SECONDS

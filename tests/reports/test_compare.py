"""The command over it all, run as a user runs it."""

import os
import re
import runpy
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from reports.records.reader import read_records
from reports.statistics import setting_differences
from reports.tables.comparison import build_tables
from reports.tables.render import heading, titles

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
    for name in ("index.html", "table.md", "table.csv", "table.tex", "curves-digits.png", "curves-digits.svg"):
        assert (outputs / "report" / name).stat().st_size > 0
    assert f"page: {outputs / 'report' / 'index.html'}\n" in said.out


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
    before = os.times()
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True)
    after = os.times()  # of the processor: a busy machine does not stretch it
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
    assert done.returncode == 0
    assert "python scripts/compare.py outputs --task" in done.stdout


def test_default_runs_are_called_what_they_are(write_run, outputs, compare, capsys, monkeypatch):
    """Two seeds of the defaults, Lion far ahead: no verdict, no claim, and nothing is called tuned."""
    monkeypatch.setenv("COLUMNS", "120")
    for seed in range(2):
        for optim, value in (("adamw", 0.5), ("lion", 0.9)):
            value += seed / 1000
            write_run(optim=optim, seed=seed, final=value, test=value, curve=[(50, 1, value / 2), (100, 2, value)])
    assert compare([str(outputs)]) == 0
    page = (outputs / "report" / "index.html").read_text()
    printed = capsys.readouterr().out
    assert [line.split()[-2:] for line in printed.splitlines()[1:3]] == [["untuned", "3.2"]] * 2
    said = printed + (outputs / "report" / "table.md").read_text()
    assert "Runs so far: untuned settings" in said
    assert "Runs so far: untuned settings" in page
    for text in (said, page):
        assert "Tuned settings" not in text
    assert not re.search(r"\+0\.40* better|is better<|\bsupported\b\W+lion", said)
    assert re.search(r'verdict not-run"[^>]*>\d\d not run', page)
    for word in ("supported", "contradicted", "not-shown", "not-judged"):
        assert re.search(rf'verdict {word}"[^>]*>0 ', page)
    assert "Not known yet: no task has 9 trials and 3 fresh seeds of both Lion and AdamW" in page


@pytest.mark.parametrize("option", ["--reference", "--highlight"])
def test_a_row_that_is_not_there_is_refused_with_those_that_are(write_run, outputs, compare, capsys, option):
    write_run()
    write_run(optim="lion")
    assert compare([str(outputs), option, "foo"]) == 2
    assert capsys.readouterr().err == f"compare.py: {option} foo: no row has this name; there are: adamw, lion\n"
    assert not (outputs / "report").exists()


def test_two_kinds_of_the_reference_say_how_to_choose(write_run, outputs, compare, capsys):
    for eps in (1e-6, 1e-8):
        write_run(optim_args={"eps": eps})
    assert compare([str(outputs)]) == 0
    said = capsys.readouterr().out
    assert "to choose one: --reference 'adamw (eps 1e-06)', or 'adamw (eps 1e-08)'" in " ".join(said.split())
    assert compare([str(outputs), "--reference", "adamw"]) == 2
    assert "choose one: 'adamw (eps 1e-06)', 'adamw (eps 1e-08)'" in capsys.readouterr().err
    assert compare([str(outputs), "--reference", "adamw (eps 1e-08)"]) == 0


def test_a_narrow_terminal_gets_a_block_for_each_row(write_run, outputs, compare, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    write_run()
    write_run(optim="lion", final=0.95)
    assert compare([str(outputs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 40 for line in lines if not line.startswith(("page:", "beside it:")))
    row = lines[lines.index("digits, test accuracy lion") + 1 :]
    assert ["figure", "88.0%"] in [line.split() for line in row[:5]]


def test_tasks_with_dots_have_pages_and_files_of_their_own(write_run, outputs, compare):
    for task in ("vit_0.2m", "vit_0_2m", "ViT 0.2m"):
        write_run(task=task, curve=[(50, 1.0, 0.5)])
    assert compare([str(outputs)]) == 0
    assert len(list((outputs / "report").glob("curves-*.svg"))) == 3
    page = (outputs / "report" / "index.html").read_text()
    assert len(set(re.findall(r'<details class="fold task" id="(task-[^"]*)"', page))) == 3


def test_failed_runs_are_counted_and_draw_nothing(write_run, outputs, compare):
    write_run(task="broken", status="failed", cause="ConfigError: no")
    assert compare([str(outputs)]) == 0
    assert "1 (1 failed)" in (outputs / "report" / "table.md").read_text()
    assert not list((outputs / "report").glob("curves-*"))
    assert "along training" not in (outputs / "report" / "index.html").read_text()


def test_tables_that_look_alike_say_what_differs(write_run, outputs):
    for clip in (1.0, 0.5):
        for optim in ("adamw", "lion"):
            folder = write_run(optim=optim, conditions=f"{clip}", curve=[(50, 1.0, 0.5)])
            (folder / "config.yaml").write_text(f"clip_norm: {clip}\nseed: 0\noptim: {{name: {optim}}}\n")
    tables = build_tables(read_records([outputs]).runs, "adamw")
    assert [heading(table).rpartition(" · ")[2] for table in tables] == ["clip_norm 0.5", "clip_norm 1.0"]
    assert len(set(titles(tables))) == 2
    for path in outputs.glob("*/*/*/config.yaml"):
        path.unlink()
    setting_differences._flat.cache_clear()
    tables = build_tables(read_records([outputs]).runs, "adamw")
    assert [table.note for table in tables] == ["conditions 0.5", "conditions 1.0"]


def test_one_screen_or_all_columns(write_run, tune, outputs, compare, capsys, monkeypatch):
    for optim in ("adamw", "lion", "sgd", "radam", "nadam"):
        tune(optim, (0.90, 0.91, 0.92))
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("COLUMNS", "120")
    assert compare([str(outputs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    assert sum("lion" in line or "adamw" in line for line in lines[1:4]) == 2
    assert "more rows in the files: 2" in lines
    assert compare([str(outputs), "--full"]) == 0
    assert "optimizer state: median over the runs" in capsys.readouterr().out


def test_watch_says_what_is_missing_and_serve_is_for_this_machine_alone(write_run, outputs, tmp_path):
    outputs.mkdir()
    command = [sys.executable, "-u", str(SCRIPT), str(outputs), "--watch", "1", "--serve", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as run:
        try:
            said = [run.stdout.readline()]  # before there is a record
            assert "no run record" in said[0]
            write_run(seed=1, status="interrupted")
            write_run(seed=0)
            for line in run.stdout:
                said.append(line)
                if line.startswith("http://127.0.0.1:"):
                    break
            address = said[-1].split()[0]
            assert b"Should I train with Lion?" in urllib.request.urlopen(f"{address}index.html", timeout=10).read()
            assert "digits, adamw: missing: 0 trials (9 needed), 0 fresh seeds (3 needed), 1 not finished\n" in said
            write_run(optim="lion")
            for line in run.stdout:  # the second round
                if line.startswith("digits, lion: missing:"):
                    break
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=60) == 130
        finally:
            run.kill()


@pytest.mark.parametrize("option", ["--watch=0", "--watch=x", "--serve=70000", "--serve=x"])
def test_numbers_that_make_no_sense_are_refused(compare, outputs, option, capsys):
    with pytest.raises(SystemExit):
        compare([str(outputs), option])
    assert option.split("=")[0] in capsys.readouterr().err

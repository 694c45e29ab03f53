"""Published files: made from records alone, the same bytes each time, and with nothing left out."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from reports.publish import write_all
from reports.records.reader import read_records
from reports.records.speeds import read_speeds
from reports.results import compared, read_results
from reports.statistics.selection import TRIAL_SEEDS_FROM
from scripts import collect
from scripts.maintenance import make_reports

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "reports" / "published"
ABOUT = "title: Results\ntext: [A sentence.]\nfacts: {machine: a machine}\n"


@pytest.fixture
def published(write_run, outputs, tmp_path):
    """A folder with records of two tasks and two batch sizes, trials and fresh seeds, one diverged."""
    for task in ("digits", "letters"):
        for number, optim in enumerate(("adamw", "lion", "sgd")):
            for lr in (1e-4, 1e-3, 1e-2):
                for decay in (0.01, 0.1, 1.0):
                    final = 0.9 - abs(lr - 1e-3) * 10 - (decay != 0.1) / 10
                    write_run(task=task, optim=optim, lr=lr, weight_decay=decay, seed=TRIAL_SEEDS_FROM, final=final)
            for seed in range(3):
                value = 0.8 + number / 100 + seed / 1000 * (number + 1)
                curve = [(50, 1.0, value / 2), (100, 2.0, value)]
                write_run(task=task, optim=optim, seed=seed, final=value, test=value, curve=curve)
    for optim in ("adamw", "lion"):
        write_run(optim=optim, batch_size=16, steps=400)
    write_run(optim="sgd", lr=1.0, seed=TRIAL_SEEDS_FROM, status="diverged", diverged_step=7, cause="loss is nan")
    folder = tmp_path / "published"
    assert collect.main([str(outputs), str(folder / "records")]) == 0
    (folder / "about.yaml").write_text(ABOUT)
    return folder


def test_everything_is_written_and_twice_the_same_and_a_change_is_noticed(published, capsys):
    assert make_reports.main(["--folder", str(published)]) == 0
    assert make_reports.main(["--folder", str(published), "--check"]) == 0
    names = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    assert {"README.md", "tables.md", "tables.csv", "tables.tex", "index.html"} <= names
    assert {
        f"figures/{kind}-{task}.svg" for kind in ("curves", "heatmaps", "trials") for task in ("digits", "letters")
    } <= names
    assert "figures/batch-size-digits.svg" in names
    text = (published / "README.md").read_text()
    assert (
        "digits, 100 steps of 64 on mnist5k: test accuracy, lion 81.2 ± 0.5%, adamw 80.10 ± 0.25%, "
        "difference +1.1 points [+0.7, +1.5]" in text
    )
    assert "Ranks over 2 tasks" in text
    assert "loss is nan" in text
    assert "machine: a machine" in text
    assert "index.html" in text
    # A changed file is noticed.
    with (published / "tables.md").open("a") as file:
        file.write("Lion always wins.\n")
    (published / "figures" / "curves-digits.svg").unlink()
    capsys.readouterr()
    assert make_reports.main(["--folder", str(published), "--check"]) == 1
    said = capsys.readouterr().err
    assert "tables.md is not what the records give" in said
    assert "curves-digits.svg is not what the records give" in said


def test_no_records_is_one_line(tmp_path, capsys):
    assert make_reports.main(["--folder", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_single_run_is_enough_for_a_page(write_run, outputs, tmp_path):
    write_run()
    results = compared(read_records([outputs]).runs, read_speeds([outputs]), "adamw")
    for path in write_all(results, tmp_path / "out"):
        assert path.stat().st_size > 0


@pytest.mark.skipif(not (PUBLISHED / "about.yaml").exists(), reason="nothing is published yet")
def test_the_published_files_are_what_the_committed_records_give():
    start = _children_seconds()
    command = [sys.executable, str(ROOT / "scripts" / "maintenance" / "make_reports.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert _children_seconds() - start < 150  # 50 s on a slow machine: room for one that is slower still


def _children_seconds():
    """CPU time of the processes that have been waited for: a busy machine does not stretch it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(not (PUBLISHED / "about.yaml").exists(), reason="nothing is published yet")
def test_the_published_runs_followed_the_protocol():
    results = read_results(PUBLISHED)
    assert results.problems == []
    for table in results.main:
        optimizers = [row for row in table.rows if "(" not in row.optim]
        assert all(row.trials >= 9 for row in optimizers)
        # Rings end where the best setting is enclosed; where it is not, every optimizer had as many trials.
        assert len({row.trials for row in optimizers}) == 1 or not any(row.open for row in optimizers)
        for contender in table.comparison.contenders:
            assert contender.fresh
            assert len(contender.by_seed("final")) >= 3
            seeds = {tuple(c.by_seed("final").index) for c in table.comparison.contenders}
            assert len(seeds) == 1, "the same seeds for every optimizer"

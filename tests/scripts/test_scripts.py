"""The scripts: each says what it is for, and does the part of it that needs no network and no minutes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ROOT / "scripts", ROOT / "scripts" / "maintenance"
SCRIPTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
CENTRES = ROOT / "reports" / "published" / "centres.csv"
HELP_SECONDS = 10.0
TINY = ["task=vit_b16", "batch_size=8", "model.args.depth=1", "model.args.embed_dim=16", "model.args.num_heads=2"]

# Stands in for wandb: keeps what it is sent in a file, and knows at the next init how far a run has got.
FAKE_WANDB = """
import json
from pathlib import Path

KEPT = Path(__file__).parent / "kept.json"


class Settings:
    def __init__(self, **values):
        pass


class Run:
    def __init__(self, given):
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        known = kept.get(given["id"], {"steps": {}, "summary": {}})
        self.id, self.given, self.steps, self.summary = given["id"], given, known["steps"], known["summary"]
        self.sent = []

    @property
    def step(self):
        return max(map(int, self.steps)) + 1 if self.steps else 0

    def log(self, values, step):
        assert step >= self.step, "wandb drops steps that are not ahead"
        self.steps[str(step)] = values
        self.sent.append(step)

    def finish(self, exit_code=0):
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        given = {k: v for k, v in self.given.items() if k != "settings"}
        kept[self.id] = {"steps": self.steps, "summary": dict(self.summary), "sent": self.sent, "given": given}
        KEPT.write_text(json.dumps(kept))


def init(**given):
    return Run(given)
"""


NAMED = "0123456789ab-20260102T030405000006"


def run(*command: object, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | env
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_says_what_a_script_is_for(script: Path) -> None:
    start = time.perf_counter()
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < HELP_SECONDS
    assert done.stdout.startswith("usage: ")
    assert f"python {script.relative_to(ROOT)}" in done.stdout.replace("outputs/optax/bin/", "")
    assert len(done.stdout.splitlines()) > 5
    assert done.stderr == ""


@pytest.mark.skipif(not CENTRES.exists(), reason="reports/published/centres.csv is not there")
def test_centres_are_what_the_committed_table_says() -> None:
    folder = ROOT / "conf" / "tuned" / "embedded"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    try:
        done = run(ROOT / "scripts" / "maintenance" / "make_centres.py")
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    finally:
        for path in folder.rglob("*.yaml"):  # a test leaves the tree as it was
            if path not in before:
                path.unlink()
            elif path.read_bytes() != before[path]:
                path.write_bytes(before[path])
    assert done.returncode == 0, done.stderr
    written = [text for text in before.values() if b"Written by scripts/maintenance/make_centres.py" in text]
    assert done.stdout == f"{len(written)} tables written to conf/tuned/embedded\n"
    assert after == before


def test_a_folder_without_records_is_said_to_be_one(tmp_path: Path) -> None:
    for name in ("maintenance/make_centres.py", "sync_wandb.py", "compare.py"):
        table = CENTRES.read_bytes() if CENTRES.exists() else None
        done = run(ROOT / "scripts" / name, tmp_path)
        assert done.returncode == 2, name
        assert len(done.stderr.splitlines()) == 1
        assert str(tmp_path) in done.stderr
        assert (CENTRES.read_bytes() if CENTRES.exists() else None) == table


def test_papers_numbers_are_what_the_committed_table_says() -> None:
    done = run(ROOT / "scripts" / "maintenance" / "make_tuned.py", "--check")
    assert (done.returncode, done.stdout) == (0, "conf/tuned/paper.yaml is up to date\n")


SUMMARY = {"status": "completed", "run_id": "0123456789ab", "task": "vit_b16", "optim": "lion", "final": 0.5}
SUMMARY |= {"metric": "accuracy", "goal": "max"}


def write_record(folder: Path, created: str = "2026-01-02T03:04:05.000006+00:00") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(
        "task: {name: vit_b16}\nscale: {name: embedded}\nseed: 3\noptim: {name: lion, lr: 0.001, weight_decay: 1.0}\n"
    )
    (folder / "metrics.jsonl").write_text(
        '{"step": 2, "split": "train", "name": "loss", "value": 2.5, "seconds": 0.1}\n'
        '{"step": 4, "split": "train", "name": "loss", "value": 2.0, "seconds": 0.2}\n'
        '{"step": 4, "split": "val", "name": "accuracy", "value": 0.5, "seconds": 0.3}\n'
        '{"step": 6, "split": "tr'  # a killed process left it so
    )
    (folder / "summary.json").write_text(json.dumps(SUMMARY | {"created": created}))


def test_a_record_is_uploaded_once(tmp_path: Path) -> None:
    (tmp_path / "modules" / "wandb").mkdir(parents=True)
    (tmp_path / "modules" / "wandb" / "__init__.py").write_text(FAKE_WANDB)
    kept = tmp_path / "modules" / "wandb" / "kept.json"
    folder = tmp_path / "outputs" / "vit_b16" / "lion" / "0123456789ab"
    write_record(folder)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), str(ROOT)]),
        "WANDB_API_KEY": "0" * 40,
        "WANDB_MODE": "",
    }
    command = (ROOT / "scripts" / "sync_wandb.py", tmp_path / "outputs", "--project", "mine", "--entity", "team")

    first = run(*command, **environment)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"1/1 {folder}: 2 steps sent\n"
    sent = json.loads(kept.read_text())[NAMED]
    assert sent["steps"] == {"2": {"train/loss": 2.5}, "4": {"train/loss": 2.0, "val/accuracy": 0.5}}
    assert (sent["summary"]["status"], sent["summary"]["final"]) == ("completed", 0.5)
    given = sent["given"]
    assert (given["project"], given["entity"], given["mode"], given["resume"]) == ("mine", "team", "online", "allow")
    assert given["tags"] == ["vit_b16", "lion", "embedded"]
    assert given["name"] == "lion-lr0.001-wd1-s3"

    again = run(*command, **environment)
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"1/1 {folder}: 0 steps sent\n"
    assert json.loads(kept.read_text())[NAMED]["sent"] == []

    with (folder / "metrics.jsonl").open("a") as file:  # the run went on
        text = (folder / "metrics.jsonl").read_text().rpartition("\n")[0]
        file.truncate(0)
        file.write(text + '\n{"step": 6, "split": "train", "name": "loss", "value": 1.5, "seconds": 0.4}\n')
    assert run(*command, **environment).stdout == f"1/1 {folder}: 1 steps sent\n"

    write_record(folder, created="2027-01-02T03:04:05.000006+00:00")  # done again from its first step
    bad = folder.with_name("bad")
    write_record(bad)
    (bad / "config.yaml").unlink()
    torn = folder.with_name("torn")
    write_record(torn)
    (torn / "summary.json").write_text('{"status": "comp')
    last = run(*command, **environment)
    assert last.stdout == f"1/3 {folder}: 2 steps sent\n"
    assert last.returncode == 1
    missing, half, count = last.stderr.splitlines()
    assert missing == f"2/3 {bad}: not uploaded (config.yaml is missing; a restored record has none)"
    assert half == f"3/3 {torn}: not uploaded (summary.json is torn)"
    assert count == "2 of 3 records could not be uploaded"
    assert len(json.loads(kept.read_text())) == 2


def test_nothing_is_uploaded_without_a_login(tmp_path: Path) -> None:
    write_record(tmp_path / "outputs" / "vit_b16" / "lion" / "0123456789ab")
    done = run(ROOT / "scripts" / "sync_wandb.py", tmp_path, WANDB_MODE="offline")
    assert done.returncode == 1
    assert "wandb login" in done.stderr
    assert "--offline" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("script", ["maintenance/overhead.py", "speed.py"])
def test_all_mistakes_of_a_timing_are_named_at_once(script: str) -> None:
    done = run(ROOT / "scripts" / script, "lr=1", "steps=x", "optim.lr=abc")
    assert done.returncode in (1, 2)
    unknown, *values = done.stderr.splitlines()
    assert unknown == "error: lr is unknown; did you mean optim.lr?"
    assert [line.split()[1] for line in values] == ["steps=x", "optim.lr=abc"]


def test_the_overhead_is_measured() -> None:
    done = run(ROOT / "scripts" / "maintenance" / "overhead.py", "--rounds", 2, "--block", 2, *TINY)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("vit_b16 lion, 2 rounds of 2 steps: minimal loop ")
    assert last.startswith("the suite keeps ")

"""The examples of CONTRIBUTING.md, done as it says in a copy of the project."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w/.]+)`:\n\n```(?:yaml|python)\n(.*?)```", DOCUMENT, re.DOTALL))
COMMANDS = re.findall(r"```\n(python run\.py [^\n]*)\n```", DOCUMENT)
PACKAGES = ("baselines", "conf", "hydra_plugins", "lion", "recipes", "reports")
SHORT = ["steps=30", "eval_every=15", "log_every=15", "schedule.warmup_steps=2", "device=cpu", "tracker=none"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the files of the document."""
    copy = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("published", "__pycache__"))
    shutil.copy(ROOT / "run.py", copy)
    for name, content in FILES.items():
        assert not (copy / name).exists()
        (copy / name).write_text(content, encoding="utf-8")
    return copy


def run(project: Path, command: str) -> tuple[Path, dict[str, object]]:
    """The folder and the summary of a short run of this command."""
    overrides = shlex.split(command)[2:]
    outputs = project / "outputs" / str(COMMANDS.index(command))
    line = [sys.executable, "run.py", *overrides, *SHORT, f"output_dir={outputs}"]
    done = subprocess.run(line, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (summary,) = outputs.rglob("summary.json")
    return summary.parent, json.loads(summary.read_text())


def test_the_document_has_a_file_for_each_step_and_a_command_for_each_example() -> None:
    assert list(FILES) == [
        "conf/optim/laprop.yaml",
        "conf/task/vit_tiny.yaml",
        "conf/setting/embedded/vit_tiny.yaml",
        "recipes/autoencoder.py",
        "conf/task/autoencoder.yaml",
        "conf/setting/embedded/autoencoder.yaml",
    ]
    assert len(COMMANDS) == 3


@pytest.mark.parametrize(
    ("command", "task", "optimizer", "metric", "goal"),
    [
        pytest.param(0, "vit_b16", "laprop", "accuracy", "max", marks=pytest.mark.slow),
        (1, "vit_tiny", "lion", "accuracy", "max"),
        (2, "autoencoder", "laprop", "mse", "min"),
    ],
)
def test_an_example_trains_and_leaves_a_record(
    project: Path, command: int, task: str, optimizer: str, metric: str, goal: str
) -> None:
    folder, summary = run(project, COMMANDS[command])
    assert folder.parts[-3:-1] == (task, optimizer)
    assert (summary["status"], summary["steps"]) == ("completed", 30)
    assert (summary["task"], summary["optim"]) == (task, optimizer)
    assert (summary["metric"], summary["goal"]) == (metric, goal)
    config = OmegaConf.load(folder / "config.yaml")
    if optimizer == "laprop":
        assert config.optim._target_ == "timm.optim.LaProp"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["value"] for row in rows if (row["split"], row["name"]) == ("train", "loss")]
    assert len(losses) >= 2
    assert losses[-1] < losses[0]

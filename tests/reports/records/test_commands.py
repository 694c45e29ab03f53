"""Commands of runs: what a reader copies from the page does the same run."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from recipes.runs.run_id import run_id
from reports.records.commands import command_of
from tests.recipes.conftest import composed

PUBLISHED = Path(__file__).resolve().parents[3] / "reports" / "published"
FURTHER = yaml.safe_load((PUBLISHED / "about.yaml").read_text(encoding="utf-8")).get("overrides", {})


def first_of_each_optimizer():
    for path in sorted((PUBLISHED / "records").glob("*.runs.jsonl")):
        seen = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            summary = json.loads(line)["summary"]
            seen.setdefault((summary["optim"], json.dumps(summary["optim_args"])), summary)
        chosen = [each for (name, _), each in seen.items() if name in ("adamw", "lion")]
        yield from (pytest.param(each, id=f"{each['task']}-{each['optim']}-{n}") for n, each in enumerate(chosen))


@pytest.mark.parametrize("summary", list(first_of_each_optimizer()))
def test_the_command_has_the_id_of_the_published_run(summary):
    """Of AdamW and Lion, and of their variants, whose arguments other than the defaults are in the command."""
    plain = composed(f"task={summary['task']}", f"optim={summary['optim']}").optim
    arguments = [name for name, value in summary["optim_args"].items() if plain[name] != value]
    command = command_of(summary, arguments)
    program, script, *overrides = shlex.split(f"{command} {FURTHER.get(summary['task'], '')}")
    assert (program, script) == ("python", "run.py")
    assert run_id(composed(*overrides)) == summary["run_id"]


def test_arguments_that_are_not_defaults_are_named_and_quoted_for_the_shell():
    summary = {"task": "t", "optim": "lion", "scale": "paper", "seed": 1, "lr": 0.00031622776601683794}
    summary |= {"weight_decay": 1.0, "optim_args": {"betas": [0.9, 0.9], "momentum_dtype": "int8", "eps": 1e-8}}
    assert command_of(summary, ["betas", "momentum_dtype"]) == (
        "python run.py task=t optim=lion scale=paper seed=1 optim.lr=0.00031622776601683794 optim.weight_decay=1 "
        "'optim.betas=[0.9,0.9]' optim.momentum_dtype=int8"
    )

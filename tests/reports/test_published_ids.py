"""The ids of the published runs are those that the same commands have now, so that tuning continues from them."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from recipes.runs.run_id import conditions, run_id
from tests.recipes.conftest import ROOT, composed

PUBLISHED = ROOT / "reports" / "published"
RECORDS = sorted(PUBLISHED.glob("records/*.runs.jsonl")) + sorted(PUBLISHED.glob("archive/*.runs.jsonl"))
# Archived runs had shorter warm-ups, which the names of their files say (vit_b16.warmup_200.runs.jsonl).
ARCHIVED_BATCH_SIZES = {
    16: "steps=8400 schedule.warmup_steps=800 eval_every=800",
    256: "steps=525 schedule.warmup_steps=50 eval_every=50",
    1024: "steps=131 schedule.warmup_steps=12 eval_every=12",
}
# These were run when position embeddings decayed, too: under a rule of another name, which no run can have now.
OLD_DECAY_RULE = ("lit_b16_b", "gpt2_small", "bert_small", "t5_glue")
# What an archived run had beside its warm-up, by task: the prerequisite run of then.
ARCHIVED_PREREQUISITES = {
    "lit_b16_b": "init_from='run:task=vit_s16 optim=adamw schedule.warmup_steps=200'",
    "t5_glue": "init_from='run:task=t5_pretrain optim=adamw decay=matrices'",
    "unet_64": "model.args.judge='run:task=vit_b16 optim=adamw schedule.warmup_steps=200 +data.options.size=16 "
    "model.args.img_size=16 model.args.patch_size=4'",
}

TRANSFER = OmegaConf.load(ROOT / "conf" / "experiment" / "transfer.yaml").hydra.sweeper.conditions.embedded


@functools.cache
def base(task: str, optim: str, batch_size: int, steps: int, warmup: str | None) -> DictConfig:
    """The config of a published run's command, of an archived one with its warm-up of then."""
    overrides = [f"task={task}", f"optim={optim}"]
    if (task, steps) == ("unet_64", 1500):
        overrides.append("steps=1500")
    if warmup is not None:
        overrides.append(f"schedule.warmup_steps={warmup}")
        if task in ARCHIVED_PREREQUISITES:
            overrides.append(ARCHIVED_PREREQUISITES[task])
        if task in OLD_DECAY_RULE:
            overrides.append("decay=matrices")
        if task == "vit_b16" and batch_size in ARCHIVED_BATCH_SIZES:
            overrides[2:] = [f"batch_size={batch_size}", *ARCHIVED_BATCH_SIZES[batch_size].split()]
    return composed(*overrides)


def summaries(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line)["summary"] for line in path.read_text().splitlines())


def ids_of(summary: dict[str, Any], command: DictConfig) -> tuple[str, str]:
    """The run id and the conditions of a run of this command with the optimizer, settings and seed of a record."""
    cfg = command.copy()
    OmegaConf.set_struct(cfg, False)
    cfg.seed = summary["seed"]
    described = {key: cfg.optim[key] for key in ("name", "_target_", "_partial_")}
    assert summary["optim_class"] == cfg.optim._target_
    settings = {key: summary[key] for key in ("lr", "weight_decay")}
    cfg.optim = described | settings | summary["optim_args"]
    return run_id(cfg), conditions(cfg)


def some_of(path: Path) -> list[dict[str, Any]]:
    """The first and the last run of each optimizer with the same arguments: a trial, and one on a fresh seed."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    last: dict[tuple[Any, ...], dict[str, Any]] = {}
    for summary in summaries(path):
        kind = (summary["optim"], json.dumps(summary["optim_args"], sort_keys=True), summary["conditions"])
        first.setdefault(kind, summary)
        last[kind] = summary
    return [*first.values(), *last.values()]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.removesuffix(".runs.jsonl"))
@pytest.mark.parametrize("chosen", [some_of, pytest.param(summaries, marks=pytest.mark.slow)])
def test_published_ids_follow_from_their_commands(path: Path, chosen: Callable[[Path], Iterable[Any]]) -> None:
    warmup = re.search(r"warmup_(\d+)", path.name)
    for summary in chosen(path):
        command = base(summary["task"], summary["optim"], summary["batch_size"], summary["steps"], warmup and warmup[1])
        assert ids_of(summary, command) == (summary["run_id"], summary["conditions"])


@pytest.mark.parametrize("task", ["vit_b16", "gpt2_small"])
def test_ids_of_the_experiment_transfer_follow_from_its_conditions(task: str) -> None:
    commands = {}
    for overrides in (line.split() for line in TRANSFER if f"task={task}" in line.split()):
        for optim in ("adamw", "lion"):
            cfg = composed(*overrides, f"optim={optim}")
            commands[optim, conditions(cfg)] = cfg
    path = PUBLISHED / "transfer" / f"{task}.runs.jsonl"
    for summary in summaries(path):
        command = commands[summary["optim"], summary["conditions"]]
        assert ids_of(summary, command) == (summary["run_id"], summary["conditions"])

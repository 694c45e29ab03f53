"""The ids of the published runs are those that the same commands have now, so that tuning goes on from them."""

import functools
import json

import pytest
from omegaconf import DictConfig, OmegaConf

from recipes.runs.run_id import conditions, run_id
from tests.recipes.conftest import ROOT, composed

PUBLISHED = ROOT / "reports" / "published"
RECORDS = sorted(PUBLISHED.glob("records/*.runs.jsonl")) + sorted(PUBLISHED.glob("archive/*.runs.jsonl"))
BATCH_SIZES = {  # conf/experiment/batch_size.yaml
    16: "steps=8400 schedule.warmup_steps=800 eval_every=800",
    256: "steps=525 schedule.warmup_steps=50 eval_every=50",
    1024: "steps=131 schedule.warmup_steps=12 eval_every=12",
}
# These were run when position embeddings decayed, too: under a rule of another name, which no run can have now.
OLD_DECAY_RULE = ("t5_glue", "lit_b16_b")


@functools.cache
def base(task: str, optim: str, batch_size: int, steps: int, archived: bool) -> DictConfig:
    overrides = [f"task={task}", f"optim={optim}"]
    if task == "vit_b16" and batch_size in BATCH_SIZES:
        overrides += [f"batch_size={batch_size}", *BATCH_SIZES[batch_size].split()]
    if (task, steps) == ("unet_64", 1500):
        overrides.append("steps=1500")
    if task in OLD_DECAY_RULE or archived:
        overrides.append("decay=matrices")
    if archived:  # by the names of the files, runs with the warm-up of before
        overrides.append("schedule.warmup_steps=100")
    if task == "t5_glue":
        overrides.append("init_from='run:task=t5_pretrain optim=adamw decay=matrices'")
    return composed(*overrides)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.partition(".")[0])
def test_published_ids_follow_from_their_commands(path) -> None:
    archived = path.parent.name == "archive"
    for line in path.read_text().splitlines():
        summary = json.loads(line)["summary"]
        cfg = base(summary["task"], summary["optim"], summary["batch_size"], summary["steps"], archived).copy()
        OmegaConf.set_struct(cfg, False)
        cfg.seed = summary["seed"]
        described = {key: cfg.optim[key] for key in ("name", "_target_", "_partial_")}
        assert summary["optim_class"] == cfg.optim._target_
        settings = {key: summary[key] for key in ("lr", "weight_decay")}
        cfg.optim = described | settings | summary["optim_args"]
        assert (run_id(cfg), conditions(cfg)) == (summary["run_id"], summary["conditions"])

"""What scale=paper says against what the paper printed."""

import csv
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from recipes import protocol
from tests.recipes import conftest

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {
    "vit_s16": 22.05,
    "vit_b16": 86.57,
    "vit_b16_384": 86.86,
    "vit_l16_384": 304.72,
    "mixer_s16": 18.53,
    "mixer_b16": 59.88,
    "resnet50": 25.56,
    "coatnet_1": 42.23,
    "coatnet_3": 166.97,
}


def composed(*overrides: str) -> DictConfig:
    return conftest.composed("scale=paper", *overrides)


@pytest.mark.parametrize(("task", "millions"), PRINTED.items())
def test_models_have_the_papers_parameter_counts(task: str, millions: float) -> None:
    with torch.device("meta"):
        model = protocol.make(composed(f"task={task}")).model()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_the_counts_are_those_of_table_2() -> None:
    lines = (ROOT / "reports/paper/imagenet.csv").read_text().splitlines()
    printed = {float(row["params_millions"]) for row in csv.DictReader(li for li in lines if not li.startswith("#"))}
    assert printed == set(PRINTED.values())


@pytest.mark.parametrize(
    ("overrides", "lr", "weight_decay", "steps"),
    [
        (["task=vit_b16", "optim=lion"], 1e-3, 1.0, 93835),
        (["task=vit_b16", "optim=adamw"], 3e-3, 0.3, 93835),
        (["task=vit_b16", "optim=lion", "augment=randaug_mixup"], 1e-4, 10.0, 93835),
        (["task=vit_b16", "optim=adamw", "augment=randaug_mixup"], 1e-3, 1.0, 93835),
        (["task=vit_s16", "optim=nadam"], 1e-2, 0.1, 93835),
        (["task=resnet50", "optim=lion"], 3e-4, 1.0, 112603),
        (["task=coatnet_3", "optim=adamw"], 1e-3, 0.05, 93835),
    ],
)
def test_hyperparameters_are_those_of_table_12(
    overrides: list[str], lr: float, weight_decay: float, steps: int
) -> None:
    cfg = composed(*overrides)
    assert (cfg.optim.lr, cfg.optim.weight_decay, cfg.steps) == (lr, weight_decay, steps)
    assert cfg.schedule.name == "cosine"
    assert cfg.schedule.warmup_steps == 10_000
    assert cfg.tuned.source.startswith("Lion paper, Table 12")


def test_strong_augmentation_takes_the_place_of_dropout() -> None:
    plain, strong = composed("task=vit_b16"), composed("task=vit_b16", "augment=randaug_mixup")
    assert (plain.model.args.drop_path_rate, plain.model.args.proj_drop_rate, plain.augment.mixup) == (0.1, 0.1, 0.0)
    assert (strong.model.args.drop_path_rate, strong.model.args.proj_drop_rate) == (0.0, 0.0)
    assert (strong.augment.mixup, strong.augment.randaugment) == (0.5, "rand-m15-mmax15-n2-p1")
    coatnet = composed("task=coatnet_1")
    assert (coatnet.augment.mixup, coatnet.augment.randaugment) == (0.8, "rand-m15-mmax15-n2-p1")

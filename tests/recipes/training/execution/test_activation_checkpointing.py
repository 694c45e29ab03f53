"""Blocks that are computed twice: the same bits, and less that is kept."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from recipes.distributed import sharding
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.dry_run.memory_estimate import kept_for_backward
from recipes.runs.record import folder_of, read_metrics
from recipes.training.execution import activation_checkpointing, compilation
from tests.recipes.conftest import TINY, TINY_BERT, composed

DROPOUT = ["model.args.hidden_dropout_prob=0.1", "model.args.attention_probs_dropout_prob=0.1"]


def figures(folder: Path) -> list[tuple[int, str, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["name"], line["value"]) for line in lines if line["split"] != "time"]


@pytest.mark.parametrize("task", [[*TINY, "ema_decay=0.9"], [*TINY_BERT, *DROPOUT]], ids=["vit", "bert"])
def test_a_run_has_the_same_bits(tmp_path: Path, task: list[str]) -> None:
    plain, twice = (
        composed(*task, "log_every=1", f"activation_checkpointing={on}", f"output_dir={tmp_path / on}")
        for on in ("false", "true")
    )
    for cfg in (plain, twice):
        assert experiment.run(cfg) == "completed"
    assert figures(folder_of(twice)) == figures(folder_of(plain))


def test_blocks_keep_their_inputs_alone() -> None:
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, embed_dim=48, num_heads=3, num_classes=10
    )
    batch = {"x": torch.randn(8, 3, 32, 32)}

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(batch["x"]).square().mean()

    before = kept_for_backward(model, loss, batch)[0]
    names = list(model.state_dict())
    activation_checkpointing.apply(sharding.innermost(model))
    assert list(model.state_dict()) == names
    # The input of each block, and what stands before the first and behind the last.
    stream = 8 * 17 * 48 * 4
    assert before - kept_for_backward(model, loss, batch)[0] > 4 * 8 * stream
    assert kept_for_backward(model, loss, batch)[0] < 10 * stream


def test_running_statistics_stay_out_of_it() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    with pytest.raises(ConfigError, match="no block without batch norm"):
        activation_checkpointing.apply(sharding.innermost(model))
    mixed = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    )
    activation_checkpointing.apply(sharding.innermost(mixed))
    assert ["forward" in vars(block) for block in mixed] == [False, True]


def test_a_compiled_run_takes_one_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    cfg = composed(*TINY, "activation_checkpointing=true", "compile=true", f"output_dir={tmp_path}")
    counters.clear()
    assert experiment.run(cfg) == "completed"
    assert counters["stats"]["unique_graphs"] == 1

"""The loss by chunks against torch's cross-entropy in float64, and a run with it against one without."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn import functional as F

from recipes import protocol
from recipes.language import chunked_loss
from recipes.runs import experiment
from recipes.runs.dry_run.memory_estimate import kept_for_backward
from recipes.runs.record import folder_of, read_metrics
from tests.processes import end, start, train
from tests.recipes.conftest import TINY_GPT2, composed

IGNORED = -100


def tensors(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, weights, targets of which some are ignored, and a weight for each loss."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 8, generator=random).to(dtype).requires_grad_()
    weight = torch.randn(50, 8, generator=random).to(dtype).requires_grad_()
    target = torch.randint(50, (23,), generator=random)
    target[::5] = IGNORED
    return hidden, weight, target, torch.rand(23, generator=random)


@pytest.mark.parametrize("rows", [1, 7, 23, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"])
def test_losses_and_gradients_are_cross_entropys(rows: int, dtype: torch.dtype, tolerance: float) -> None:
    hidden, weight, target, factor = tensors(dtype)
    losses = chunked_loss.token_losses(hidden, weight, target, rows, IGNORED)
    assert losses.dtype == torch.float32
    (losses * factor).sum().backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    expected = F.cross_entropy(exact[0] @ exact[1].T, target, ignore_index=IGNORED, reduction="none")
    (expected * factor).sum().backward()
    assert (losses[target == IGNORED] == 0).all()
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)
    for tensor, its_exact in zip((hidden, weight), exact, strict=True):
        assert tensor.grad is not None
        assert its_exact.grad is not None
        assert tensor.grad.dtype == dtype
        scale = its_exact.grad.abs().max().item()
        torch.testing.assert_close(tensor.grad.double(), its_exact.grad, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("setting", "tokens", "vocabulary", "rows"),
    [
        (None, 1024, 256_000, 262),
        (None, 4096, 2048, None),  # 32 MiB of logits: all at once
        (0, 1024, 256_000, None),
        (10, 1024, 5, 10),
        (10, 9, 5, None),
        (10, 1024, None, None),
    ],
)
def test_rows_at_a_time(setting: int | None, tokens: int, vocabulary: int | None, rows: int | None) -> None:
    assert chunked_loss.rows_at_a_time(setting, tokens, vocabulary) == rows


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_less_is_kept_for_the_backward_pass(precision: str) -> None:
    kept = []
    for rows in (0, 8):
        cfg = composed(*TINY_GPT2, f"logit_rows={rows}")
        recipe = protocol.make(cfg)
        torch.manual_seed(0)
        model = recipe.model()

        def loss(model: nn.Module, batch: dict[str, torch.Tensor], recipe: protocol.Recipe = recipe) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return recipe.loss(model, batch)["loss"]

        kept.append(kept_for_backward(model, loss, recipe.blank_batch(16))[0])
    logits = 16 * 32 * 300 * 4
    assert kept[0] - kept[1] > 0.9 * logits


def losses(cfg: DictConfig) -> list[float]:
    lines = read_metrics(folder_of(cfg) / "metrics.jsonl")
    return [line["value"] for line in lines if (line["split"], line["name"]) == ("train", "loss")]


def test_a_run_by_chunks_is_the_run_without_also_in_shards(tmp_path: Path) -> None:
    settings = {"tied": [], "own": ["+model.args.tie_word_embeddings=false", "ema_decay=0.5"]}
    each = {name: [*TINY_GPT2, *more, "log_every=1"] for name, more in settings.items()}
    expected = {}
    for name, run in each.items():
        whole, chunks = (composed(*run, f"logit_rows={n}", f"output_dir={tmp_path / name / str(n)}") for n in (0, 50))
        for cfg in (whole, chunks):
            assert experiment.run(cfg) == "completed"
        expected[name] = losses(whole)
        assert losses(chunks) == pytest.approx(expected[name], rel=1e-5)
    said = tmp_path / "said"
    shards = {
        name: [*run, "logit_rows=50", "shard=true", f"output_dir={tmp_path / 'shards' / name}"]
        for name, run in each.items()
    }
    status = end(start(train, [*shards.values()], said=said), said)
    assert status == [0, 0], Path(f"{said}-0").read_text()
    for name, run in shards.items():
        assert losses(composed(*run)) == pytest.approx(expected[name], rel=1e-5)

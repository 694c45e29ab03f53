"""The loss by chunks against torch's cross-entropy in float64, and a run with it against one without."""

import copy
from pathlib import Path
from typing import Any

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
from tests.recipes.conftest import TINY_BERT, TINY_GPT2, composed
from tests.recipes.language.test_text_to_text import TINY as TINY_T5

IGNORED = -100


@pytest.mark.parametrize("rows", [1, 7, 23, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("ignored", [IGNORED, 3], ids=["no-word", "a-word"])
@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
def test_losses_and_gradients_are_cross_entropys(
    rows: int, dtype: torch.dtype, tolerance: float, ignored: int, has_bias: bool
) -> None:
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(*shape, generator=random).to(dtype) for shape in ((23, 8), (50, 8), (50,))]
    given = [tensor.requires_grad_() for tensor in (given if has_bias else given[:2])]
    target = torch.randint(50, (23,), generator=random)
    target[::5] = ignored
    factor = torch.rand(23, generator=random)
    bias = given[2] if has_bias else None
    losses = chunked_loss.token_losses(given[0], given[1], bias, target, rows, ignored)
    assert losses.dtype == torch.float32
    (losses * factor).sum().backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    expected = F.cross_entropy(F.linear(*exact), target, ignore_index=ignored, reduction="none")
    (expected * factor).sum().backward()
    assert (losses[target == ignored] == 0).all()
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)
    for tensor, its_exact in zip(given, exact, strict=True):
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
        (None, 1 << 16, 32_128, 2088),
    ],
)
def test_rows_at_a_time(setting: int | None, tokens: int, vocabulary: int | None, rows: int | None) -> None:
    assert chunked_loss.rows_at_a_time(setting, tokens, vocabulary) == rows


TASKS = {"gpt2": TINY_GPT2, "bert": TINY_BERT, "t5": [*TINY_T5, "task=t5_pretrain", "model.args.dropout_rate=0"]}


@pytest.mark.parametrize("task", ["bert", "t5"])
def test_losses_and_gradients_of_a_model_are_those_that_transformers_computes_in_float64(task: str) -> None:
    recipe: Any = protocol.make(composed(*TASKS[task], "logit_rows=7"))
    torch.manual_seed(0)
    model = recipe.model().eval()
    exact = copy.deepcopy(model).double()
    batch = {name: torch.randint(4, 300, value.shape) for name, value in recipe.blank_batch(4).items()}
    batch["target"][:, ::3] = recipe.pad if task == "t5" else IGNORED
    recipe.loss(model, batch)["loss"].backward()
    labels = batch["target"].masked_fill(batch["target"] == getattr(recipe, "pad", IGNORED), IGNORED)
    exact(input_ids=batch["input"], labels=labels).loss.backward()
    assert recipe.loss(model, batch)["loss"].item() == pytest.approx(
        exact(input_ids=batch["input"], labels=labels).loss.item(), rel=1e-6
    )
    for (name, parameter), its_exact in zip(model.named_parameters(), exact.parameters(), strict=True):
        if its_exact.grad is None:
            assert parameter.grad is None, name
            continue
        scale = its_exact.grad.abs().max().item()
        torch.testing.assert_close(parameter.grad.double(), its_exact.grad, rtol=0, atol=1e-5 * scale + 1e-9, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", TASKS)
def test_less_is_kept_for_the_backward_pass(task: str, precision: str) -> None:
    kept = []
    for rows in (0, 8):
        cfg = composed(*TASKS[task], f"logit_rows={rows}")
        recipe = protocol.make(cfg)
        torch.manual_seed(0)
        model = recipe.model()

        def loss(model: nn.Module, batch: dict[str, torch.Tensor], recipe: protocol.Recipe = recipe) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return recipe.loss(model, batch)["loss"]

        batch = recipe.blank_batch(16)
        kept.append(kept_for_backward(model, loss, batch)[0])
    logits = batch["target"].numel() * cfg.model.args.vocab_size * 4
    assert kept[0] - kept[1] > 0.9 * logits


def losses(cfg: DictConfig) -> list[float]:
    lines = read_metrics(folder_of(cfg) / "metrics.jsonl")
    return [line["value"] for line in lines if (line["split"], line["name"]) == ("train", "loss")]


def test_a_run_by_chunks_is_the_run_without_also_in_shards(tmp_path: Path) -> None:
    settings = {
        "tied": TINY_GPT2,
        "own": [*TINY_GPT2, "+model.args.tie_word_embeddings=false", "ema_decay=0.5"],
        "masked": TINY_BERT,
        "spans": [*TASKS["t5"], "init_from=null", "data.options.context=24", "+data.options.max_files=60"],
    }
    each = {name: [*more, "log_every=1"] for name, more in settings.items()}
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
        if name in ("own", "spans")
    }
    status = end(start(train, [*shards.values()], said=said), said)
    assert status == [0, 0], Path(f"{said}-0").read_text()
    for name, run in shards.items():
        assert losses(composed(*run)) == pytest.approx(expected[name], rel=1e-5)

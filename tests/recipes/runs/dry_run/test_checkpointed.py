"""The estimate of activation checkpointing against torch's own checkpointing on real and on tracked tensors."""

import timm
import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import checkpoint

from recipes.runs.dry_run import checkpointed
from recipes.runs.dry_run import memory_estimate as tracing


def vit() -> nn.Module:
    args = {"img_size": 32, "patch_size": 4, "depth": 6, "embed_dim": 48, "num_heads": 3, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", **args)


def classify(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def images(n: int, device: str = "cpu") -> dict[str, Tensor]:
    return {"x": torch.zeros(n, 3, 32, 32, device=device), "y": torch.zeros(n, dtype=torch.long, device=device)}


def with_checkpoints(model: nn.Module) -> nn.Module:
    for block in checkpointed.blocks(model):
        forward = block.forward
        block.forward = lambda *args, forward=forward: checkpoint(forward, *args, use_reentrant=True)
    return model


def test_blocks_are_those_that_the_loop_computes_again() -> None:
    assert [type(block).__name__ for block in checkpointed.blocks(vit())] == ["Block"] * 6
    assert checkpointed.blocks(timm.create_model("resnet10t")) == []


def test_what_is_kept_beside_the_block_at_work_is_what_torchs_checkpoints_keep() -> None:
    model = vit()
    total, _ = checkpointed.kept_for_backward(model, classify, images(4))
    kept, _ = tracing.kept_for_backward(with_checkpoints(vit()), classify, images(4))
    one_block, _ = tracing.kept_for_backward(
        model.blocks[2], lambda block, batch: block(batch["x"]).sum(), {"x": torch.zeros(4, 65, 48)}
    )
    of_its_own = one_block - 4 * 65 * 48 * 4  # its input is kept already
    assert total - kept == of_its_own


def test_the_peak_of_a_step_with_checkpoints_is_covered() -> None:
    with torch.device("meta"):
        model = vit().train()
    arguments = (model, classify, lambda n: images(n, "meta"), None)
    plain = tracing.trace_activations(*arguments, fused=False, device="cpu")
    kept = tracing.trace_activations(*arguments, fused=False, device="cpu", keeps=checkpointed.kept_for_backward)
    n = 256
    with tracing._fake("cpu"):
        fake, batch = with_checkpoints(tracing._copy(model, "cpu")), images(n)
        tracker = MemTracker()
        tracker.track_external(fake, *batch.values())
        with tracker:
            classify(fake, batch).backward()
        peaks = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    peak = next(size for kind, size in peaks.items() if str(getattr(kind, "name", kind)) == "Total")
    fixed = 2 * sum(p.nbytes for p in model.parameters())
    assert peak <= fixed + kept.constant + kept.peak(n) <= 1.3 * peak
    assert kept.peak(n) < 0.6 * plain.peak(n)

"""The contrastive loss: against a double sum in float64, and spread over processes.

Run as a program (rank, rendezvous file, result file) this file is one of two processes.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recipes.contrastive.loss import info_nce

ROOT = Path(__file__).resolve().parents[3]
STEPS = 4


def unit(rows: int, width: int, seed: int) -> Tensor:
    made = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(made, dim=1)


def by_hand(image: Tensor, text: Tensor, scale: float) -> float:
    """The mean over pairs of -log of the own one's share, both ways, term by term."""
    total = 0.0
    images, texts = image.double().tolist(), text.double().tolist()

    def logit(a: list[float], b: list[float]) -> float:
        return scale * math.fsum(x * y for x, y in zip(a, b, strict=True))

    for i in range(len(images)):
        among_texts = math.fsum(math.exp(logit(images[i], t)) for t in texts)
        among_images = math.fsum(math.exp(logit(v, texts[i])) for v in images)
        own = math.exp(logit(images[i], texts[i]))
        total -= (math.log(own / among_texts) + math.log(own / among_images)) / 2
    return total / len(images)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 7), scale=st.floats(0.1, 100), seed=st.integers(0, 1000))
def test_it_is_the_mean_share_of_the_own_one_both_ways(rows: int, width: int, scale: float, seed: int) -> None:
    image, text = unit(rows, width, seed), unit(rows, width, seed + 1)
    loss = info_nce(image, text, torch.tensor(scale)).item()
    assert loss == pytest.approx(by_hand(image, text, scale), rel=1e-4, abs=1e-4)


def test_equal_embeddings_leave_the_log_of_the_batch_size() -> None:
    same = torch.ones(8, 4) / 2
    assert info_nce(same, same, torch.tensor(30.0)).item() == pytest.approx(math.log(8), rel=1e-6)


def test_half_precision_is_left_for_the_loss() -> None:
    """With bfloat16's three digits, cosines of 0.999 and 1 times 100 would be the same."""
    image, text = unit(16, 8, 0), unit(16, 8, 1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(image, text, torch.tensor(100.0))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand(image, text, 100.0), rel=1e-5)


class Towers(nn.Module):
    """Two linear maps and a scale; forward runs what replicas wrap."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 5), nn.Linear(4, 5)
        self.log_scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embed = nn.functional.normalize
        return embed(self.image(image), dim=1), embed(self.text(text), dim=1), self.log_scale.exp()


def global_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(12, 6, generator=generator), torch.randn(12, 4, generator=generator)


def on_one_process() -> tuple[list[float], dict[str, Tensor]]:
    """Losses, and the weights after some steps of gradient descent."""
    towers = Towers()
    image, text = global_batch()
    return descend(towers, towers, image, text, STEPS)


def descend(
    model: nn.Module, towers: nn.Module, image: Tensor, text: Tensor, steps: int
) -> tuple[list[float], dict[str, Tensor]]:
    losses = []
    optimizer = torch.optim.SGD(towers.parameters(), lr=0.3)
    for _ in range(steps):
        loss = info_nce(*model(image, text))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: value.detach().clone() for name, value in towers.state_dict().items()}


def process(rank: int, rendezvous: str, result: str) -> None:
    """One of two processes with half of the batch each, its model wrapped as the training loop wraps it."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    towers = Towers()
    replica = nn.parallel.DistributedDataParallel(towers)
    image, text = (whole.chunk(2)[rank] for whole in global_batch())
    torch.save(descend(replica, towers, image, text, STEPS), f"{result}-{rank}")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_weights_of_one(tmp_path: Path) -> None:
    """Replicas average their gradients: mean loss and weights over four steps are those of one with the whole batch."""
    arguments = [str(tmp_path / "rendezvous"), str(tmp_path / "result")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), *arguments], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    results = [torch.load(tmp_path / f"result-{rank}") for rank in range(2)]
    losses, weights = on_one_process()
    mean = [(first + second) / 2 for first, second in zip(results[0][0], results[1][0], strict=True)]
    assert mean == pytest.approx(losses, rel=1e-6)
    assert losses[-1] < losses[0] - 0.1  # it was learnt, so that equal weights say something
    for _, theirs in results:
        for name, value in weights.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    process(int(sys.argv[1]), *sys.argv[2:])

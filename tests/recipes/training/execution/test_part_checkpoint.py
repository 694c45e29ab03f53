"""Checkpoints of parts: read by another number of processes, by a whole model, and passed over where a part lacks."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes.runs import experiment
from recipes.runs.record import folder_of, read_metrics, read_summary
from tests.processes import end, start, train
from tests.recipes.conftest import TINY, composed

RUN = [
    *(text for text in TINY if not text.startswith(("steps=", "checkpoint_every=", "eval_every=", "log_every="))),
    "steps=8",
    "eval_every=4",
    "log_every=1",
    "checkpoint_every=2",
    "ema_decay=0.5",
    "clip_norm=1.0",
]
KILLED = 9


def cut(run: list[str]) -> None:
    """Train until all processes are killed at the beginning of the sixth step."""
    train([run], die_at=5)


def on(function: Callable[..., None], run: list[str], count: int, said: Path) -> tuple[list[int], str]:
    """Exit statuses of so many processes, and what they printed."""
    status = end(start(function, [run] if function is train else run, count=count, said=said), said)
    return status, "".join(Path(f"{said}-{rank}").read_text() for rank in range(count))


def figures(folder: Path) -> dict[tuple[int, str, str], float]:
    lines = read_metrics(folder / "metrics.jsonl")
    return {(li["step"], li["split"], li["name"]): li["value"] for li in lines if li["split"] != "time"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (newest,) = (folder / "checkpoint").glob("step-*")
    return load_file(newest / "average.safetensors")


def assert_same(folder: Path, expected: Path) -> None:
    """Whatever the order of sums over processes was."""
    assert figures(folder) == pytest.approx(figures(expected), rel=1e-4, abs=1e-5)
    whole = weights(expected)
    for name, value in weights(folder).items():
        if name.endswith("qkv.bias"):
            continue  # attention does not depend on the keys' bias: its gradient is rounding, and Lion takes its sign
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture(scope="module", params=["adamw", pytest.param("lion", marks=pytest.mark.slow)])
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path, Path]:
    """A run, the record of it done by one process, and what two with shards had come to when they were killed."""
    place = tmp_path_factory.mktemp("parts")
    run = [*RUN, f"optim={request.param}"]
    one = composed(*run, f"output_dir={place / 'one'}")
    assert experiment.run(one) == "completed"
    status, printed = on(cut, [*run, "shard=true", f"output_dir={place / 'cut'}"], 2, place / "said")
    assert KILLED in status, printed
    newest = max(next((place / "cut").glob("*/*/*")).glob("checkpoint/step-*"))
    assert newest.name == "step-00000004"
    assert len(list((newest / "parts").glob("*.distcp"))) == 2  # each process wrote its own
    return run, folder_of(one), place / "cut"


@pytest.mark.parametrize(
    ("count", "settings"),
    [pytest.param(4, ["shard=true", "shard_size=2"], marks=pytest.mark.slow), (2, []), (1, [])],
    ids=["four-in-two-copies", "replicas", "one-process"],
)
def test_another_number_of_processes_goes_on(
    begun: tuple[list[str], Path, Path], tmp_path: Path, count: int, settings: list[str]
) -> None:
    run, expected, killed = begun
    shutil.copytree(killed, tmp_path / "again")
    status, printed = on(train, [*run, *settings, f"output_dir={tmp_path / 'again'}"], count, tmp_path / "said")
    assert status == [0] * count, printed
    assert printed.count("resuming from step 4") == 1, printed
    assert_same(next((tmp_path / "again").glob("*/*/*")), expected)


def test_a_checkpoint_that_lacks_one_processs_part_is_passed_over(
    begun: tuple[list[str], Path, Path], tmp_path: Path
) -> None:
    run, expected, killed = begun
    shutil.copytree(killed, tmp_path / "again")
    next((tmp_path / "again").rglob("step-00000004/parts/__1_0.distcp")).unlink()
    status, printed = on(train, [*run, "shard=true", f"output_dir={tmp_path / 'again'}"], 2, tmp_path / "said")
    assert status == [0, 0], printed
    assert "step-00000004 passed over: parts/__1_0.distcp is missing or truncated" in printed
    assert "resuming from step 2" in printed
    assert_same(next((tmp_path / "again").glob("*/*/*")), expected)


def train_blind(run: list[str], die_at: int | None = None) -> None:
    """As on two machines without a shared disk: the second process sees nothing of what the first one has written."""
    exists = Path.exists
    if os.environ["RANK"] != "0":
        Path.exists = lambda path, **named: path.name not in (".seen", ".metadata") and exists(path, **named)
    train([run], die_at=die_at)


def cut_blind(run: list[str]) -> None:
    train_blind(run, die_at=5)


def test_a_checkpoint_that_one_process_does_not_see_is_named(
    begun: tuple[list[str], Path, Path], tmp_path: Path
) -> None:
    run, _, killed = begun
    shutil.copytree(killed, tmp_path / "again")
    status, printed = on(train_blind, [*run, "shard=true", f"output_dir={tmp_path / 'again'}"], 2, tmp_path / "said")
    assert status == [1, 1]
    assert "is read from a disk that all processes share" in printed


def test_where_no_disk_is_shared_the_first_process_writes_the_whole(tmp_path: Path) -> None:
    run = [*RUN, "shard=true", f"output_dir={tmp_path / 'apart'}"]
    status, printed = on(cut_blind, run, 2, tmp_path / "said")
    assert KILLED in status, printed
    assert not list(tmp_path.rglob("*.distcp"))
    status, printed = on(train_blind, run, 2, tmp_path / "said")
    assert status == [0, 0], printed
    assert "resuming from step 4" in printed
    summary = read_summary(next((tmp_path / "apart").glob("*/*/*")))
    assert summary is not None
    assert summary["status"] == "completed"

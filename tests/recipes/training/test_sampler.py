import multiprocessing
import os
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.data import listing
from recipes.distributed import device_slots
from recipes.training import sampler
from recipes.training.sampler import EvalBatches, TrainBatches, draw, loader, permutation, seed_all


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 200))
def test_an_epoch_is_a_permutation_of_seed_and_epoch(seed: int, epoch: int, length: int) -> None:
    order = permutation(seed, epoch, length)
    assert sorted(order) == list(range(length))
    assert np.array_equal(order, permutation(seed, epoch, length))


def test_seeds_and_epochs_differ() -> None:
    orders = {tuple(permutation(seed, epoch, 50)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@given(length=st.integers(1, 40), batch=st.integers(1, 30), steps=st.integers(1, 12), first=st.integers(0, 12))
def test_a_resumed_run_sees_what_the_whole_one_would(length: int, batch: int, steps: int, first: int) -> None:
    whole = list(TrainBatches(length, seed=3, batch_size=batch, steps=steps))
    rest = TrainBatches(length, seed=3, batch_size=batch, steps=steps, first_step=min(first, steps))
    assert list(rest) == whole[min(first, steps) :]
    assert len(rest) == len(list(rest))


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_processes_and_micro_batches_share_the_same_global_batch(length: int, each: int, parts: int, n: int) -> None:
    batch = each * parts * n
    whole = list(TrainBatches(length, seed=1, batch_size=batch, steps=3))
    shares = [
        list(TrainBatches(length, seed=1, batch_size=batch, steps=3, accumulate=parts, rank=rank, processes=n))
        for rank in range(n)
    ]
    for step in range(3):
        together = [key for part in range(parts) for rank in range(n) for key in shares[rank][step * parts + part]]
        assert together == whole[step]


@given(length=st.integers(1, 60), batch=st.integers(1, 20), processes=st.integers(1, 4))
def test_evaluation_sees_each_example_once_and_in_order(length: int, batch: int, processes: int) -> None:
    shares = [list(EvalBatches(length, batch_size=batch, rank=r, processes=processes)) for r in range(processes)]
    assert len({tuple(len(b) for b in share) for share in shares}) == 1  # sharded models step together
    gathered = [key for batches in zip(*shares, strict=True) for part in batches for key in part]
    assert [index for _, index in gathered][:length] == list(range(length))
    assert all(index < length for _, index in gathered)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_all_generators_follow_the_key() -> None:
    seed_all(1, 2, 3)
    first = drawn()
    seed_all(1, 2, 3)
    assert drawn() == first
    seed_all(1, 3, 2)
    assert not set(drawn()) & set(first)


def test_the_numbers_are_those_of_torchs_own_seeding() -> None:
    seed_all(5, 6)
    expected = torch.rand(3)
    torch.manual_seed(torch.initial_seed())
    assert torch.equal(torch.rand(3), expected)


def test_a_draw_leaves_the_global_generators_alone() -> None:
    seed_all(7)
    expected = [drawn(), drawn()]
    seed_all(7)
    got = [drawn()]
    one, same, other = (draw(lambda _: drawn(), None, 5, position) for position in (1, 1, 2))
    got.append(drawn())
    assert got == expected
    assert one == same != other


def test_a_draw_leaves_the_devices_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else dropout on a device would hang on whether loader processes or the training process prepare a batch."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seed_all(7)
    assert len(seeded) == 1
    draw(lambda _: drawn(), None, 5)
    assert len(seeded) == 1


def test_a_draw_that_fails_leaves_them_alone_too() -> None:
    seed_all(7)
    expected = drawn()
    seed_all(7)
    with pytest.raises(ZeroDivisionError):
        draw(lambda _: 1 / 0, None, 1)
    assert drawn() == expected


class Noisy:
    """Examples whose content is random, drawn from the position alone."""

    def __len__(self) -> int:
        return 10

    def __getitems__(self, keys):
        return {"x": torch.stack([draw(lambda i: torch.rand(2) + i, index, 0, at) for at, index in keys])}

    def fingerprint(self) -> str:
        return "noisy"


def test_loader_processes_prepare_the_same_batches() -> None:
    batches = TrainBatches(10, seed=0, batch_size=4, steps=5)
    alone, helped = (list(loader(Noisy(), batches, workers, pin=False)) for workers in (0, 2))
    assert len(alone) == 5
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one["x"], other["x"])


@pytest.mark.parametrize(
    ("wanted", "cores", "processes", "found"),
    [(8, 2, 1, 1), (8, 16, 1, 8), (8, 16, 4, 3), (0, 2, 1, 0), (1, 1, 1, 1)],
)
def test_no_more_workers_than_cores(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: int,
    cores: int,
    processes: int,
    found: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    listing._say.cache_clear()
    assert sampler.workers(wanted) == found
    monkeypatch.delenv("LOCAL_WORLD_SIZE")  # the processes of hydra/launcher=parallel share the cores, too
    monkeypatch.setenv(device_slots.WORKERS, str(processes))
    assert sampler.workers(wanted) == found
    said = capsys.readouterr().out
    assert said.startswith(f"data.workers={wanted}: {found} here, of {cores} cores") == (found < wanted)


def test_loader_processes_are_forked_where_python_would_not() -> None:
    """From Python 3.14 on it pickles what they get, which a local class cannot be."""

    class Local:
        def __len__(self) -> int:
            return 4

        def __getitems__(self, keys):
            return {"x": torch.tensor([index for _, index in keys])}

    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        made = loader(Local(), EvalBatches(4, batch_size=2), workers=1, pin=False)
        assert [batch["x"].tolist() for batch in made] == [[0, 1], [2, 3]]
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_a_device_that_is_not_in_use_is_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would record the call stack for it at every step of a run on the CPU."""
    seeded: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_device_module", lambda: torch.cuda)
    seed_all(7)
    assert not seeded
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seed_all(7)
    assert len(seeded) == 1


class Pids:
    """Examples that say which process has made a batch."""

    def __len__(self) -> int:
        return 4

    def __getitems__(self, keys):
        return {"pid": torch.full((len(keys),), os.getpid())}

    def fingerprint(self) -> str:
        return "pids"


def test_the_processes_of_an_evaluation_stay_for_the_next() -> None:
    evaluation = loader(Pids(), EvalBatches(4, batch_size=2), 1, False)
    training = loader(Pids(), TrainBatches(4, seed=0, batch_size=2, steps=2), 1, False)

    def pids(batches) -> set[int]:
        return {*torch.cat([batch["pid"] for batch in batches]).tolist()}

    assert pids(evaluation) == pids(evaluation)
    assert pids(training) != pids(training)
    assert os.getpid() not in pids(evaluation)

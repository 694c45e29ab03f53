import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.optim.swa_utils import AveragedModel

from recipes.errors import ConfigError
from recipes.training import checkpoint
from recipes.training.checkpoint import Checkpoint


def made(step: int, size: int = 8) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(size, size, generator=generator)
    return Checkpoint(
        step=step,
        model={"weight": weight, "tied": weight, "count": torch.tensor(step)},
        average={"weight": weight / 2},
        optimizer={"state": {0: {"exp_avg": weight.bfloat16()}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        state={"best": 0.5, "final": None},
    )


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        one.step == other.step
        and all(torch.equal(one.model[name], other.model[name]) for name in one.model)
        and one.average is not None
        and other.average is not None
        and torch.equal(one.average["weight"], other.average["weight"])
        and torch.equal(one.optimizer["state"][0]["exp_avg"], other.optimizer["state"][0]["exp_avg"])
        and one.optimizer["state"][0]["exp_avg"].dtype == other.optimizer["state"][0]["exp_avg"].dtype
        and one.state == other.state
    )


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "run", made(7))
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert loaded is not None
    assert same(loaded, made(7))


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "absent", "run") is None


def test_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        checkpoint.save(tmp_path, "run", made(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["model.safetensors", "average.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, capsys, name: str, damage) -> None:
    checkpoint.save(tmp_path, "run", made(5))
    checkpoint.save(tmp_path, "run", made(10))
    damage(tmp_path / "step-00000010" / name)
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert loaded is not None
    assert same(loaded, made(5))
    (line,) = capsys.readouterr().err.splitlines()
    assert "step-00000010 passed over" in line


@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"{}", b"\xff", b'{"run_id": "run"}'])
def test_one_whose_state_is_garbage_is_passed_over(tmp_path: Path, capsys, content: bytes) -> None:
    checkpoint.save(tmp_path, "run", made(5))
    checkpoint.save(tmp_path, "run", made(10))
    (tmp_path / "step-00000010" / "state.json").write_bytes(content)
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert loaded is not None
    assert same(loaded, made(5))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("old", ["10", "12"])
def test_a_step_that_is_not_the_written_one_is_no_step_to_go_on_from(tmp_path: Path, old: str) -> None:
    """A damaged digit is still JSON: only a checksum tells."""
    checkpoint.save(tmp_path, "run", made(10))
    file = tmp_path / "step-00000010" / "state.json"
    changed = file.read_text().replace('"step": 10', f'"step": {old}')
    file.write_text(changed)
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert (loaded is None) == (old != "10")


def test_damaged_ones_do_not_push_out_those_written_after_them(tmp_path: Path) -> None:
    for step in (20, 25):
        checkpoint.save(tmp_path, "run", made(step))
        truncate(tmp_path / f"step-{step:08d}" / "state.json")
    assert checkpoint.load_newest(tmp_path, "run") is None
    for step in (5, 10, 15):
        checkpoint.save(tmp_path, "run", made(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "one", made(5))
    with pytest.raises(ConfigError, match="belongs to run one, not to other"):
        checkpoint.load_newest(tmp_path, "other")


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "run", made(5))
    half = tmp_path / ".step-00000010.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert loaded is not None
    assert loaded.step == 5
    assert not half.exists()


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "run", made(5))
    checkpoint.save(tmp_path, "run", made(5))
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert loaded is not None
    assert same(loaded, made(5))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_ends_in_one_line_and_keeps_the_checkpoint_before(small_disk: Path) -> None:
    checkpoint.save(small_disk, "run", made(5))
    with pytest.raises(ConfigError, match=r"step 10 could not be written.*no space left") as error:
        checkpoint.save(small_disk, "run", made(10, size=500))
    assert "\n" not in str(error.value)
    assert [path.name for path in small_disk.iterdir()] == ["step-00000005"]
    loaded = checkpoint.load_newest(small_disk, "run")
    assert loaded is not None
    assert same(loaded, made(5))


def test_a_disk_that_is_full_when_the_optimizers_state_is_written(small_disk: Path) -> None:
    checkpoint.save(small_disk, "run", made(5))
    large = made(10)
    large.optimizer["state"][0]["exp_avg"] = torch.zeros(100_000)
    with pytest.raises(ConfigError, match=r"step 10 could not be written.*no space left"):
        checkpoint.save(small_disk, "run", large)
    assert [path.name for path in small_disk.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)"'),
    ],
)
@pytest.mark.parametrize("failing", ["save_file", "torch.save"])
def test_a_disk_that_fills_up_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: Exception
) -> None:
    checkpoint.save(tmp_path, "run", made(5))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(*((checkpoint, "save_file") if failing == "save_file" else (torch, "save")), refuse)
    with pytest.raises(ConfigError, match="no space left"):
        checkpoint.save(tmp_path, "run", made(10))
    monkeypatch.undo()
    loaded = checkpoint.load_newest(tmp_path, "run")
    assert loaded is not None
    assert same(loaded, made(5))


def test_a_finished_run_keeps_only_its_weights(tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint.save(tmp_path / "checkpoint", "run", made(step))
    checkpoint.trim(tmp_path / "checkpoint")
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-00000010"]
    names = {path.name for path in (tmp_path / "checkpoint" / "step-00000010").iterdir()}
    assert names == {"model.safetensors", "average.safetensors", "state.json"}
    # Another run starts from the average, where there is one.
    assert torch.equal(checkpoint.load_weights(tmp_path)["weight"], made(10).model["weight"] / 2)


def test_an_average_is_taken_under_the_models_own_names(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    average = AveragedModel(model)
    average.update_parameters(model)
    with torch.no_grad():
        model.weight += 1
    average.update_parameters(model)
    whole = Checkpoint(5, model.state_dict(), average.state_dict(), {}, {})
    checkpoint.save(tmp_path / "checkpoint", "run", whole)
    another = torch.nn.Linear(3, 2)
    another.load_state_dict(checkpoint.load_weights(tmp_path))
    torch.testing.assert_close(another.weight, model.weight - 0.5)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        checkpoint.load_weights(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        checkpoint.load_weights(tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_text("no weights")
    with pytest.raises(ConfigError, match="not a readable safetensors file"):
        checkpoint.load_weights(tmp_path / "bad.safetensors")


def test_nothing_but_plain_values_is_pickled(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "run", made(5))
    torch.load(tmp_path / "step-00000005" / "optimizer.pt", weights_only=True)
    json.loads((tmp_path / "step-00000005" / "state.json").read_text())


def test_a_state_from_a_cuda_device_is_read_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    checkpoint.save(tmp_path, "run", made(5))
    monkeypatch.undo()
    read = checkpoint.load_newest(tmp_path, "run")
    assert read is not None
    assert same(read, made(5))

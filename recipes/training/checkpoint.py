"""Checkpoints: written atomically, verified when read; the newest two are kept during a run.

checkpoint/step-00000200/
    model.safetensors     weights and buffers
    average.safetensors   their Polyak average, where there is one
    optimizer.pt          the optimizer's state, loadable with weights_only=True
    state.json            run id, step, seconds, every file's size and checksum, and its own
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.api import CheckpointException

from recipes.errors import ConfigError
from recipes.files import sync_folder
from recipes.training import pretrained_weights

KEEP = 2
PARTS = "parts"  # the folder of parts that several processes wrote (execution/part_checkpoint.py)


@dataclass
class Checkpoint:
    """What a run needs to continue."""

    step: int
    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    state: dict[str, Any]  # plain values: seconds by part, best metric
    parts: str | None = None  # the folder that holds model, average and optimizer instead, written by several processes


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _named(folder: Path) -> list[Path]:
    """The finished checkpoints in a folder, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def save(folder: Path, run_id: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, rename it, and delete all but the newest two.

    Raises:
        ConfigError: the disk is full or cannot be written; the earlier checkpoints are untouched.
    """
    temporary = begin(folder, checkpoint.step)
    with writing(folder, checkpoint.step):
        save_file(_storable(checkpoint.model), temporary / "model.safetensors")
        if checkpoint.average is not None:
            save_file(_storable(checkpoint.average), temporary / "average.safetensors")
        with (temporary / "optimizer.pt").open("wb") as file:  # given a path, torch does not report a full disk
            torch.save(checkpoint.optimizer, file)
        files = {path.name: secured(path) for path in sorted(temporary.iterdir())}
    seal(folder, run_id, checkpoint.step, checkpoint.state, files)


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _temporary(folder: Path, step: int) -> Path:
    return folder / f".{_place(folder, step).name}.tmp"


@contextlib.contextmanager
def writing(folder: Path, step: int) -> Iterator[None]:
    """Turn errors of writing a checkpoint into one line, and remove what was written.

    Raises:
        ConfigError: the disk is full or cannot be written; the earlier checkpoints are untouched.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:  # each may mean a full disk
        shutil.rmtree(_temporary(folder, step), ignore_errors=True)
        reason = "no space left on the disk" if _is_full(error) else str(error).splitlines()[0]
        raise ConfigError(
            f"checkpoint at step {step} could not be written to {folder} ({reason}); "
            "the one before is kept: make room and start the same command again"
        ) from None


def begin(folder: Path, step: int) -> Path:
    """Make an empty folder with a temporary name for a checkpoint's files."""
    temporary = _temporary(folder, step)
    with writing(folder, step):
        shutil.rmtree(temporary, ignore_errors=True)
        folder.mkdir(exist_ok=True)  # in the run's folder, which may have been deleted
        temporary.mkdir()
    return temporary


def secured(path: Path) -> dict[str, int]:
    """Flush a file to the disk, and return its size and checksum."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "crc32": checksum(path)}


def seal(folder: Path, run_id: str, step: int, state: dict[str, Any], files: dict[str, dict[str, int]]) -> None:
    """Write a checkpoint's state.json, rename its folder, and delete all but the newest two checkpoints."""
    final, temporary = _place(folder, step), _temporary(folder, step)
    with writing(folder, step):
        described = {"run_id": run_id, "step": step, "state": state, "files": files}
        with (temporary / "state.json").open("w") as text:
            json.dump({"crc32": _seal(described), **described}, text, indent=2)
            text.flush()
            os.fsync(text.fileno())
        if final.exists():  # the same step again, after a resume from an earlier checkpoint
            shutil.rmtree(final)
        temporary.rename(final)
        sync_folder(folder)
    checkpoints = _named(folder)
    place = checkpoints.index(final)  # newer ones were damaged and skipped at the resume
    for old in [*checkpoints[:place], *checkpoints[place + KEEP :]]:
        shutil.rmtree(old, ignore_errors=True)


def check_seen(parts: Path) -> None:
    """Refuse a checkpoint of parts that this process cannot read.

    Raises:
        ConfigError: it is not there.
    """
    if not (parts / ".metadata").exists():
        raise ConfigError(f"{parts} is not there: a checkpoint of shards is read from a disk that all processes share")


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk caused an error; torch's error about its archive hides the operating system's."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        error = error.__context__
    return False


def _seal(state: dict[str, Any]) -> int:
    """CRC-32 of plain values, independent of their layout as JSON."""
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())


def load_newest(folder: Path, run_id: str) -> Checkpoint | None:
    """The newest intact checkpoint, or None.

    A damaged checkpoint is skipped with a message, and the one before is used.

    Raises:
        ConfigError: the folder holds another run's checkpoint.
    """
    if folder.exists():
        for leftover in folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
    for path in _named(folder):
        try:
            return _load(path, run_id)
        except _TornError as error:
            print(f"checkpoint {path} passed over: {error}", file=sys.stderr)
    return None


class _TornError(Exception):
    """A checkpoint's files differ from what was written."""


def _load(path: Path, run_id: str) -> Checkpoint:
    try:
        state = json.loads((path / "state.json").read_text())
        if state.pop("crc32") != _seal(state):
            raise ValueError("it does not match its checksum")
        owner, step, files = state["run_id"], state["step"], state["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _TornError(f"state.json cannot be read ({error})") from None
    if owner != run_id:
        raise ConfigError(f"{path} belongs to run {owner}, not to {run_id}; remove it or choose another output_dir=")
    for name, expected in files.items():
        file = path / name
        if not file.exists() or file.stat().st_size != expected["bytes"]:
            raise _TornError(f"{name} is missing or truncated")
        if checksum(file) != expected["crc32"]:
            raise _TornError(f"{name} does not match its checksum")
    if f"{PARTS}/.metadata" in files:
        return Checkpoint(step=step, model={}, average=None, optimizer={}, state=state["state"], parts=str(path))
    average = path / "average.safetensors"
    return Checkpoint(
        step=step,
        model=load_file(path / "model.safetensors"),
        average=load_file(average) if average.name in files else None,
        optimizer=_load_optimizer(path / "optimizer.pt") if "optimizer.pt" in files else {},
        state=state["state"],
    )


def _load_optimizer(path: Path) -> dict[str, Any]:
    """Read an optimizer's state onto the CPU: the run may go on on another device than the one that wrote it."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def trim(folder: Path) -> None:
    """Keep only the weights of the newest checkpoint; a finished run needs no more."""
    for old in _named(folder)[1:]:
        shutil.rmtree(old, ignore_errors=True)
    for newest in _named(folder)[:1]:
        (newest / "optimizer.pt").unlink(missing_ok=True)


def load_weights(source: str | Path) -> dict[str, torch.Tensor]:
    """Weights to start from: a run's folder (its Polyak average where it has one) or a .safetensors file.

    A folder that transformers saved, or a model's name on the Hugging Face hub, may be named too.

    Raises:
        ConfigError: there are none, or the file is damaged.
    """
    path = Path(source)
    if path.is_dir():
        files = [
            file
            for folder in [*_named(path / "checkpoint"), path]
            for name in ("average.safetensors", "model.safetensors")
            if (file := folder / name).exists()
        ]
        if not files:
            if (saved := pretrained_weights.in_folder(path)) is not None:
                return saved
            raise ConfigError(f"init_from={source} holds no checkpoint; expected a run's folder with checkpoint/ in it")
        path = files[0]
    if not path.exists():
        return pretrained_weights.from_hub(str(source))
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:
        raise ConfigError(f"init_from={source}: {path} is not a readable safetensors file ({error})") from None
    if "n_averaged" in weights:  # torch's AveragedModel adds a prefix to the model's names
        weights = {name.removeprefix("module."): value for name, value in weights.items() if name != "n_averaged"}
    return weights


def _storable(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors requires them: contiguous, on the CPU, without shared memory (tied weights are copied)."""
    seen: set[int] = set()
    storable = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        storable[name] = tensor
    return storable

"""Write files atomically, write standard JSON, and check names of files."""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recipes.errors import BUSY, ConfigError

LONGEST_NAME = 200  # bytes: file systems end at 255, and a suffix must fit


def safe_name(name: Any, what: str = "name") -> str:
    """Return `name` if it is a valid name of a file or folder.

    Args:
        name: not empty, without separators and control characters, and neither hidden nor `..`.
        what: the setting or key that it was given as, for the message.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{what} is {str(name)[:40]!r}, which is not a name; give it a text that is not empty")
    encodable = not any("\ud800" <= character <= "\udfff" for character in name)
    if (
        name.startswith(".")
        or any(character in "/\\" or ord(character) < 32 or ord(character) == 127 for character in name)
        or not encodable
        or len(name.encode()) > LONGEST_NAME
    ):
        raise ConfigError(
            f"{what} is {name[:40]!r}, which cannot name a folder: allowed are up to {LONGEST_NAME} bytes without "
            "/, \\ and control characters, not beginning with a dot"
        )
    return name


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, made if need be, that one process at a time writes to.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder} {BUSY}; wait for it or stop it, or choose another folder") from None
        yield


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write to a temporary file in the same folder, renamed to `path` when the block has succeeded."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; numbers that are not finite are written as `finite` says."""
    write_text(path, json.dumps(finite(value), indent=2, sort_keys=True, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Return a value for JSON: null replaces nan and the infinities, which JSON lacks.

    In an object, the key `nonfinite` then names them: {"final": null, "nonfinite": {"final": "nan"}}.
    """
    if isinstance(value, dict):
        named = {key: str(float(item)) for key, item in value.items() if _not_finite(item)}
        plain = {key: finite(item) for key, item in value.items()}
        return plain | {"nonfinite": named} if named else plain
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if _not_finite(value) else value


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """Write uint8 [H, W, C], C of 1 or 3, as PNG."""
    from PIL import Image

    with whole(path) as temporary:
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")
    return path

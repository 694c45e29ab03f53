"""The cache of prepared data: `$LION_BENCH_CACHE`, or ~/.cache/lion-bench."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from recipes.errors import ConfigError

VARIABLE = "LION_BENCH_CACHE"


def folder(kind: str) -> Path:
    """The folder of one kind of prepared data, created if it is missing.

    Raises:
        ConfigError: it cannot be made.
    """
    path = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "lion-bench").expanduser() / kind
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {path} cannot be made ({error.strerror}); name another in the environment: {VARIABLE}="
        ) from None
    return path


def key(*parts: object) -> str:
    """The first 16 hex digits of a SHA-256 over the representation of some plain values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process prepare `path` while others wait for it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire()
    except OSError as error:
        raise ConfigError(
            f"the cache folder {path.parent} cannot be written ({error.strerror}); "
            f"name another in the environment: {VARIABLE}="
        ) from None
    try:
        yield
    finally:
        lock.release()

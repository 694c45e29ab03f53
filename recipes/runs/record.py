"""The run record: what a run was, what it measured and how it ended. Reports read nothing else.

outputs/<task>/<optim>/<run id>/
    config.yaml      the resolved config
    metrics.jsonl    a line a measurement
    summary.json     status, figures, versions
    checkpoint/      weights and state
"""

import fcntl
import json
import math
import os
import shutil
import weakref
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from omegaconf import DictConfig, OmegaConf

from recipes.errors import BUSY, ConfigError
from recipes.files import finite, write_json, write_text
from recipes.metrics_file import read_metrics
from recipes.runs.run_id import run_id

FINISHED = ("completed", "diverged")
NOT_WHOLE = "its summary is not whole"
TEXTS = ("run_id", "task", "optim", "metric", "goal")  # required in the summary of a finished run


def folder_of(cfg: DictConfig) -> Path:
    """The folder of a run's record."""
    return Path(cfg.output_dir) / cfg.task.name / cfg.optim.name / run_id(cfg)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a record; None if it is missing or unreadable.

    A summary that says its run has finished but lacks a key of a finished run is returned as interrupted.
    """
    try:
        value = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if value.get("status") in FINISHED and not _is_whole(value):
        return value | {"status": "interrupted", "cause": NOT_WHOLE}
    return value


def _is_whole(summary: dict[str, Any]) -> bool:
    final = summary.get("final")
    has_final = isinstance(final, int | float) and math.isfinite(final)
    return all(isinstance(summary.get(key), str) for key in TEXTS) and (has_final or summary["status"] != "completed")


_open: "weakref.WeakSet[Record]" = weakref.WeakSet()


def _unlock_forks() -> None:
    """Loader processes outlive a killed run by seconds: they must not keep its lock from the next run."""
    for record in _open:
        record._lock.close()


os.register_at_fork(after_in_child=_unlock_forks)


class Record:
    """One run's record, open for writing by one process.

    Args:
        folder: of the record; its name is the run id.
        cfg: the run's config, which is written to it.

    `created` is when the record was begun. It is kept when the run continues from a checkpoint; a run that starts again
    from its first step gets a new time, and so a new id in Weights & Biases. `fresh` says that there was no record.

    Raises:
        ConfigError: the folder cannot be written, or another process is writing it now.
    """

    def __init__(self, folder: Path, cfg: DictConfig) -> None:
        self.folder = folder
        self.run_id = self.folder.name
        self.fresh = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / ".lock").open("w")
            _open.add(self)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{self.folder} {BUSY}; wait for it or stop it") from None
        except OSError as error:
            raise ConfigError(
                f"output_dir={cfg.output_dir}: cannot write {self.folder} ({error.strerror}); "
                "choose another with output_dir="
            ) from None
        for torn in self.folder.glob(".*.tmp"):  # left by a killed process while it wrote a file
            torn.unlink(missing_ok=True)
        earlier = (read_summary(self.folder) or {}).get("created")
        resumable = ("optimizer.pt", "parts/.metadata")  # of one process, and of several
        goes_on = any(any(self.folder.glob(f"checkpoint/step-*/{name}")) for name in resumable)
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self.created: str = earlier if goes_on and isinstance(earlier, str) else now
        write_text(self.folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        self._metrics: IO[str] | None = None

    def begin(self, step: int, redone: Collection[str] = ()) -> list[dict[str, Any]]:
        """Open the measurements: keep those up to `step`, drop those that a killed run wrote after its last checkpoint.

        Args:
            step: from which the run continues.
            redone: splits that are only measured at the end, whose earlier values are dropped.

        Returns:
            The measurements kept, in order.
        """
        path = self.folder / "metrics.jsonl"
        lines = read_metrics(path) if step else []
        kept = [line for line in lines if line["step"] <= step and line["split"] not in redone]
        write_text(path, "".join(map(_line, kept)))
        self._metrics = path.open("a", encoding="utf-8")
        return kept

    def is_there(self) -> bool:
        """Whether the record is still where it was opened, and was not deleted, moved or replaced."""
        try:
            return os.path.samestat(os.fstat(self._lock.fileno()), (self.folder / ".lock").stat()) and (
                self._metrics is None
                or os.path.samestat(os.fstat(self._metrics.fileno()), (self.folder / "metrics.jsonl").stat())
            )
        except FileNotFoundError:
            return False

    def secure(self) -> None:
        """Bring the measurements to the disk: a checkpoint must not survive a power cut without those before it.

        Raises:
            ConfigError: the record was deleted, moved or replaced.
        """
        self.check()
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())

    def check(self) -> None:
        """Refuse to write to a record that was deleted or moved.

        Raises:
            ConfigError: it was deleted, moved or replaced.
        """
        if not self.is_there():
            raise ConfigError(
                f"{self.folder} was deleted or moved while this run was writing it, so the run has ended; "
                "the same command starts it again"
            )

    def log(self, step: int, split: str, values: dict[str, float], seconds: float) -> list[dict[str, Any]]:
        """Append measurements, which survive the end of this process; `secure` brings them to the disk.

        Raises:
            ConfigError: the record was deleted, moved or replaced.
        """
        assert self._metrics is not None, "begin() comes first"
        self.check()
        lines = [
            {"step": step, "split": split, "name": name, "value": value, "seconds": round(seconds, 3)}
            for name, value in values.items()
        ]
        self._metrics.write("".join(map(_line, lines)))
        self._metrics.flush()
        return lines

    def summarise(self, summary: dict[str, Any]) -> None:
        """Write the summary, whole or not at all.

        Raises:
            ConfigError: the record was deleted, moved or replaced.
        """
        self.check()
        write_json(self.folder / "summary.json", {"run_id": self.run_id, "created": self.created, **summary})

    def discard(self) -> None:
        """Close the record, and remove it if this object made it and nothing has been measured."""
        begun = read_metrics(self.folder / "metrics.jsonl") or (self.folder / "checkpoint").exists()
        is_ours = self.fresh and self.is_there()
        self.close()
        if begun or not is_ours:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        for parent in list(self.folder.parents)[:2]:  # of the optimizer and the task, where nothing else is there
            with suppress(OSError):
                parent.rmdir()

    def close(self) -> None:
        """Close the files and let others write the record."""
        if self._metrics is not None:
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
            self._metrics.close()
            self._metrics = None
        self._lock.close()


def _line(measured: dict[str, Any]) -> str:
    """A measurement as a line of JSON, which has no nan: {"value": null, "nonfinite": "nan"}."""
    plain = finite(measured)
    if plain["value"] is None and isinstance(named := plain.get("nonfinite"), dict):
        plain["nonfinite"] = named["value"]
    return json.dumps(plain, allow_nan=False) + "\n"

"""Log a run to its record and to the mirror of the record."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from recipes.files import write_picture
from recipes.protocol import Recipe
from recipes.runs import summary, tracker
from recipes.runs.record import Record
from recipes.runs.tracker import Tracker
from recipes.training import checkpoint
from recipes.training.run_state import RunState


@dataclass
class RecordLogger:
    """Writes to the record and its mirror on the first process; the others do not call `open` and log nothing."""

    record: Record | None = None
    tracker: Tracker | None = None
    description: dict[str, Any] = field(default_factory=dict)

    def open(self, folder: Path, cfg: DictConfig, recipe: Recipe) -> None:
        """Begin the record and its mirror; until `close` the summary says that the run was interrupted.

        Raises:
            ConfigError: the folder cannot be written, another process is writing it, or there is no such tracker.
        """
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        self.record = Record(folder, cfg)
        try:
            self.tracker = tracker.make(cfg.tracker, folder, config, self.record.created)
        except BaseException:
            self.record.discard()
            raise
        self.description = summary.description(cfg, recipe)
        killed = summary.outcome(RunState(), "interrupted", cause="the process was killed")
        self.record.summarise(self.description | killed)

    def close(self, outcome: dict[str, Any], discard: bool) -> dict[str, Any]:
        """Write how the run ended, and close the record and its mirror.

        Args:
            outcome: from `summary.outcome`.
            discard: the run ended before its first step by a mistake in its settings, and leaves no record.

        Returns:
            The summary as it was written.
        """
        written = self.description | outcome
        if self.record is None or self.tracker is None:
            return written
        completed = outcome["status"] == "completed"
        try:
            if self.record.is_there() or completed:
                self.record.summarise(written)
            if completed:
                checkpoint.trim(self.record.folder / "checkpoint")
        finally:
            if not discard:
                self.record.close()
            try:
                self.tracker.finish(written)  # if the mirror fails or hangs, the record is already complete
            finally:
                if discard:
                    self.record.discard()
        return written

    def secure(self) -> None:
        """Bring the measurements to the disk; raises ConfigError if the record was deleted or moved."""
        if self.record is not None:
            self.record.secure()

    def begin(self, step: int, redone: Collection[str] = ()) -> None:
        """Keep the measurements up to the step from which the run continues."""
        if self.record is not None and self.tracker is not None:
            self.tracker.log(self.record.begin(step, redone))

    def log(self, step: int, split: str, values: dict[str, float], seconds: float) -> None:
        """Record measurements of one step."""
        if self.record is not None and self.tracker is not None:
            self.tracker.log(self.record.log(step, split, values, seconds))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Keep a picture, uint8 [H, W, C], as a PNG file in the run's folder."""
        if self.record is not None and self.tracker is not None:
            self.tracker.picture(step, name, write_picture(self.record.folder / f"{name}.png", pixels))

"""Walk folders of records: symbolic links are followed without loops, and unreadable folders are reported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

NOT_RECORDS = {"checkpoint", "wandb", "slurm"}  # folders near or inside records that contain no records


def walk(tops: Iterable[str | Path], problems: list[str] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder under `tops` once, with the sorted names of its files.

    Hidden folders and NOT_RECORDS are skipped. A line for each folder that cannot be listed is appended
    to `problems`.
    """
    seen: set[str] = set()

    def note(error: OSError) -> None:
        if problems is not None and not isinstance(error, FileNotFoundError | NotADirectoryError):
            problems.append(f"{error.filename}: cannot be read ({error.strerror}): left out")

    for top in tops:
        for folder, inner, files in os.walk(top, onerror=note, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                inner.clear()
                continue
            seen.add(real)
            inner[:] = sorted(name for name in inner if name not in NOT_RECORDS and not name.startswith("."))
            yield Path(folder), sorted(files)

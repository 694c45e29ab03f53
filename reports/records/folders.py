"""Walk folders of records: symbolic links are followed, loops end, and what cannot be read is said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

NOT_RECORDS = {"checkpoint", "wandb", "slurm"}  # folders beside or inside records that hold none


def walk(tops: Iterable[str | Path], problems: list[str] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder under `tops` with the sorted names of its files; a folder reached by two ways comes once.

    Hidden folders and NOT_RECORDS are passed over. A line for each folder that cannot be listed is appended
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

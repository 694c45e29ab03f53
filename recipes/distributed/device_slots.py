"""Assign a GPU to each process of hydra/launcher=parallel: one slot a process, locked while the process runs.

The process that starts a sweep creates the slots; each worker takes the first free one before it uses a GPU, and sees
only that GPU (CUDA_VISIBLE_DEVICES). A worker that ends or is killed frees its slot.

This module imports only small modules of the standard library.
"""

import atexit
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
FOLDER = "LION_BENCH_DEVICES"  # where the slots are, for the workers
WORKERS = "LION_BENCH_WORKERS"  # how many processes share this machine's cores

_held: list[int] = []  # the open file whose lock is this process's slot


def devices(nodes: Path = Path("/dev")) -> list[str]:
    """The NVIDIA GPUs that this process may use, by number or name, found without a library that would occupy one."""
    if (visible := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    found = [path for path in nodes.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(number) for number in range(len(found))]  # a container has the host's numbers, CUDA counts its own


def open_slots(processes: int) -> None:
    """Create a slot for each process that will be started, spread evenly over the GPUs; none without a GPU."""
    names = devices()
    if not names:
        return
    folder = tempfile.mkdtemp(prefix="lion-bench-devices-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for slot in range(max(processes, len(names))):
        Path(folder, f"{slot:04}").write_text(names[slot % len(names)])
    os.environ[FOLDER], os.environ[WORKERS] = folder, str(processes)


def take_slot() -> str | None:
    """Take a slot and return its GPU; None if there are no slots or all are taken."""
    folder = os.environ.get(FOLDER)
    if folder is None or not Path(folder).is_dir():
        return None
    if _held:
        return os.environ[VISIBLE]
    for slot in sorted(Path(folder).iterdir()):
        handle = os.open(slot, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        _held.append(handle)
        os.environ[VISIBLE] = slot.read_text()
        return os.environ[VISIBLE]
    return None

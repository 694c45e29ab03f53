"""List tasks, optimizers, data, scales and experiments, and the runs so far with their state.

python scripts/list.py                    everything: tasks, optimizers, data, scales, experiments, runs in outputs
python scripts/list.py tasks              tasks by family; also optimizers, data, scales, experiments
python scripts/list.py runs outputs       the runs in a folder, the newest last
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the packages of this checkout

from recipes.errors import ConfigError  # noqa: E402
from recipes.figure_format import unit  # noqa: E402
from recipes.runs import cli  # noqa: E402
from recipes.settings import choices  # noqa: E402
from recipes.settings.schema import CONF  # noqa: E402
from reports.records.folders import walk  # noqa: E402

KINDS = ("tasks", "optimizers", "data", "scales", "experiments")
FOLDERS = {"optimizers": "optim", "data": "data", "scales": "scale", "experiments": "experiment"}
EXAMPLES = """\
examples:
  python scripts/list.py
  python scripts/list.py tasks
  python scripts/list.py runs outputs
"""


def main(arguments: list[str] | None = None) -> int:
    """Print what is asked for; returns the exit status."""
    options = parser().parse_args(arguments)
    chosen = (*KINDS, "runs") if options.what == "all" else (options.what,)
    if options.what == "runs" and not options.folder.is_dir():
        raise ConfigError(f"{options.folder} is not a folder; runs are written to outputs, or where output_dir= said")
    for number, what in enumerate(chosen):
        if number:
            print()
        if what == "runs":
            print_runs(options.folder)
        elif what == "tasks":
            print_tasks()
        else:
            print_files(what)
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = argparse.ArgumentParser(
        prog="list.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("what", nargs="?", choices=("all", *KINDS, "runs"), default="all", help="(%(default)s)")
    command.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), help="of runs (%(default)s)")
    return command


def print_tasks() -> None:
    """The tasks of each family with the scales that they have a setting at."""
    for number, (family, tasks) in enumerate(choices.tasks_by_family().items()):
        print(("\n" if number else "") + f"{family}: task=")
        for task in tasks:
            print_entry(task, f"[{', '.join(choices.scales_of(task))}] {about(CONF / 'task' / f'{task}.yaml')}")


def print_files(what: str) -> None:
    """The files of a group, each with what its first lines say."""
    folder = FOLDERS[what]
    print(f"{what.capitalize()}: {'+' if folder == 'experiment' else ''}{folder}=")
    for file in sorted((CONF / folder).glob("*.yaml")):
        print_entry(file.stem, about(file))


def print_entry(name: str, text: str) -> None:
    """A name and its text, cut to the terminal."""
    line = f"  {name:<20} {text}"
    width = os.get_terminal_size().columns if sys.stdout.isatty() else 0
    print(line[: width - 1] if width else line)


def about(file: Path) -> str:
    """The first sentence of a file's comment, below its command."""
    words = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# python ", "# @package")):
            words.append(line.removeprefix("#").strip())
    text = " ".join(words)
    return re.split(r"(?<=[.])(?<!et al[.]) ", text, maxsplit=1)[0]


def print_runs(folder: Path) -> None:
    """The runs in a folder, the one that wrote last at the end, and how many there are of each state."""
    run_list = sorted(runs(folder), key=lambda run: run[0])
    print(f"Runs in {folder}:" + ("" if run_list else " none"))
    states: dict[str, int] = {}
    for written, place, summary, state in run_list:
        states[state] = states.get(state, 0) + 1
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
        print_entry(state, f"{when}  {place}  {figures(summary, state)}")
    if run_list:
        print(f"{len(run_list)} runs: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items())))


def runs(folder: Path) -> Iterator[tuple[float, Path, dict[str, Any], str]]:
    """Each record below a folder: time of its last change, folder, summary and state."""
    locked_files = locked()
    for place, files in walk([folder]):
        if "summary.json" not in files:
            continue
        path = place / "summary.json"
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            state = str(summary["status"])
        except (OSError, ValueError, KeyError, TypeError):
            summary, state = {}, "unreadable"
        written = max(file.stat().st_mtime for file in (path, place / "metrics.jsonl") if file.exists())
        yield written, place, summary, "running" if is_locked(place / ".lock", locked_files) else state


def locked() -> set[int]:
    """Inodes of files that a process has locked; empty on systems other than Linux."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    return {int(line.split()[5].rpartition(":")[2]) for line in lines if " FLOCK " in line and "->" not in line}


def is_locked(lock: Path, locked_files: set[int]) -> bool:
    """Whether a record is being written; trying its lock could keep a run from starting."""
    try:
        return lock.stat().st_ino in locked_files
    except OSError:
        return False


def figures(summary: dict[str, Any], state: str) -> str:
    """The result of a run: its metric, or why it has none."""
    measured = {"val": summary.get("final"), "test": summary.get("test")}
    values = {split: value for split, value in measured.items() if isinstance(value, int | float)}
    in_unit = unit(summary.get("goal"), values.values())
    parts = [f"seed {summary['seed']}"] if "seed" in summary else []
    for key in ("lr", "weight_decay"):
        value = summary.get(key)
        parts += [f"{key.replace('_', ' ')} {value:g}"] if isinstance(value, int | float) else []
    parts += [f"{split} {summary.get('metric')} {in_unit.figure(value)}" for split, value in values.items()]
    if state not in ("completed", "running") and summary.get("cause"):
        parts.append(str(summary["cause"]))
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(cli.guard(main))

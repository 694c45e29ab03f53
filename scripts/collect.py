"""Pack run records into archives that are small enough to commit: one text file a task, a line a run.

python scripts/collect.py outputs/tuning reports/published/records
python scripts/collect.py --restore reports/published/records outputs/published   # the other way
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

if TYPE_CHECKING:
    import pandas as pd

SHOWN_PROBLEMS = 5
EPILOG = """\
Runs that are already in the folder's archives are kept; if some of them cannot be read, nothing is written. Runs that
neither completed nor diverged are left out and counted, and unreadable records are named; the exit status is then 1.
scripts/compare.py and `make reports` read archives as they read folders.

Restored records have summary and measurements, but no weights: scripts/tune.py continues from them, with more seeds or
more trials, but no run can start from their models. Runs that are already in the folder are kept unchanged.
"""


def main(arguments: list[str] | None = None) -> int:
    """Pack; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="+", type=Path, help="folders of run records")
    parser.add_argument("into", type=Path, help="folder of the archives")
    parser.add_argument("--restore", action="store_true", help="write archives out as folders of run records")
    options = parser.parse_args(arguments)

    from reports.records.reader import missing_folders, read_records

    if missing := missing_folders(options.records):
        say(f"{missing[0]}: no such folder")
        return 2
    if options.into.exists() and not options.into.is_dir():
        say(f"{options.into} is a file, and a folder to write to is needed; give it last")
        return 2
    records = read_records(options.records)
    damaged = _damaged(records.problems)
    for line in damaged[:SHOWN_PROBLEMS]:
        say(line)
    if damaged:
        say(f"{len(damaged)} of {len(damaged) + len(records.runs)} records could not be read whole")
    if records.runs.empty:
        say(f"no run record in {', '.join(map(str, options.records))}")
        return 2
    try:
        status = restore(records.runs, options.into) if options.restore else collect(options.records, options.into)
    except OSError as error:
        say(f"cannot write to {options.into}: {error.strerror}; choose another folder")
        return 1
    return status or (1 if damaged else 0)


def collect(folders: list[Path], into: Path) -> int:
    """Write the finished runs of the folders, and those that are there already, into archives."""
    from recipes.files import write_text
    from reports.records.archive import pack
    from reports.records.reader import raw_record, read_records

    there = read_records([into]) if into.is_dir() else None
    if there is not None and (damaged := _damaged(there.problems)):
        for line in damaged[:SHOWN_PROBLEMS]:
            say(line)
        say(f"nothing was written: {into} holds {len(damaged)} records that cannot be read; mend or remove them first")
        return 1
    runs = read_records([*folders, *([] if there is None else [into])]).runs
    ended = runs[runs["status"].isin(["completed", "diverged"]) & runs["run_id"].notna()]
    if ended.empty:
        say(f"no finished run in {', '.join(map(str, folders))}")
        return 2
    into.mkdir(parents=True, exist_ok=True)
    for name, text in pack(raw_record(path) for path in ended["path"]).items():
        write_text(into / name, text)
        print(f"{into / name}: {text.count(chr(10))} runs, {len(text) / 1e6:.2f} MB")
    if unfinished := len(runs) - len(ended):
        print(f"{unfinished} runs that have not ended were left out")
    return 0


def restore(runs: "pd.DataFrame", into: Path) -> int:
    """Write archived runs as record folders, without configs and weights; existing ones are kept unchanged.

    Args:
        runs: as read by `reports.records.reader.read_records`, which lets no name through that leaves the folder.
        into: where the records go.
    """
    from recipes.files import finite, safe_name, write_json, write_text
    from recipes.runs.record import read_summary
    from reports.records.reader import raw_record

    written = there = 0
    nameless = int(runs["run_id"].isna().sum())
    for path in runs.loc[runs["run_id"].notna(), "path"]:
        summary, measured = raw_record(path)
        folder = into.joinpath(*(safe_name(summary[key], key) for key in ("task", "optim", "run_id")))
        if read_summary(folder) is not None:
            there += 1
            continue
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            (step, {"step": step, "split": split, "name": name, "value": value, "seconds": seconds})
            for (split, name), series in measured.items()
            for step, value, seconds in zip(*series, strict=True)
        ]
        ordered = sorted(lines, key=lambda line: line[0])
        write_text(folder / "metrics.jsonl", "".join(json.dumps(finite(line)) + "\n" for _, line in ordered))
        write_json(folder / "summary.json", summary)
        written += 1
    print(f"{into}: {written} records restored, {there} were there already")
    if nameless:
        say(f"{nameless} records without a run_id were left out")
    return 1 if nameless else 0


def _damaged(problems: list[str]) -> list[str]:
    return [line for line in problems if "a copy of a run" not in line]


def say(line: str) -> None:
    """Write one line to stderr."""
    print(f"collect.py: {line}", file=sys.stderr)


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

"""Pack run records into archives that are small enough to commit: one text file a task, a line a run.

python scripts/collect.py outputs/tuning reports/published/records
python scripts/collect.py --restore reports/published/records outputs/published   # the other way
"""

import argparse
import json
import sys
from pathlib import Path

EPILOG = """\
Runs that are in the folder's archives already are kept. Runs that have not completed or diverged are left out and
counted. scripts/compare.py and `make reports` read archives as they read folders.

Restored records have summary and measurements, and no weights: scripts/tune.py goes on from them, with more seeds or
more trials, and nothing can start from their models. Runs that the folder has already are left as they are.
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

    from recipes.files import write_text
    from reports.archive import pack
    from reports.records import missing_folders, raw_record, read_records

    if missing := missing_folders(options.records):
        print(f"collect.py: {missing[0]}: no such folder", file=sys.stderr)
        return 2
    if options.restore:
        written, there = restore(options.records, options.into)
        print(f"{options.into}: {written} records restored, {there} were there already")
        return 0
    runs = read_records([*options.records, *([options.into] if options.into.is_dir() else [])]).runs
    ended = runs[runs["status"].isin(["completed", "diverged"])]
    if ended.empty:
        print(f"collect.py: no finished run in {', '.join(map(str, options.records))}", file=sys.stderr)
        return 2
    options.into.mkdir(parents=True, exist_ok=True)
    for name, text in pack(raw_record(path) for path in ended["path"]).items():
        write_text(options.into / name, text)
        print(f"{options.into / name}: {text.count(chr(10))} runs, {len(text) / 1e6:.2f} MB")
    if unfinished := len(runs) - len(ended):
        print(f"{unfinished} runs that have not ended were left out")
    return 0


def restore(archives: list[Path], into: Path) -> tuple[int, int]:
    """Write archived runs out as record folders, without configs and weights; those that are there stay as they are.

    Returns:
        How many were written, and how many were there.
    """
    from recipes.files import write_json, write_text
    from recipes.record import read_summary
    from reports.records import raw_record, read_records

    written = there = 0
    for path in read_records(archives).runs["path"]:
        summary, measured = raw_record(path)
        folder = into / summary["task"] / summary["optim"] / summary["run_id"]
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
        write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for _, line in ordered))
        write_json(folder / "summary.json", summary)
        written += 1
    return written, there


if __name__ == "__main__":
    sys.exit(main())

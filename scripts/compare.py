"""Compare what has run: print comparison tables, and write them with the curves behind them.

python scripts/compare.py outputs
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

from reports.protocol import REFERENCE, SUBJECT

EXAMPLES = """\
examples:
  python scripts/compare.py outputs                          all that has run
  python scripts/compare.py outputs --task vit_b16           one task
  python scripts/compare.py outputs /other/outputs --out page  two folders as one, written to page/
  python scripts/compare.py outputs --reference sgd          differences to another optimizer

A folder is searched at any depth for run records, and archives of them (*.runs.jsonl), and timings (*.speed.json).
Settings are chosen on validation, never on test. Written are table.md, table.csv, table.tex, index.html (one page to
open in a browser) and, for each task, curves-<task> and heatmaps-<task> as .png and .svg.
"""
SHOWN_PROBLEMS = 5


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status, 2 where there is nothing to compare."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without † or ± shows a question mark
    return compare(options.folders, options.out, options.reference, options.highlight, options.task)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = argparse.ArgumentParser(
        prog="compare.py",
        description="Print and write comparison tables and curves of the runs in some folders.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folders", nargs="+", type=Path, metavar="folder", help="where runs were written")
    command.add_argument("--out", type=Path, help="where to write (default: <first folder>/report)")
    command.add_argument("--reference", help=f"row to hold others against, as tables name it ({REFERENCE})")
    command.add_argument("--highlight", help=f"row that stands out in curves ({SUBJECT})")
    command.add_argument("--task", action="append", metavar="TASK", help="this task only; may be repeated")
    return command


def compare(
    folders: list[Path], out: Path | None, reference: str | None, highlight: str | None, tasks: list[str] | None
) -> int:
    """Read, print, write; the heavy libraries are imported here so that --help answers at once."""
    from rich.console import Console

    from reports.number_format import columns
    from reports.publish import write_page, write_pictures
    from reports.records.reader import missing_folders, read_records
    from reports.records.speeds import read_speeds
    from reports.results import compared
    from reports.tables.render import print_tables, to_csv, to_latex, to_markdown

    records = read_records(folders)
    for problem in records.problems[:SHOWN_PROBLEMS]:
        say(problem)
    if (more := len(records.problems) - SHOWN_PROBLEMS) > 0:
        say(f"... and {more} more files that could not be used")
    for folder in missing_folders(folders):
        say(f"{folder}: no such folder")
    tasks_with_runs = sorted(records.runs["task"].unique())
    runs = records.runs[records.runs["task"].isin(tasks)] if tasks else records.runs
    if not tasks_with_runs:
        say(
            f"no run records in {', '.join(map(str, folders))}: expected "
            "<folder>/<task>/<optim>/<run id>/summary.json; "
            "make one with: python run.py task=vit_b16 optim=lion"
        )
        return 2
    if unknown := sorted(set(tasks or []) - set(tasks_with_runs)):
        say(f"no runs of task {', '.join(unknown)}; there are runs of: {', '.join(tasks_with_runs)}")
        return 2
    results = compared(runs, read_speeds(folders), reference or REFERENCE)
    labels = {row.optim for table in results.tables for row in table.rows}
    for option, wanted in (("--reference", reference), ("--highlight", highlight)):
        kinds = sorted(label for label in labels if label.startswith(f"{wanted} ("))
        if wanted is not None and wanted not in labels:
            say(
                f"{option} {wanted}: no row has this name"
                + (f", since it ran with several settings; choose one: {', '.join(map(repr, kinds))}" if kinds else "")
                + ("" if kinds else f"; there are: {', '.join(sorted(labels))}")
            )
            return 2
    out = out or folders[0] / "report"
    texts = {"table.md": to_markdown, "table.csv": to_csv, "table.tex": to_latex}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, render in texts.items():
            (out / name).write_text(render(results.tables), encoding="utf-8", newline="\n")
        names = records.runs["optim"].unique()
        written = [*(out / name for name in texts), write_page(results, out)]
        written += write_pictures(results, out, names, highlight or SUBJECT)
    except OSError as error:
        say(f"cannot write to {out}: {error.strerror}; choose another folder with --out")
        return 1
    console = Console(width=columns(), highlight=False)
    print_tables(results.tables, console)
    for path in written:
        print(path)
    return 0


def say(line: str) -> None:
    """Write one line to stderr."""
    print(f"compare.py: {line}", file=sys.stderr)


if __name__ == "__main__":
    from recipes.runs import cli

    cli.guard(lambda: sys.exit(main()))

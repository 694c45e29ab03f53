"""Compare what has run: print comparison tables, and write them with the curves behind them.

python scripts/compare.py outputs
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

from reports.protocol import REFERENCE, SUBJECT

if TYPE_CHECKING:
    from reports.results import Results

EXAMPLES = """\
examples:
  python scripts/compare.py outputs                          all that has run
  python scripts/compare.py outputs --task vit_b16           one task
  python scripts/compare.py outputs --full                   print every column and what it means
  python scripts/compare.py outputs --watch                  again every minute, with what is missing for a verdict
  python scripts/compare.py outputs --serve                  show the page in a browser of this machine
  python scripts/compare.py outputs /other/outputs --out page  two folders as one, written to page/
  python scripts/compare.py outputs --reference sgd          differences to another optimizer

A folder is searched at any depth for run records, and archives of them (*.runs.jsonl), and timings (*.speed.json).
Settings are chosen on validation, never on test. Written are index.html (one page to open in a browser), table.md,
table.csv, table.tex, forest, and for each task curves-<task> and heatmaps-<task>, figures as .png and .svg.
"""
SHOWN_PROBLEMS = 5


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status, 2 if there is nothing to compare."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without † or ± shows a question mark
    out = options.out or options.folders[0] / "report"
    if options.watch is None and options.serve is None:
        return compare(options, out)
    return stay(options, out)


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
    command.add_argument("--reference", help=f"row to compare others with, as tables name it ({REFERENCE})")
    command.add_argument("--highlight", help=f"row that stands out in curves ({SUBJECT})")
    command.add_argument("--task", action="append", metavar="TASK", help="this task only; may be repeated")
    command.add_argument("--full", action="store_true", help="print all columns of all tables, not one screen")
    command.add_argument(
        "--watch", nargs="?", type=seconds, const=60.0, metavar="SECONDS", help="repeat every so many seconds (60)"
    )
    command.add_argument(
        "--serve", nargs="?", type=port, const=8000, metavar="PORT", help="serve the page on this machine alone (8000)"
    )
    return command


def seconds(text: str) -> float:
    """Read a number of seconds of at least one."""
    if not 1 <= (value := float(text)) < 1e6:
        raise ValueError(text)
    return value


def port(text: str) -> int:
    """Read the number of a port; 0 takes a free one."""
    if not 0 <= (value := int(text)) < 65536:
        raise ValueError(text)
    return value


def stay(options: argparse.Namespace, out: Path) -> int:
    """Compare once, or repeatedly with --watch, while the page is served; until an interrupt."""
    status, served = compare(options, out), False
    while True:
        if options.serve is not None and status == 0 and not served:  # with --watch, once there is a record
            from reports.page.server import serve

            try:
                print(f"{serve(out, options.serve)} until Ctrl+C", flush=True)
            except OSError as error:
                say(f"port {options.serve}: {error.strerror}; choose another with --serve PORT")
                return 1
            served = True
        if options.watch is None and not served:
            return status
        time.sleep(options.watch or 60.0)
        if options.watch is not None:
            print("\033[2J\033[H" if sys.stdout.isatty() else "", end="")
            status = compare(options, out)


def compare(options: argparse.Namespace, out: Path) -> int:
    """Read, write, print; the heavy libraries are imported here so that --help answers at once."""
    from reports.records.reader import missing_folders, read_records
    from reports.records.speeds import read_speeds
    from reports.results import compared

    records = read_records(options.folders)
    for problem in records.problems[:SHOWN_PROBLEMS]:
        say(problem)
    if (more := len(records.problems) - SHOWN_PROBLEMS) > 0:
        say(f"... and {more} more files that could not be used")
    for folder in missing_folders(options.folders):
        say(f"{folder}: no such folder")
    if mistake := no_runs(options, sorted(records.runs["task"].unique())):
        say(mistake)
        return 2
    runs = records.runs[records.runs["task"].isin(options.task)] if options.task else records.runs
    results = compared(runs, read_speeds(options.folders), options.reference or REFERENCE)
    if mistake := no_row(options, {row.optim for table in results.tables for row in table.rows}):
        say(mistake)
        return 2
    try:
        written = write(results, out, options.highlight or SUBJECT, records.runs["optim"].unique())
    except OSError as error:
        say(f"cannot write to {out}: {error.strerror}; choose another folder with --out")
        return 1
    show(results, options)
    print(written, flush=True)
    return 0


def no_runs(options: argparse.Namespace, tasks: Sequence[str]) -> str | None:
    """What is wrong if the folders have no runs at all, or none of a task that was asked for."""
    if not tasks:
        return (
            f"no run records in {', '.join(map(str, options.folders))}: expected "
            "<folder>/<task>/<optim>/<run id>/summary.json; "
            "make one with: python run.py task=vit_b16 optim=lion"
        )
    if unknown := sorted(set(options.task or []) - set(tasks)):
        return f"no runs of task {', '.join(unknown)}; there are runs of: {', '.join(tasks)}"
    return None


def no_row(options: argparse.Namespace, labels: Collection[str]) -> str | None:
    """What is wrong if no table has a row of the reference, or of the optimizer to highlight."""
    for option, wanted in (("--reference", options.reference), ("--highlight", options.highlight)):
        if wanted is None or wanted in labels:
            continue
        if kinds := sorted(label for label in labels if label.startswith(f"{wanted} (")):
            reason = f", since it ran with several settings; choose one: {', '.join(map(repr, kinds))}"
        else:
            reason = f"; there are: {', '.join(sorted(labels))}"
        return f"{option} {wanted}: no row has this name{reason}"
    return None


def write(results: Results, out: Path, highlight: str, optimizers: Iterable[str]) -> str:
    """Write the tables, the page and the figures, and return a text that says where.

    Raises:
        OSError: the folder cannot be written to.
    """
    from reports.publish import write_page, write_pictures
    from reports.tables.render import to_csv, to_latex, to_markdown

    texts = {"table.md": to_markdown, "table.csv": to_csv, "table.tex": to_latex}
    out.mkdir(parents=True, exist_ok=True)
    for name, render in texts.items():
        (out / name).write_text(render(results.tables), encoding="utf-8", newline="\n")
    page = write_page(results, out)
    figures = write_pictures(results, out, optimizers, highlight)
    return f"page: {page}\nbeside it: {', '.join(texts)} and {len(figures)} figures"


def show(results: Results, options: argparse.Namespace) -> None:
    """Print one screen, with --full every table."""
    from reports.number_format import columns

    if options.full:
        from rich.console import Console

        from reports.tables.render import print_tables

        print_tables(results.tables, Console(width=columns(), highlight=False))
        return
    from reports.tables.screen import progress, screen

    lines = screen(results.main, columns(), shutil.get_terminal_size((0, 40)).lines)
    lines += progress(results.main) if options.watch is not None else []
    if more_tables := len(results.tables) - len(results.main):
        lines.append(f"further tables (variants, other conditions) in the files: {more_tables}")
    print("\n".join(lines))


def say(line: str) -> None:
    """Write one line to stderr."""
    print(f"compare.py: {line}", file=sys.stderr)


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

"""The program search that discovered Lion: search for optimizers, show programs, simplify them.

python scripts/discover.py search --minutes 10 --seed 0 --out outputs/discovery
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
OUT = Path("outputs/discovery")
PUBLISHED = SCRIPTS.parent / "reports" / "published" / "discovery"
EXAMPLES = """\
examples:
  python scripts/discover.py search --minutes 10 --seed 0 --out outputs/discovery
  python scripts/discover.py search --minutes 30 --restarts 5 --from-best --workers 2
  python scripts/discover.py funnel outputs/discovery
  python scripts/discover.py report outputs/discovery
  python scripts/discover.py show program4
  python scripts/discover.py simplify program8
  python scripts/discover.py export best.py --from outputs/discovery
  python run.py task=vit_b16 optim=program optim.program=best.py

A program is a bundled one (program1 program3 ... program8, as the Lion paper numbers them) or a file.
docs/discovery.md explains the language.
"""
SEARCH = """\
Evolve programs from AdamW on a small network that learns 8 x 8 digits: six copies with their own seeds, some
milliseconds a program. --minutes is the time of the search itself. After it, two baselines get as many evaluations
(random search, and AdamW with its constants evolved), which takes about as long again for each; --no-baselines leaves
them out. Then the winner of each, chosen among its best on other seeds and digits, is scored on 12 fresh seeds and on
digits that no search used, like AdamW and Lion; the update of each is scaled by the best of the same factors.
The same command continues a search that was stopped. The order of programs in log.jsonl depends only on the settings
and the number of workers.
"""


FUNNEL = """\
Train what searches found on three larger tasks, each about ten times the work of the one before: a wider network on the
digits, a small language model on the source of Python's standard library, and a recipe of this suite (run.py with
optim=program). Candidates are the best of every restart, the best at earlier moments of each, and the shortest program
that is about as good. AdamW and Lion are trained too, each update with the best of equally many factors. Only programs
that beat AdamW by two standard errors advance, at most a quarter, and on the last rung they have to beat Lion as well.
A funnel that was stopped continues where it was.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status, 2 after a user's mistake."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # matrices this small are slower on several threads
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.insert(0, str(SCRIPTS.parent))
    options = parser().parse_args(arguments)
    try:
        if getattr(options, "tournament", 0) > getattr(options, "population", 0):
            raise ValueError(
                f"--tournament {options.tournament} is more than --population {options.population}: its programs are "
                "drawn from the population"
            )
        return int(options.command(options))
    except (ValueError, OSError) as error:
        print(f"discover.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("discover.py: stopped; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    layout: Any = argparse.RawDescriptionHelpFormatter
    command = argparse.ArgumentParser(prog="discover.py", description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    commands = command.add_subparsers(required=True, metavar="command")

    search = commands.add_parser("search", help="evolve programs", description=SEARCH, formatter_class=layout)
    search.set_defaults(command=_of("searching", "run"))
    search.add_argument("--minutes", type=_positive(float), default=10.0, help="of search (default %(default)g)")
    search.add_argument("--evaluations", type=_positive(int), help="evaluations of a round, whatever its time")
    search.add_argument("--seed", type=_at_least(0), default=0, help="of the search (default %(default)s)")
    search.add_argument("--out", type=Path, default=OUT, help="folder to write to (default %(default)s)")
    search.add_argument(
        "--workers", type=_workers, default=("processes", 1), help="processes (default 1); ray or ray:N: of a cluster"
    )
    search.add_argument("--restarts", type=_positive(int), default=1, help="rounds that share the minutes")
    search.add_argument("--from-best", action="store_true", help="one round more, from the best of the others")
    search.add_argument("--population", type=_at_least(2), default=1000, help="programs (default %(default)s)")
    search.add_argument("--tournament", type=_positive(int), default=2, help="programs (default %(default)s)")
    search.add_argument("--start", default="program3", help="first program (default %(default)s, AdamW)")
    search.add_argument(
        "--states", choices=("m,v", "m"), default="m,v", metavar="STATES", help="that may be used: m,v (default) or m"
    )
    search.add_argument(
        "--task",
        choices=("digits", "scaled", "vit", "text"),
        default="digits",
        help="scaled: features of very unequal size; vit, text: transformers, seconds a program",
    )
    search.add_argument("--all-functions", action="store_true", help="invert and negative, too")
    search.add_argument("--constants-only", action="store_true", help="tune the first program's constants, no more")
    search.add_argument("--no-baselines", action="store_true", help="search only")

    funnel = commands.add_parser(
        "funnel", help="larger tasks for what was found", description=FUNNEL, formatter_class=layout
    )
    funnel.set_defaults(command=_of("funnel", "run"))
    funnel.add_argument("folder", type=Path, help="of a search, or of several")
    funnel.add_argument("--recipe", default="vit_b16", help="task of run.py, the last rung (default %(default)s)")
    funnel.add_argument("--steps", type=_positive(int), default=700, help="of the recipe (default %(default)s)")

    report = commands.add_parser("report", help="write figures, tables and the derivation 8 -> 4 -> 1")
    report.set_defaults(command=_of("report", "run"))
    report.add_argument("folders", type=Path, nargs="*", help="of searches; none: what was gathered before")
    report.add_argument("--out", type=Path, default=PUBLISHED, help="folder to write to (reports/published/discovery)")
    report.add_argument("--derivation", action="store_true", help="write the derivation again, half a minute")

    bench = commands.add_parser("bench", help="what the parts of a search cost on this machine")
    bench.set_defaults(command=_of("benching", "run"))
    bench.add_argument(
        "--hits", type=_positive(int), default=500, help="cache hits evaluated again (default %(default)s)"
    )
    bench.add_argument("--no-workers", action="store_true", help="without the speed-up of two workers")
    bench.add_argument("--out", type=Path, help="folder to write bench.json to, for report")

    show = commands.add_parser("show", help="print a program, and what a search sees in it")
    show.set_defaults(command=_of("programs", "run_show"))
    show.add_argument("program", help="name or file")

    simplify = commands.add_parser("simplify", help="rewrite a program step by step, and say what each step changes")
    simplify.set_defaults(command=_of("programs", "run_simplify"))
    simplify.add_argument("program", help="name or file")
    simplify.add_argument("--exact", action="store_true", help="nothing but rounding: no bypasses judged by training")
    simplify.add_argument("--out", type=Path, help="write the result to this file")

    export = commands.add_parser("export", help="write a program to a file that optim=program reads")
    export.set_defaults(command=_of("programs", "run_export"), default_source=str(OUT))
    export.add_argument("file", type=Path, help="to write; an existing one is not overwritten")
    export.add_argument("--from", dest="source", default=str(OUT), help="program, or folder of a search (%(default)s)")
    return command


def _of(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A command, imported when it is run: `--help` answers at once."""
    return lambda options: getattr(import_module(f"scripts.discovery.{module}"), name)(options)


def _workers(text: str) -> tuple[str, int]:
    """`3` or `ray` or `ray:3`."""
    kind, _, number = text.partition(":")
    if kind == "ray":
        return "ray", _positive(int)(number) if number else os.cpu_count() or 1
    return "processes", _positive(int)(text)


_workers.__name__ = "number of workers"


def _at_least(least: int) -> Any:
    def read(text: str) -> int:
        value = int(text)
        if not least <= value < 2**31:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text}")
        return value

    read.__name__ = "int"
    return read


def _positive(kind: type) -> Any:
    def read(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
        return value

    read.__name__ = kind.__name__
    return read


if __name__ == "__main__":
    sys.exit(main())

"""The program search that found Lion: search for optimizers, look at programs, simplify them.

python scripts/discover.py search --minutes 10 --seed 0 --out outputs/discovery
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lion.discovery.evolve import Search, Settings
    from lion.discovery.ir import Program
    from lion.discovery.proxy import Data, Task
    from lion.discovery.workers import Evaluator

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("outputs/discovery")
EXAMPLES = """\
examples:
  python scripts/discover.py search --minutes 10 --seed 0 --out outputs/discovery
  python scripts/discover.py search --minutes 30 --restarts 5 --from-best --workers 2
  python scripts/discover.py show program4
  python scripts/discover.py simplify program8
  python scripts/discover.py export best.py --from outputs/discovery
  python run.py task=vit_b16 optim=program optim.program=best.py

A program is one of those that come along (program1 program3 ... program8, as the Lion paper numbers them) or a file.
What the language means stands in docs/discovery.md.
"""
SEARCH = """\
Evolve programs from AdamW on a small network that learns 8 x 8 digits: six copies with their own seeds, some
milliseconds a program. --minutes is the time of the search itself. After it, two baselines get as many evaluations
(random search, and AdamW with its constants evolved), which takes about as long again for each; --no-baselines leaves
them out. Then the best of each is scored on 12 fresh seeds and on digits that no search saw, beside AdamW and Lion;
the update of every one is scaled by the best of the same factors.
The same command goes on with a search that was stopped. The order of programs in log.jsonl follows from the settings
and the number of workers alone.
"""
FRESH_SEEDS = tuple(range(1000, 1012))
SWEEP = tuple(10 ** (k / 4) for k in range(-10, 11))
LONGER: dict[str, Any] = {"hidden": 64, "steps": 300, "seeds": tuple(range(100, 112))}  # where bypasses are judged
CHECKPOINT_SECONDS = 60
SAY_SECONDS = 30


@dataclass(frozen=True)
class Tasks:
    """The task of the search, and the one with other seeds and other examples for the score."""

    search: Task
    fresh: Task


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status, 2 after a user's mistake."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # matrices this small are slower on several threads
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    options = parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ValueError, OSError) as error:
        print(f"discover.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("discover.py: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    layout: Any = argparse.RawDescriptionHelpFormatter
    command = argparse.ArgumentParser(prog="discover.py", description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    commands = command.add_subparsers(required=True, metavar="command")

    search = commands.add_parser("search", help="evolve programs", description=SEARCH, formatter_class=layout)
    search.set_defaults(command=run_search)
    search.add_argument("--minutes", type=_positive(float), default=10.0, help="of search (default %(default)g)")
    search.add_argument("--evaluations", type=_positive(int), help="stop after so many a round, whatever the time")
    search.add_argument("--seed", type=int, default=0, help="of the search (default %(default)s)")
    search.add_argument("--out", type=Path, default=OUT, help="folder to write to (default %(default)s)")
    search.add_argument("--workers", type=_positive(int), default=1, help="processes (default %(default)s)")
    search.add_argument("--restarts", type=_positive(int), default=1, help="rounds that share the minutes")
    search.add_argument("--from-best", action="store_true", help="one round more, from the best of the others")
    search.add_argument("--population", type=_positive(int), default=1000, help="programs (default %(default)s)")
    search.add_argument("--tournament", type=_positive(int), default=2, help="programs (default %(default)s)")
    search.add_argument("--start", default="program3", help="first program (default %(default)s, AdamW)")
    search.add_argument(
        "--states", choices=("m,v", "m"), default="m,v", metavar="STATES", help="that may be used: m,v (default) or m"
    )
    search.add_argument(
        "--task", choices=("digits", "scaled"), default="digits", help="scaled: features of very unequal size"
    )
    search.add_argument("--no-baselines", action="store_true", help="search only")

    show = commands.add_parser("show", help="print a program, and what a search sees in it")
    show.set_defaults(command=run_show)
    show.add_argument("program", help="name or file")

    simplify = commands.add_parser("simplify", help="rewrite a program step by step, and say what each step changes")
    simplify.set_defaults(command=run_simplify)
    simplify.add_argument("program", help="name or file")
    simplify.add_argument("--exact", action="store_true", help="nothing but rounding: no bypasses judged by training")
    simplify.add_argument("--out", type=Path, help="write the result to this file")

    export = commands.add_parser("export", help="write a program to a file that optim=program reads")
    export.set_defaults(command=run_export)
    export.add_argument("file", type=Path, help="to write; an existing one is not overwritten")
    export.add_argument("--from", dest="source", default=str(OUT), help="program, or folder of a search (%(default)s)")
    return command


# search --------------------------------------------------------------------------------------------------------------


def run_search(options: argparse.Namespace) -> int:
    """Search, run the baselines, score; ends with a line of rates, shares and the best."""
    from lion.discovery.evolve import Settings
    from lion.discovery.ir import load, render
    from lion.discovery.mutate import Space
    from lion.discovery.workers import Inline, Processes

    tasks = _tasks(options.task)
    space = Space(states=tuple(options.states.split(",")))
    base = Settings(
        population=options.population,
        tournament=options.tournament,
        initial=load(options.start),
        space=space,
        workers=options.workers,
        task=options.task,
    )
    rounds = options.restarts + options.from_best
    seconds = 60 * options.minutes / rounds
    done: list[Search] = []
    pool = Processes(tasks.search, options.workers) if options.workers > 1 else None
    evaluator: Evaluator = pool or Inline(tasks.search)
    try:
        for number in range(rounds):
            settings = replace(base, seed=1000 * options.seed + number)
            if number == options.restarts:
                settings = replace(settings, initial=_best(done).best.program)
            name = f"round{number}"
            done.append(_search(settings, options.out / name, name, evaluator, seconds, options.evaluations))
        best, winners = _best(done), {}
        winners["search"] = best.best.program
        if not options.no_baselines:
            evaluations = sum(search.counters.evaluations for search in done)
            for name, settings in _baselines(base, options.seed).items():
                baseline = _search(settings, options.out / name, name, evaluator, None, evaluations)
                winners[name] = baseline.best.program
    finally:
        if pool is not None:
            pool.__exit__(None, None, None)
    (options.out / "best.py").write_text(render(best.best.program, "The best program of a search."), encoding="utf-8")
    print(f"\n{render(_live(best.best.program))}")
    _score(tasks, winners | {"AdamW": load("program3"), "Lion": load("program1")})
    print(_last_line(done))
    return 0


def _baselines(base: Settings, seed: int) -> dict[str, Settings]:
    """Random search has no selection; constants tunes the initial program and leaves its form."""
    constants = replace(base.space, constants_only=True)
    return {
        "random": replace(base, seed=1000 * seed + 900, tournament=1),
        "constants": replace(base, seed=1000 * seed + 901, space=constants),
    }


def _search(
    settings: Settings, folder: Path, name: str, evaluator: Evaluator, seconds: float | None, evaluations: int | None
) -> Search:
    """One search, to its time or to its number of evaluations, with a line now and then."""
    from lion.discovery.evolve import Search

    search = Search(settings, folder)
    if search.counters.cycles:
        _say(name, f"goes on from cycle {search.counters.cycles}")
    saved = said = time.monotonic()

    def goes_on(search: Search) -> bool:
        nonlocal saved, said
        now = time.monotonic()
        if now - saved > CHECKPOINT_SECONDS:
            search.save()
            saved = now
        if now - said > SAY_SECONDS:
            _say(name, _rates([search]))
            said = now
        if evaluations is not None:
            return search.counters.evaluations < evaluations
        return seconds is None or search.seconds < seconds

    search.run(evaluator, goes_on)
    _say(name, _rates([search]))
    return search


def _score(tasks: Tasks, programs: dict[str, Program]) -> None:
    """Print each program's loss on fresh seeds, its update scaled by what was best on the search's own seeds."""
    from lion.discovery.proxy import swept

    print(f"validation loss, {len(FRESH_SEEDS)} fresh seeds and digits that no search saw (mean, standard error):")
    for name, program in programs.items():
        factor, fitness = swept(tasks.search, program, SWEEP)
        losses = tasks.fresh.losses(program, factor)
        if losses is None:
            print(f"  {name:10} diverged (search's seeds: {fitness:.4f})")
            continue
        error = losses.std(ddof=1) / len(losses) ** 0.5
        print(f"  {name:10} {losses.mean():.4f} ± {error:.4f}  (search's seeds: {fitness:.4f}, update x {factor:.3g})")


def _best(searches: list[Search]) -> Search:
    return min(searches, key=lambda search: search.best.fitness)


def _rates(searches: list[Search]) -> str:
    from lion.discovery.evolve import Counters

    total = Counters(*(sum(values) for values in zip(*(vars(s.counters).values() for s in searches), strict=True)))
    seconds = max(1e-9, sum(search.seconds for search in searches))
    shares = total.shares()
    return (
        f"{total.cycles} programs ({total.cycles / seconds:.0f}/s), {total.evaluations} evaluations "
        f"({total.evaluations / seconds:.0f}/s), cache hits {shares['cache_hits']:.1%}, "
        f"redundant {shares['redundant']:.1%}, invalid {shares['invalid']:.1%}, best {_best(searches).best.fitness:.4f}"
    )


def _last_line(searches: list[Search]) -> str:
    return f"search: {_rates(searches)}"


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", flush=True)


def _tasks(name: str) -> Tasks:
    """The proxy on MNIST's digits in 8 x 8, and the same with fresh seeds, scored on the test split."""
    from lion.discovery.proxy import Data, Task, rescaled
    from recipes.data import mnist5k

    splits = {split: (_small(arrays.images), arrays.labels) for split, arrays in mnist5k.load().items()}

    def data(split: str) -> Data:
        found = Data(*splits["train"], *splits[split])
        return rescaled(found) if name == "scaled" else found

    return Tasks(Task(data("val")), Task(data("test"), FRESH_SEEDS))


def _small(images: Any) -> Any:
    """uint8 [n, 28, 28, 1] to float32 [n, 64]: the middle 24 x 24 as means of 3 x 3, about standardized."""
    import numpy as np

    blocks = images[:, 2:26, 2:26, 0].reshape(-1, 8, 3, 8, 3).mean((2, 4)).reshape(-1, 64)
    return ((blocks / 255 - 0.2) / 0.3).astype(np.float32)


# show, simplify, export ----------------------------------------------------------------------------------------------


def run_show(options: argparse.Namespace) -> int:
    """Print a program, its dead statements marked."""
    from lion.discovery.abstract import analyse
    from lion.discovery.ir import SIGNATURE, load

    program = load(options.program)
    found = analyse(program)
    print(SIGNATURE)
    width = max((len(str(stmt)) for stmt in program.stmts), default=0)
    for number, stmt in enumerate(program.stmts):
        mark = ""
        if not found.live >> number & 1:
            mark = "# reaches no update" if found.live_one_step >> number & 1 else "# dead"
        print(f"    {stmt!s:{width if mark else 0}}  {mark}".rstrip())
    print("    return update, m, v\n")
    states = ", ".join(found.states) or "none"
    print(
        f"{len(program)} statements; {found.live_one_step.bit_count()} that an output depends on, "
        f"{found.live.bit_count()} that an update depends on, now or in a later step; states needed: {states}"
    )
    return 0


def run_simplify(options: argparse.Namespace) -> int:
    """Print each step of the simplification, then the program."""
    from lion.discovery.bypass import bypasses
    from lion.discovery.ir import load, render
    from lion.discovery.simplify import betas, simplify

    program = load(options.program)
    print(f"{len(program):3}  {options.program}")
    for step in simplify(program):
        print(f"{len(step.program):3}  {step.rule} [{step.tag}]: {step.what}", flush=True)
        program = step.program
    if not options.exact:
        for step in bypasses(program, replace(_tasks("digits").search, **LONGER), SWEEP):
            print(f"{len(step.program):3}  {step.rule} [{step.tag}]: {step.what}", flush=True)
            program = step.program
    print(f"\n{render(program)}")
    if (found := betas(program)) is not None:
        print(f"Lion's beta1 and beta2 in it: {found[0]:.6g} and {found[1]:.6g}")
    if options.out is not None:
        _write(options.out, render(program, f"{options.program}, simplified."))
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write a program, without its dead statements, to a file."""
    from lion.discovery.ir import ProgramError, load, render

    folder = Path(options.source)
    if folder.is_dir() and not (folder / "best.py").exists():
        raise ProgramError(f"{folder} holds no best.py: a search writes it when it ends")
    if not folder.exists() and options.source == str(OUT):
        raise ProgramError(f"there is no {folder} yet: run a search, or name a program with --from")
    program = _live(load(folder / "best.py" if folder.is_dir() else options.source))
    _write(options.file, render(program, f"From {options.source}."))
    print(f"try it: python run.py task=vit_b16 optim=program optim.program={options.file}")
    return 0


def _live(program: Program) -> Program:
    from lion.discovery.abstract import live

    return live(program)


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise ValueError(f"{file} exists already; choose another name") from None
    print(f"written: {file}")


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

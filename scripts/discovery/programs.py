"""discover.py show, simplify and export: print, simplify and write programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.discovery import tasks
from scripts.discovery.tasks import LONGER, SWEEP

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lion.discovery.language.program import Program
    from lion.discovery.simplification.rewriting import Step

BYPASS_SEEDS = tuple(range(100, 112))


def run_show(options: argparse.Namespace) -> int:
    """Print a program, its dead statements marked."""
    from lion.discovery.language.analysis import analyse
    from lion.discovery.language.program import SIGNATURE, load

    program = load(options.program)
    analysis = analyse(program)
    print(SIGNATURE)
    width = max((len(str(stmt)) for stmt in program.stmts), default=0)
    for number, stmt in enumerate(program.stmts):
        mark = ""
        if not analysis.live >> number & 1:
            mark = "# reaches no update" if analysis.live_one_step >> number & 1 else "# dead"
        print(f"    {stmt!s:{width if mark else 0}}  {mark}".rstrip())
    print("    return update, m, v\n")
    states = ", ".join(analysis.states) or "none"
    print(
        f"{len(program)} statements; {analysis.live_one_step.bit_count()} that an output depends on, "
        f"{analysis.live.bit_count()} that an update depends on, now or in a later step; states needed: {states}"
    )
    return 0


def simplified(program: Program, exact: bool) -> Iterator[Step]:
    """The steps of a simplification; without `exact` also those that losses decide."""
    from lion.discovery.simplification.bypass import bypasses
    from lion.discovery.simplification.rewriting import simplify

    for step in simplify(program):
        yield step
        program = step.program
    if not exact:
        yield from bypasses(program, tasks.digits("val", seeds=BYPASS_SEEDS, **LONGER), SWEEP)


def run_simplify(options: argparse.Namespace) -> int:
    """Print each step of the simplification, then the program."""
    from lion.discovery.language.program import load, render
    from lion.discovery.simplification.rewriting import betas

    program = load(options.program)
    print(f"{len(program):3}  {options.program}")
    for step in simplified(program, options.exact):
        print(f"{len(step.program):3}  {step.rule} [{step.tag}]: {step.what}", flush=True)
        program = step.program
    print(f"\n{render(program)}")
    if (rounded := betas(program)) is not None:
        print(f"Lion's beta1 and beta2 in it: {rounded[0]:.6g} and {rounded[1]:.6g}")
    if options.out is not None:
        _write(options.out, render(program, f"{options.program}, simplified."))
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write a program, without its dead statements, to a file."""
    from lion.discovery.language.analysis import live
    from lion.discovery.language.program import ProgramError, load, render

    folder = Path(options.source)
    if folder.is_dir() and not (folder / "best.py").exists():
        raise ProgramError(f"{folder} holds no best.py: a search writes it when it ends")
    if not folder.exists() and options.source == options.default_source:
        raise ProgramError(f"there is no {folder} yet: run a search, or name a program with --from")
    program = live(load(folder / "best.py" if folder.is_dir() else options.source))
    _write(options.file, render(program, f"From {options.source}."))
    print(f"try it: python run.py task=vit_b16 optim=program optim.program={options.file}")
    return 0


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise ValueError(f"{file} exists already; choose another name") from None
    print(f"written: {file}")

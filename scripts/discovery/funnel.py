"""discover.py funnel: train candidates of searches on a ladder of larger tasks, and report what each rung rejected."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.files import locked, write_text
from scripts.discovery import tasks
from scripts.discovery.tasks import LONGER

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from lion.discovery.language.program import Program
    from lion.discovery.search.funnel import Candidate, Floor, Result, Rung

RUN = Path(__file__).resolve().parents[2] / "run.py"
FUNNEL, MEASURED = "funnel.json", "funnel.measured.jsonl"
OF_FAME = 3  # of the best of a search at its end
OF_TIME = 12  # best so far at as many moments of a search: the meta-overfitting curve
TUNING_SEEDS, SCORING_SEEDS = tuple(range(200, 206)), tuple(range(300, 324))
RECIPE_TUNING, RECIPE_SCORING = (1000,), (0, 1, 2, 3)
DECIMALS = 6


@dataclass(frozen=True)
class RecipeRung:
    """A recipe of this suite as a rung: `run.py` with optim=program, one run a seed.

    The factor is chosen on validation; test figures of other seeds decide, turned round where more is better.
    """

    recipe: str
    steps: int
    folder: Path

    @property
    def name(self) -> str:
        """What it trains."""
        return f"{self.recipe}, {self.steps} steps"

    def tune(self, program: Program) -> float:
        """See Rung."""
        figures = self._figures(program, RECIPE_TUNING, "final")
        return float("inf") if figures is None else sum(figures) / len(figures)

    def score(self, program: Program) -> list[float] | None:
        """See Rung."""
        return self._figures(program, RECIPE_SCORING, "test")

    def _figures(self, program: Program, seeds: Sequence[int], figure: str) -> list[float] | None:
        figures = []
        for seed in seeds:
            summary = self._run(program, seed)
            if summary["status"] == "diverged":
                return None
            figures.append(-float(summary[figure]) if summary["goal"] == "max" else float(summary[figure]))
        return figures

    def _run(self, program: Program, seed: int) -> dict[str, Any]:
        from lion.discovery.language.program import render

        text = render(program)
        folder = self.folder / hashlib.sha256(text.encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "program.py"
        file.write_text(text, encoding="utf-8")
        out = folder / f"{self.steps}-{seed}"
        command = [sys.executable, str(RUN), f"task={self.recipe}", "optim=program", f"optim.program={file.resolve()}"]
        command += [f"steps={self.steps}", f"seed={seed}", f"output_dir={out.resolve()}", "tracker=none"]
        run = subprocess.run(command, cwd=RUN.parent, capture_output=True, text=True, check=False)
        records = sorted(out.glob("*/*/*/summary.json"))
        if run.returncode or not records:
            last = (run.stderr.strip() or run.stdout.strip()).splitlines()[-1:]
            raise ValueError(f"{' '.join(command[1:])} failed: {''.join(last)}")
        return dict(json.loads(records[0].read_text(encoding="utf-8")))


def run(options: argparse.Namespace) -> int:
    """Run the candidates of every search under a folder up the ladder; the last line printed says what passed."""
    if not searches_under(options.folder):
        raise ValueError(f"{options.folder} holds no search: python scripts/discover.py search --out {options.folder}")
    with locked(options.folder):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from lion.discovery.language.program import load
    from lion.discovery.search.funnel import Candidate, climb, distinct

    folder = options.folder
    searches = searches_under(folder)
    candidates = distinct([candidate for search in searches for candidate in candidates_of(search, folder)])
    baselines = [Candidate("AdamW", load("program3")), Candidate("Lion", load("program1"))]
    print(f"{len(candidates)} candidates of {len(searches)} searches, with AdamW and Lion", flush=True)
    rungs = ladder(options)
    memory = _Memory(folder / MEASURED)
    floors: list[Floor] = []
    for floor in climb(candidates, baselines, rungs, _say, memory.measure):
        floors.append(floor)
        write_text(folder / FUNNEL, json.dumps(_plain(floors, rungs), indent=1) + "\n")
    print(f"\n{table(json.loads((folder / FUNNEL).read_text(encoding='utf-8')))}")
    passed = floors[-1].passed if len(floors) == len(rungs) else []
    for result in passed:
        print(f"discovered: {result.candidate.name}")
    if not passed:
        print(f"funnel: nothing discovered; rung {len(floors)} of {len(rungs)} ({floors[-1].rung}) let nothing through")
    return 0


def searches_under(folder: Path) -> list[Path]:
    """Folders of searches, each restart separately, without those of baselines."""
    return sorted(path.parent for path in folder.rglob("checkpoint.json") if path.parent.name.startswith("round"))


def candidates_of(search: Path, root: Path) -> Iterator[Candidate]:
    """The best of a search at its end and at earlier moments, and the shortest that is about as good."""
    from lion.discovery.search.evolution import read_bests, read_fame
    from lion.discovery.search.funnel import Candidate, shortest

    name = str(search.relative_to(root))
    cycles, bests = read_bests(search)
    at_time: dict[int, float] = {}
    for place in range(1, OF_TIME + 1):
        until = [number for number, (cycle, _, _) in enumerate(bests) if cycle <= cycles * place / OF_TIME]
        if until:
            at_time.setdefault(until[-1], place / OF_TIME)
    for number, progress in sorted(at_time.items(), reverse=True):
        _, fitness, program = bests[number]
        yield Candidate(f"{name} at {progress:.0%}", program, fitness, progress)
    famous = [Candidate(f"{name} no. {n}", m.program, m.fitness) for n, m in enumerate(read_fame(search), 1)]
    yield from famous[:OF_FAME]
    if famous:
        short = shortest(famous)
        yield Candidate(f"{name} shortest", short.program, short.fitness)


def ladder(options: argparse.Namespace) -> list[Rung]:
    """Three tasks, each about ten times the work of the one before, starting from the search's task."""
    from lion.discovery.search.funnel import ProxyRung

    def digits(split: str, seeds: tuple[int, ...]) -> Any:
        return tasks.digits(split, seeds=seeds, **LONGER)

    return [
        ProxyRung("digits, 10 times the work", digits("val", TUNING_SEEDS), digits("test", SCORING_SEEDS)),
        ProxyRung(
            "language model, 100 times",
            tasks.text("val", seeds=TUNING_SEEDS[:2]),
            tasks.text("test", seeds=SCORING_SEEDS[:6]),
        ),
        RecipeRung(options.recipe, options.steps, options.folder / "recipes"),
    ]


class _Memory:
    """Results by rung and program, kept in a file, so that a funnel that was stopped continues."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.recorded = {line["key"]: line for line in map(json.loads, lines)}

    def measure(self, rung: Rung, entry: Any, factors: tuple[float, ...]) -> Result:
        from lion.discovery.language.program import render
        from lion.discovery.search.funnel import Result, measured

        what = [rung.name, render(entry.candidate.program), [f"{entry.centre * factor:.9g}" for factor in factors]]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        if (line := self.recorded.get(key)) is None:
            result = measured(rung, entry, factors)
            line = self.recorded[key] = {"key": key, "factor": result.factor, "losses": result.losses}
            write_text(self.file, "".join(json.dumps(each) + "\n" for each in self.recorded.values()))
        return Result(entry.candidate, line["factor"], line["losses"])


def _say(rung: str, result: Result) -> None:
    verdict = f", {result.verdict}" if result.verdict else ""
    print(f"{rung}: {result.candidate.name} {result.mean:.4f}{verdict}", flush=True)


def _plain(floors: list[Floor], rungs: Sequence[Rung]) -> dict[str, Any]:
    from lion.discovery.language.program import render

    def plain(result: Result) -> dict[str, Any]:
        candidate = result.candidate
        numbers = {name: _rounded(getattr(result, name)) for name in ("factor", "mean", "difference", "error")}
        return {
            "name": candidate.name,
            "progress": candidate.progress,
            "fitness": _rounded(candidate.fitness),
            "verdict": result.verdict,
            **numbers,
            "program": render(candidate.program),
        }

    return {
        "rungs": [rung.name for rung in rungs],
        "floors": [
            {
                "rung": floor.rung,
                "rival": floor.rival,
                "baselines": [plain(result) for result in floor.baselines],
                "results": [plain(result) for result in floor.results],
            }
            for floor in floors
        ],
    }


def _rounded(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return round(value, DECIMALS) if abs(value) < float("inf") else None


def table(funnel: dict[str, Any]) -> str:
    """What each rung let through and rejected, as a Markdown table."""
    from lion.discovery.search.funnel import FELL, NO_DIFFERENCE, PASSED, SURPLUS

    lines = [
        f"| rung | to beat | came | diverged | {NO_DIFFERENCE} | {SURPLUS} | passed | AdamW | Lion | best that came |",
        "|---" * 10 + "|",
    ]
    for floor in funnel["floors"]:
        verdicts = [result["verdict"] for result in floor["results"]]
        counts = [verdicts.count(verdict) for verdict in (FELL, NO_DIFFERENCE, SURPLUS, PASSED)]
        best = floor["results"][0]
        means = [f"{_figure(result['mean'])}" for result in (*floor["baselines"], best)]
        if best["difference"] is not None:
            means[-1] += f" ({best['difference']:+.4f} ± {best['error']:.4f}, {best['name']})"
        lines.append(
            f"| {' | '.join([floor['rung'], floor['rival'], str(len(verdicts)), *map(str, counts), *means])} |"
        )
    reached = len(funnel["floors"])
    waiting = sum(result["verdict"] == PASSED for result in funnel["floors"][-1]["results"])
    for name in funnel["rungs"][reached:]:
        lines.append(f"| {name} | | {f'{waiting}, not run yet' if waiting else 0} | | | | | | | |")
        waiting = 0
    return "\n".join(lines)


def _figure(mean: float | None) -> str:
    return "diverged" if mean is None else f"{mean:.4f}"

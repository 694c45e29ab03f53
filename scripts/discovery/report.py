"""discover.py report: a page with the results of searches and funnel: figures, tables and programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.discovery.funnel import table
from scripts.discovery.gathering import KINDS, gather
from scripts.discovery.tasks import FRESH_SEEDS, SWEEP

if TYPE_CHECKING:
    import argparse

    from lion.discovery.language.program import Program

DATA, PAGE, DERIVATION = "data.json", "README.md", "derivation.md"
TARGET = 0.04  # share by which a search's program should lose less than AdamW
DERIVED = ("program8", "program4")


def run(options: argparse.Namespace) -> int:
    """Gather the logs of folders, or take what was gathered before, and write the report."""
    from scripts.discovery.pictures import draw_all

    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.folders:
        (out / DATA).write_text(json.dumps(gather(options.folders), indent=0) + "\n", encoding="utf-8")
    elif not (out / DATA).exists():
        raise ValueError(f"{out / DATA} is not there: name the folder of the searches")
    data = json.loads((out / DATA).read_text(encoding="utf-8"))
    written = draw_all(data, out)
    pages = {PAGE: page(data)}
    if options.derivation or not (out / DERIVATION).exists():
        pages[DERIVATION] = derivation()
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
        written.append(out / name)
    for path in written:
        print(path)
    return 0


def page(data: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts = ["# The program search: what came out", INTRODUCTION]
    if searches := data["searches"]:
        parts += ["## Searches from AdamW", *_outcome(searches), _score_table(searches)]
        parts += ["![Best fitness and the population's median](fitness.svg)", "## Counters", _counter_table(searches)]
        parts += ["![Cache hits and redundant statements](shares.svg)", "## What was found", *_programs(searches)]
    if signs := data["signs"]:
        parts += ["## Is the sign found again?", *_signs(signs)]
    if data["funnel"] is not None:
        parts += ["## The funnel", *_funnel(data["funnel"])]
    if data["bench"] is not None:
        parts += ["## Speed", SPEED, _bench(data["bench"])]
    parts += ["## From the raw program to Lion", f"[{DERIVATION}]({DERIVATION}): Programs 8 and 4, step by step."]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
Everything here is about small networks on small data: what a search of this kind finds on a proxy of milliseconds. The
data are MNIST's digits in 8 x 8, the network 64-32-10, 100 steps ([docs/discovery.md](../../../docs/discovery.md)).

```
for seed in 0 1 2 3 4; do
  python scripts/discover.py search --evaluations 10000 --seed $seed --out outputs/discovery/seed$seed
  python scripts/discover.py search --evaluations 3000 --seed $seed --start lion_without_sign --states m \\
    --task scaled --no-baselines --out outputs/discovery_sign/seed$seed
done
python scripts/discover.py funnel outputs/discovery
python scripts/discover.py bench --out outputs/discovery
python scripts/discover.py report outputs/discovery outputs/discovery_sign
```

`python scripts/discover.py report` without a folder writes this page and the figures again from `data.json`."""


SPEED = """\
The machine of [the suite's results](../README.md), with nothing else to do. Where one process does the work: CPU time,
the least of some repeats."""


def _mean(losses: list[float] | None) -> float:
    return float(np.mean(losses)) if losses else float("inf")


def _change(score: dict[str, Any], rival: dict[str, Any]) -> float:
    """Relative change of the mean loss."""
    return _mean(score["losses"]) / _mean(rival["losses"]) - 1


def _outcome(searches: list[dict[str, Any]]) -> list[str]:
    total = len(searches)
    lines = []
    adamw = [_change(s["scores"]["search"], s["scores"]["AdamW"]) for s in searches]
    reached = sum(change <= -TARGET for change in adamw)
    lines.append(
        f"- Against AdamW with a swept learning rate: the loss of a search's program is {np.mean(adamw):+.1%} "
        f"({min(adamw):+.1%} to {max(adamw):+.1%}); at least {TARGET:.0%} lower in {reached} of {total} searches."
    )
    for name, label in (
        ("constants", "AdamW with its constants evolved"),
        ("random", "random search"),
        ("Lion", "Lion"),
    ):
        change = [_change(s["scores"]["search"], s["scores"][name]) for s in searches]
        lines.append(
            f"- Against {label}{', at equal evaluations' if name in KINDS else ', swept'}: {np.mean(change):+.1%} "
            f"({min(change):+.1%} to {max(change):+.1%}); better in {sum(c < 0 for c in change)} of {total}."
        )
    return [
        "\n".join(lines),
        f"Mean validation loss over {len(FRESH_SEEDS)} fresh seeds and test digits, and its standard error. Each "
        f"search's program was chosen, among its best at the end and at earlier moments, on other seeds and the "
        f"validation digits; the update of every program has the best of the same {len(SWEEP)} factors. In the figure, "
        "random search has no median where half of its population diverged.",
    ]


def _score_table(searches: list[dict[str, Any]]) -> str:
    names = ("search", "constants", "random", "AdamW", "Lion")
    lines = [
        f"| seed | {' | '.join(names)} | search less AdamW | search less constants |",
        "|---" * (len(names) + 3) + "|",
    ]
    for search in searches:
        scores = search["scores"]
        cells = [_cell(scores[name]["losses"]) for name in names]
        changes = [f"{_change(scores['search'], scores[rival]):+.1%}" for rival in ("AdamW", "constants")]
        lines.append(f"| {search['settings']['seed']} | {' | '.join(cells + changes)} |")
    return "\n".join(lines)


def _cell(losses: list[float] | None) -> str:
    if losses is None:
        return "diverged"
    return f"{np.mean(losses):.4f} ± {np.std(losses, ddof=1) / len(losses) ** 0.5:.4f}"


def _counter_table(searches: list[dict[str, Any]]) -> str:
    from lion.discovery.search.evolution import Counters

    lines = [
        "| seed | programs | evaluated | diverged | cache hits | of them canonical only | redundant | invalid "
        "| CPU seconds | programs/s | evaluations/s | best on its own task |",
        "|---" * 12 + "|",
    ]
    for search in searches:
        measured = dict(search["measured"]["search"])
        best, _, cpu = (measured.pop(name) for name in ("best", "seconds", "cpu_seconds"))
        counters = Counters(**measured)
        shares = counters.shares()
        cells = [search["settings"]["seed"], counters.cycles, counters.evaluations]
        cells += [f"{counters.diverged / counters.evaluations:.1%}", f"{shares['cache_hits']:.1%}"]
        cells += [f"{counters.canonical_hits / counters.cycles:.1%}", f"{shares['redundant']:.1%}"]
        cells += [f"{shares['invalid']:.1%}", f"{cpu:.0f}", f"{counters.cycles / cpu:.0f}"]
        cells += [f"{counters.evaluations / cpu:.0f}", f"{best:.4f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _programs(searches: list[dict[str, Any]]) -> list[str]:
    return [
        f"Seed {search['settings']['seed']} (update x {search['scores']['search']['factor']:.3g}):\n\n"
        f"```python\n{search['scores']['search']['program'].strip()}\n```"
        for search in searches
    ]


def _signs(signs: list[dict[str, Any]]) -> list[str]:
    successes = [sign for sign in signs if sign["first"] is not None]
    momentum = sum(sign["first"]["remembers"] for sign in successes)
    lines = [
        "| seed | first sign-like best: evaluation | program | its update remembers earlier gradients "
        "| evaluations in all | CPU seconds in all | last best: spread of its sizes | remembers |",
        "|---" * 8 + "|",
    ]
    for sign in signs:
        first, measured, last = sign["first"], sign["measured"], sign["last"]
        at = [first["evaluation"], first["cycle"], _yes(first["remembers"])] if first else ["never", "-", "-"]
        cells = [sign["seed"], *at, measured["evaluations"], f"{measured['cpu_seconds']:.0f}"]
        cells += [last["spread"], _yes(last["remembers"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    text = [
        "The start is Lion without its `sign`, with one state, on digits whose features differ in size by up to 1,000 "
        "times. A program counts as a sign if its update's sizes spread by less than 15% across coordinates whose "
        "gradients span four decades, at the start of training, whatever it is written with. Found in "
        f"{len(successes)} of {len(signs)} searches; in {momentum} of them it was the sign of something that remembers "
        "earlier gradients, as Lion's is.",
        "\n".join(lines),
    ]
    if successes:
        sign = successes[0]
        text.append(
            f"The first one of seed {sign['seed']}, and its last best:\n\n```python\n{sign['first']['program']}```"
        )
        text.append(f"```python\n{sign['last']['program']}```")
    return text


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _funnel(funnel: dict[str, Any]) -> list[str]:
    floors, rungs = funnel["floors"], funnel["rungs"]
    passed = [result for result in floors[-1]["results"] if result["verdict"] == "passed"]
    if not passed:
        verdict = [f"Nothing passed {floors[-1]['rung']}, so nothing here is called discovered."]
    elif len(floors) < len(rungs):
        verdict = [f"{len(passed)} wait for {rungs[len(floors)]}, which was not run yet: nothing is called discovered."]
    else:
        verdict = [f"**Discovered:** {r['name']}.\n\n```python\n{r['program']}```" for r in passed]
    return [
        "Candidates of every search climb three tasks, each about ten times the work of the one before. To go on, one "
        "has to beat AdamW by two standard errors of the difference paired by seed, and on the last rung Lion, too. "
        "All are equally swept. Lower is better; an accuracy stands with its sign turned.",
        table(funnel),
        *verdict,
        "![Meta-overfitting](overfitting.svg)",
        _overfitting(floors[0]),
    ]


def _overfitting(floor: dict[str, Any]) -> str:
    from scripts.discovery.pictures import by_search

    shares = []
    for rows in by_search(floor["results"]).values():
        best = min((row for row in rows if row["mean"] is not None), key=lambda row: row["mean"], default=None)
        if best is not None:
            shares.append(best["progress"])
    listed = ", ".join(f"{share:.0%}" for share in shares)
    return f"The best on the first rung stood at these shares of its search: {listed}. Later ones fit their own task."


def _bench(bench: dict[str, Any]) -> str:
    lines = ["| what | measured |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in bench.items()])


def derivation() -> str:
    """Programs 8 and 4 simplified, every step with its cost and the program after it."""
    from lion.discovery.language.program import load, render
    from lion.discovery.simplification.rewriting import betas
    from scripts.discovery.programs import simplified

    parts = [
        "# From the raw program to Lion",
        "What `python scripts/discover.py simplify program8` does, with the program after each step. *exact*: the same "
        "bits. *within n ulp*: rounding, measured. *behavioural*: another computation that twelve paired trainings "
        "cannot tell apart. Nothing here was chosen by hand.",
    ]
    rewritten, ends = [], []
    for name in DERIVED:
        program = exact = load(name)
        parts += [f"## {name}: {len(program)} statements", f"```python\n{render(program)}```"]
        for step in simplified(program, exact=False):
            program = step.program
            exact = exact if step.tag == "behavioural" else program
            parts.append(f"**{len(program)} statements**, {step.rule} [{step.tag}]: {step.what}")
            parts.append(f"```python\n{render(program)}```")
        if (pair := betas(exact)) is not None:
            parts.append(
                f"Before anything was rounded, its averages have beta1 = {pair[0]:.6g} and beta2 = {pair[1]:.6g}. "
                "Lion's default of 0.99 is a product of rounded factors, 0.9 x 1.1; it is not what the search found."
            )
        rewritten.append(exact)
        ends.append(program)
    return "\n\n".join([*parts, "## One form", _one_form(rewritten, ends)]) + "\n"


def _one_form(rewritten: list[Program], ends: list[Program]) -> str:
    """Whether the programs meet, and whether they end as Program 1."""
    from lion.discovery.language.program import load

    def form(program: Program) -> list[tuple[str, str]]:
        return [(stmt.out, stmt.op) for stmt in program.stmts]

    met = "the same" if form(rewritten[0]) == form(rewritten[1]) else "not the same"
    lion = sorted([*(stmt.op for stmt in load("program1").stmts), "multiply"])
    alike = sum(sorted(stmt.op for stmt in end.stmts) == lion for end in ends)
    return (
        f"By rewriting alone, {' and '.join(DERIVED)} come to {met} {len(rewritten[0])} statements, constants aside. "
        f"After the bypasses, {alike} of {len(ends)} have the functions of Program 1 (Lion) and one multiplication "
        "more: the peak learning rate, which stands inside."
    )

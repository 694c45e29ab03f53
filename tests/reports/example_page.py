"""A results page of made-up numbers, for the tests of its looks and behaviour: nothing here was measured."""

import math
import random

from reports.page.content import (
    Block,
    Card,
    Cell,
    Column,
    CurveBlock,
    Effect,
    Effects,
    Fold,
    Forest,
    ForestLine,
    Heatmap,
    HeatmapBlock,
    ListBlock,
    Overview,
    Page,
    Row,
    Section,
    Series,
    TableBlock,
    Verdict,
    VerdictBlock,
    View,
)

OPTIMIZERS = ["adamw", "lion", "adafactor", "radam", "nadam", "adabelief", "amsgrad", "sgd", "lion (betas 0.9 0.9)"]
TASKS = ["digits", "glyphs", "stdlib"]
COLUMNS = [
    Column("optimizer", "text"),
    Column("lr", "number", "The chosen learning rate; † marks the smallest or largest tried."),
    Column("weight decay", "number"),
    Column("runs", "number", "All runs of the sweep, and those that diverged.", extra=True),
    Column("test", "number", "Mean over seeds [95% interval of Student's t]."),
    Column("test minus adamw", "number", "Mean over common seeds [95% interval of a paired t test]."),
    Column("steps to adamw's val", "number"),
    Column("optimizer state, MB", "number"),
    Column("verdict", "text"),
]


def example_page(tables: int = 3, curves: int = 3, seed: int = 0) -> Page:
    """Return a page with so many tables and curve blocks, spread over the tasks."""
    draw = random.Random(seed)
    sections = [Section("What the paper claims", "claims", ["Each claim, and what our runs say of it."], [_claims()])]
    for place in range(max(tables, curves)):
        task = TASKS[place % len(TASKS)]
        title = task if place < len(TASKS) else f"{task}, again ({place // len(TASKS)})"
        blocks = [_table(task, draw)] if place < tables else []
        blocks += [_curves(task, draw)] if place < curves else []
        blocks += [_heatmaps(task, draw)] if place == 0 else []
        text = [f"Made-up figures in place of a run of `python scripts/compare.py outputs task={task}`."]
        sections.append(Section(title.capitalize(), f"results-{place}", text, blocks))
    inside = [_table(TASKS[0], draw), _curves(TASKS[0], draw)]
    folds: list[Block] = [
        Fold("Folded", "task-digits", [*inside, Fold("Deeper", "deeper", [_heatmaps(TASKS[0], draw)])])
    ]
    sections.append(Section("Behind a click", "folded", [], folds))
    facts = [("Machine", "an example with 2 cores"), ("Versions", "torch 0.0.0"), ("Command", "`make example`")]
    listed = ListBlock("Made with", [*facts, ("Records", "2000-01-01")])
    sections.append(Section("How it was made", "provenance", [], [listed]))
    summary = ["A page of made-up numbers.", "It shows how the blocks look & behave, <b>nothing else</b>."]
    tables = [block for section in sections for block in section.blocks if isinstance(block, TableBlock)]
    runs = {run for table in tables for row in table.rows for cell in row.cells for run in cell.runs}
    commands = {run: f"python run.py task=example seed={number}" for number, run in enumerate(sorted(runs))}
    return Page("An example", summary, sections, _overview(), commands)


def _overview() -> Overview:
    cards = [Card("Tasks", "1 better", "Both `tuned`."), Card("State", "half", ""), Card("Step", "not timed", "Yet.")]
    lines = [
        ForestLine(f"Model on {task}", task, "task-digits", "accuracy", "96 vs 94%", "+2 points [+1, +3]", *place)
        for task, place in {
            "digits": (60.0, (55.0, 70.0), (50.0, 75.0), "better", 5, False),
            "glyphs": (30.0, (20.0, 45.0), (10.0, 48.0), "worse", 5, True),
            "stdlib": (50.0, (40.0, 60.0), (0.0, 100.0), "no difference shown", 3, False),
        }.items()
    ]
    others = [optim for optim in OPTIMIZERS[1:] if "(" not in optim]
    effects = [Effect(2.5 - number, "better" if number == 0 else "", number == 1, "in full") for number in range(7)]
    rows = [(f"Model on {task}", task, "task-digits", effects) for task in TASKS]
    ticks = [(0.0, "-10%"), (50.0, "0"), (100.0, "+10%")]
    plot = Forest("Lion minus AdamW", ticks, lines)
    return Overview("Yes, for memory.", cards, plot, Effects("By deviations", others, rows))


def _runs(draw: random.Random, count: int) -> list[str]:
    return [f"{draw.getrandbits(48):012x}" for _ in range(count)]


def _table(task: str, draw: random.Random) -> TableBlock:
    rows = []
    for optim in OPTIMIZERS:
        lr, decay, test = 10 ** draw.uniform(-5, -1), draw.choice([0.01, 0.1, 1.0]), draw.uniform(0.7, 0.95)
        half, gap, steps = draw.uniform(0.001, 0.02), draw.uniform(-0.05, 0.05), draw.randrange(200, 12_000)
        lost, ids = optim == "sgd", _runs(draw, 5)
        missing = Cell("-")
        difference = Cell(f"{gap:+.4f} [{gap - half:+.4f}, {gap + half:+.4f}]", gap, "paired over 5 seeds", ids)
        cells = [
            Cell(optim),
            Cell(f"{lr:.2g}", lr),
            Cell(f"{decay:g}", decay),
            Cell("24 (3 diverged)" if lost else "24", 24.0, runs=_runs(draw, 24)),
            missing if lost else Cell(f"{test:.4f} [{test - half:.4f}, {test + half:.4f}]", test, runs=ids),
            Cell("reference", math.nan) if optim == "adamw" else missing if lost else difference,
            Cell("not reached", math.inf) if optim == "radam" else Cell(f"{steps:,} ({9000 / steps:.2f}×)", steps),
            Cell("1.6" if optim == "lion" else "3.2", 1.6 if optim == "lion" else 3.2),
            Cell("no difference shown" if abs(gap) < half else "higher" if gap > 0 else "lower"),
        ]
        rows.append(Row(cells, optim, task))
    caption = f"{task}: every optimizer at its own best setting, `scale=embedded`, 12,000 steps of 64"
    return TableBlock(caption, COLUMNS, rows, ["†: the smallest or largest value tried; a better one may lie beyond."])


def _curves(task: str, draw: random.Random) -> CurveBlock:
    steps, seconds = [], []
    for optim in OPTIMIZERS:
        rate, floor, pace = draw.uniform(1.5, 5), draw.uniform(0.2, 0.5), draw.uniform(0.02, 0.05)
        grid = [float(step) for step in range(300, 12_001, 300)]
        loss = [floor + 2.1 * math.exp(-rate * step / 12_000) + draw.gauss(0, 0.006) for step in grid]
        low, high = ([value * (1 + sign * 0.03) for value in loss] for sign in (-1, 1))
        for pile, scale in ((steps, 1.0), (seconds, pace)):
            points = [(step * scale, value) for step, value in zip(grid, loss, strict=True)]
            pile.append(Series(optim, f"{optim}, lr {draw.choice([1e-4, 3e-4, 1e-3]):g}", points, low, high, task))
            if optim == "sgd":
                path = [(step * scale, 2.0 * 1.6**place) for place, step in enumerate(grid[:8])]
                end = [(path[-1][0] + 90 * scale, 90.0)]
                pile.append(Series(optim, "sgd, lr 0.1, diverged", path, task=task, stops=end))
    views = [View("training step", steps), View("time since the start of the run, s", seconds)]
    return CurveBlock(f"{task}: validation loss while training", "validation loss", views, target=0.52)


def _heatmaps(task: str, draw: random.Random) -> HeatmapBlock:
    panels = []
    for optim in OPTIMIZERS[:4]:
        xs, ys = [1e-4, 3e-4, 1e-3, 3e-3, 1.8e-3, 0.01], [0.01, 0.1, 1.0]
        values: list[list[float | None]] = [[draw.uniform(0.6, 0.95) for _ in xs] for _ in ys]
        values[2][3], values[0][0] = None, None
        panels.append(Heatmap(optim, xs, ys, values, (1, 2), [(2, 3)], optim, task))
    return HeatmapBlock(f"{task}: validation accuracy over the sweep", "learning rate", "weight decay", panels)


def _claims() -> VerdictBlock:
    return VerdictBlock(
        [
            Verdict(
                "Lion needs a smaller learning rate than AdamW",
                "section 5",
                "supported",
                "3 of 3 tasks.",
                "sweep_lr",
                "for: it is smaller",
                ["3 for, 1 against, of 4 pairs", "Cited: " + "a long sentence of another study " * 5],
            ),
            Verdict(
                "Lion gains more with a larger batch", "Figure 4", "not shown", "The intervals contain 0.", "batch"
            ),
            Verdict("Lion halves the state of the optimizer", "section 3.2", "contradicted", "It is made up.", "state"),
            Verdict("Lion lowers the FID of diffusion", "Figure 1", "not run", "Needs `scale=paper`.", ""),
        ]
    )

"""Fill the results page from tables, curves and verdicts: the answer first, then the evidence by family."""

from __future__ import annotations

from collections.abc import Sequence

from reports.number_format import short_number, slugs
from reports.page import content as page
from reports.page.claim_blocks import claim_section
from reports.page.curve_blocks import batch_size_curves, training_curves, trial_curves
from reports.page.heatmap_blocks import setting_maps
from reports.page.overview import overview
from reports.page.run_commands import commands
from reports.page.table_blocks import grid_block, table_block
from reports.results import Results, facts, suggested, tuning_curves
from reports.tables.answer import name as spoken
from reports.tables.answer import pair
from reports.tables.comparison import Table, batch_groups
from reports.tables.names import families, family_of, metric_name, task_name
from reports.tables.overviews import paper_grid, ranks_grid, speed_grid, survival_grid
from reports.tables.paper_comparison import PaperComparison, paper_comparisons
from reports.tables.render import caption, heading
from reports.tables.setting_transfer import transfer_grid
from reports.tables.units import difference, unit_of


def build(results: Results) -> page.Page:
    """Return the whole page."""
    tasks = [table.comparison.task for table in results.main]
    assert len(set(tasks)) == len(tasks), "one main comparison a task"
    anchors = {task: f"task-{slug}" for task, slug in slugs(tasks).items()}
    papers = paper_comparisons(results.tables)
    measured = [entry for entry in papers if entry.tables]
    sections = []
    for family in families():
        tables = [table for table in results.main if family_of(table.comparison.task) == family]
        blocks: list[page.Block] = [_task(table, results, anchors[table.comparison.task]) for table in tables]
        of_family = [entry for entry in measured if family_of(entry.tables[0].comparison.task) == family]
        blocks += _paper(of_family, results, "The paper's figures beside ours", f"paper-{_slug(family)}")
        if tables:
            sections.append(page.Section(family, _slug(family), [], blocks))
    optimizers = set(results.runs["optim"])
    ranks = [ranks_grid(results.main), ranks_grid(results.field)]
    grids = [*ranks, transfer_grid(results.transfer, suggested), speed_grid(results.speeds)]
    over: list[page.Block] = [grid_block(grid, optimizers) for grid in grids if grid]
    if over:
        sections.append(page.Section("Over all tasks", "all-tasks", [], over))
    sections.append(claim_section(results))
    alone = [entry for entry in papers if not entry.tables]
    stated = page.ListBlock("Machine, versions and commands", facts(results))
    rest = _paper(alone, results, "The paper's tables of which nothing has run here", "paper-alone")
    sections.append(page.Section("How it was made", "provenance", [], [stated, *rest]))
    return page.Page(
        title=results.about["title"],
        summary=list(results.about["text"]),
        sections=sections,
        overview=overview(results, anchors),
        commands=commands(results.tables, results.about.get("overrides", {})),
    )


def _slug(text: str) -> str:
    return text.lower().replace(" ", "-")


def _task(table: Table, results: Results, anchor: str) -> page.Fold:
    task = table.comparison.task
    blocks: list[page.Block] = []
    if curves := training_curves(table):
        blocks.append(curves)
    blocks.append(table_block(table, f"{caption(table)}. {_compared(table)}"))
    if maps := setting_maps(table):
        blocks.append(maps)
    others = [each for each in results.tables if each.comparison.task == task and each is not table]
    groups = [group for group in batch_groups(results.tables) if group[0].comparison.task == task]
    further: list[page.Block] = [batch_size_curves(group) for group in groups]
    further += [table_block(each, f"{_differs(each)}: {caption(each).lower()}") for each in others]
    if further:
        blocks.append(page.Fold("Variants, batch sizes and other conditions", f"{anchor}-variants", further, task=task))
    if trials := tuning_curves(table):
        blocks.append(page.Fold("What tuning buys", f"{anchor}-trials", [trial_curves(table, trials)], task=task))
    about: list[page.Block] = [
        page.ListBlock("What the runs have in common", _in_common(table)),
        grid_block(survival_grid([table]), set(results.runs["optim"])),
    ]
    blocks.append(page.Fold("Model, data and runs that diverged", f"{anchor}-provenance", about, task=task))
    note, verdict = _result(table)
    return page.Fold(task_name(table.comparison), anchor, blocks, note, verdict, task)


def _differs(table: Table) -> str:
    """Name what distinguishes a task's further table from its main one."""
    return ", ".join(filter(None, [heading(table).split(" · ")[3], table.note]))


def _compared(table: Table) -> str:
    direction = {"max": "higher is better", "min": "lower is better"}.get(table.comparison.goal or "", "")
    return f"{table.split.title()} {metric_name(table.comparison)}{f', {direction}' if direction else ''}"


def _result(table: Table) -> tuple[str, str]:
    """Return a line on the subject and the reference, and the verdict."""
    rows = pair(table)
    if rows is None:
        return f"{table.comparison.task} · {len(table.rows)} optimizer{'s' if len(table.rows) > 1 else ''}", ""
    unit = unit_of(table)
    figures = [
        f"{spoken(row.optim)} {unit.figure(*row.compared(table.split))} (lr {_chosen(row.lr, row.lr_on_border)}, "
        f"weight decay {_chosen(row.weight_decay, row.weight_decay_on_border)})"
        for row in rows
    ]
    words = f"{table.comparison.task} · {metric_name(table.comparison)}: {', '.join(figures)}"
    return f"{words}; difference {difference(rows[0], table)}", rows[0].verdict


def _chosen(value: float, on_border: bool) -> str:
    return short_number(value) + "†" * on_border


def _in_common(table: Table) -> list[tuple[str, str]]:
    names = ("scale", "model", "data", "length", "metric", "differs in")
    parts = heading(table).split(" · ")
    return [(name, part.removeprefix(f"{name} ")) for name, part in zip(names, parts, strict=False)]


def _paper(entries: Sequence[PaperComparison], results: Results, title: str, anchor: str) -> list[page.Block]:
    optimizers = set(results.runs["optim"])
    blocks: list[page.Block] = [grid_block(paper_grid(entry), optimizers) for entry in entries]
    return [page.Fold(title, anchor, blocks)] if blocks else []

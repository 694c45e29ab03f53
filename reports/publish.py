"""Write all published files from records: tables, figures, claims, page. The same records give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reports.claims.evaluation import claims_grid
from reports.number_format import slugs
from reports.page import sections
from reports.page.render import render_page
from reports.plots import curves, forest, setting_transfer, tuning
from reports.protocol import NEEDED, REFERENCE, SUBJECT
from reports.results import Results, facts, suggested, tuning_curves
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables import overviews
from reports.tables.answer import headline
from reports.tables.comparison import batch_groups
from reports.tables.interval_widths import interval_widths
from reports.tables.overviews import Grid
from reports.tables.paper_comparison import paper_comparisons
from reports.tables.render import to_csv, to_latex, to_markdown
from reports.tables.setting_transfer import transfer_grid


def write_all(results: Results, folder: Path) -> list[Path]:
    """Write every published file under `folder`; returns their paths."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    texts = {
        "README.md": readme(results),
        "tables.md": to_markdown(results.tables),
        "tables.csv": to_csv(results.tables),
        "tables.tex": to_latex(results.tables),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    written = [*(folder / name for name in texts), write_page(results, folder)]
    names = sorted(results.runs["optim"].unique())
    written += write_pictures(results, folder / "figures", names, SUBJECT, formats=("svg",))
    stems = slugs(table.comparison.task for table in results.tables)
    for table in results.main:
        stem = f"trials-{stems[table.comparison.task]}"
        written += tuning.write_tuning_curves(table, tuning_curves(table), folder / "figures", stem, names, SUBJECT)
    memory = speed_memory(results)
    return written + tuning.write_speed_memory(memory, folder / "figures", "speed-memory", REFERENCE, SUBJECT)


def write_page(results: Results, folder: Path) -> Path:
    """Write the page."""
    path = folder / "index.html"
    path.write_text(render_page(sections.build(results)), encoding="utf-8", newline="\n")
    return path


def write_pictures(
    results: Results, folder: Path, names: Iterable[str], highlight: str, formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Write curves and heatmaps of each task, and metric against batch size where several were run.

    `names` are all optimizers of the records, so that each has the same colour in all figures.
    """
    names = list(names)
    stems = slugs(table.comparison.task for table in results.tables)
    written = forest.write_forest(results.main, highlight, folder, "forest", formats)
    written += curves.write_curves(results.tables, folder, names, highlight, formats)
    for table in results.main:
        written += tuning.write_heatmaps(table, folder, f"heatmaps-{stems[table.comparison.task]}", formats)
    for group in batch_groups(results.tables):
        stem = f"batch-size-{stems[group[0].comparison.task]}"
        written += tuning.write_batch_sizes(group, folder, stem, names, highlight, formats)
    return written + setting_transfer.write_transfer(results.transfer, suggested, folder, "transfer", formats)


def speed_memory(results: Results) -> pd.DataFrame:
    """Return speed over the reference's and bytes of state a trained parameter, a row an optimizer on a task."""
    timed = results.speeds[results.speeds["task"].isin([table.comparison.task for table in results.main])]
    timed = timed[timed["ratio"].notna() & timed["trained_parameters"].notna()]
    labels = timed["optim"].where(timed["step"] == "plain", timed["optim"] + " (" + timed["step"] + ")")
    frame = timed[["task", "optim", "ratio", "low", "high"]].assign(
        bytes_per_parameter=timed["state_bytes"] / timed["trained_parameters"]
    )
    frame = frame.assign(optim=labels)
    return frame.sort_values(["task", "optim"], ignore_index=True)


def all_grids(results: Results) -> list[Grid]:
    """Return the tables over several comparisons."""
    grids = [overviews.ranks_grid(results.main), overviews.ranks_grid(results.field)]
    grids += [overviews.paper_grid(entry) for entry in paper_comparisons(results.tables)]
    grids += [transfer_grid(results.transfer, suggested)]
    grids += [overviews.speed_grid(results.speeds)]
    grids += [overviews.survival_grid(results.tables)]
    return [grid for grid in grids if grid is not None]


def readme(results: Results) -> str:
    """Return the overview as Markdown: what came out, how it was made, claims, and tables over all tasks."""
    parts = [f"# {results.about['title']}", headline(results.main)]
    parts.append(f"![{SUBJECT} minus {REFERENCE} on each task, with intervals](figures/forest.svg)")
    parts += [*results.about["text"], "## What came out"]
    parts.append(_list(overviews.summary_lines(results.tables, SUBJECT)))
    parts.append(
        f"“{NO_DIFFERENCE}” does not mean equal: the 95% interval holds zero. Below {NEEDED} there is no verdict."
    )
    parts.append(interval_widths(results.main))
    parts += ["## How it was made", _list(f"{name}: {value}" for name, value in facts(results))]
    parts += ["## Claims", overviews.to_markdown(claims_grid(results.verdicts, results.others))]
    parts += ["## Tables over all tasks", *(overviews.to_markdown(grid) for grid in all_grids(results))]
    if results.transfer:
        parts.append("![how the best settings move with width, steps and batch size](figures/transfer.svg)")
    parts.append("Each task's own table: [tables.md](tables.md). Figures: [figures](figures). Page: index.html.")
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _list(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)

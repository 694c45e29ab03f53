"""Write all published files from records: tables, figures, claims, page. The same records give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reports import claims, curves, figures, grids, site
from reports.beside import beside, main_tables
from reports.grids import Grid
from reports.landscape import read_landscape
from reports.page.render import render_page
from reports.protocol import NEEDED
from reports.records import read_records
from reports.render import to_csv, to_latex, to_markdown
from reports.speeds import read_speeds
from reports.statistics import NO_DIFFERENCE
from reports.table import Table, build_tables
from reports.tuning_curves import tuning_curve
from reports.wording import slugs

REFERENCE, HIGHLIGHT = "adamw", "lion"


@dataclass(frozen=True)
class Results:
    """Everything that tables, figures and the page are made from."""

    runs: pd.DataFrame
    speeds: pd.DataFrame
    reference: str
    tables: list[Table]
    main: list[Table]  # one a task, that of most optimizers
    verdicts: list[claims.Verdict]
    about: dict[str, Any]
    problems: list[str]


def read_results(folder: Path) -> Results:
    """Read the records, timings and facts under a folder."""
    records = read_records([folder / "records"])
    about = yaml.safe_load((folder / "about.yaml").read_text(encoding="utf-8"))
    speeds, landscape = read_speeds([folder / "speed"]), read_landscape([folder / "landscape"])
    return compared(records.runs, speeds, REFERENCE, about, records.problems, landscape)


def compared(
    runs: pd.DataFrame,
    speeds: pd.DataFrame,
    reference: str,
    about: dict[str, Any] | None = None,
    problems: Sequence[str] = (),
    landscape: pd.DataFrame | None = None,
) -> Results:
    """Compare runs; `about` has a title, text (lines) and facts (names and values)."""
    tables = build_tables(runs, reference, speeds)
    verdicts = claims.evaluate(tables, speeds, landscape)
    about = about or {"title": "Comparison of optimizers", "text": [], "facts": {}}
    return Results(runs, speeds, reference, tables, main_tables(tables), verdicts, about, list(problems))


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
    written += write_pictures(results, folder / "figures", names, HIGHLIGHT, formats=("svg",))
    stems = slugs(table.comparison.task for table in results.tables)
    for table in results.main:
        stem = f"trials-{stems[table.comparison.task]}"
        written += figures.write_tuning_curves(table, tuning_curves(table), folder / "figures", stem, names, HIGHLIGHT)
    memory = speed_memory(results)
    return written + figures.write_speed_memory(memory, folder / "figures", "speed-memory", REFERENCE, HIGHLIGHT)


def write_page(results: Results, folder: Path) -> Path:
    """Write the page."""
    path = folder / "index.html"
    path.write_text(render_page(site.build(results)), encoding="utf-8", newline="\n")
    return path


def write_pictures(
    results: Results, folder: Path, names: Iterable[str], highlight: str, formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Write curves and heatmaps of each task, and metric against batch size where several were run.

    `names` are all optimizers of the records, so that each keeps its colour from one figure to another.
    """
    names = list(names)
    stems = slugs(table.comparison.task for table in results.tables)
    written = curves.write_curves(results.tables, folder, names, highlight, formats)
    for table in results.main:
        written += figures.write_heatmaps(table, folder, f"heatmaps-{stems[table.comparison.task]}", formats)
    for group in figures.batch_groups(results.tables):
        stem = f"batch-size-{stems[group[0].comparison.task]}"
        written += figures.write_batch_sizes(group, folder, stem, names, highlight, formats)
    return written


def tuning_curves(table: Table) -> dict[str, pd.DataFrame]:
    """Return the expected best of k trials of each optimizer with more than one trial."""
    swept = [contender for contender in table.comparison.contenders if len(contender.settings) > 1]
    known = [contender.settings["final"].dropna() for contender in swept]
    if not any(len(finals) for finals in known):
        return {}
    goal, finals = table.comparison.goal or "max", pd.concat(known)
    worst, best = finals.min(), 1.0 if finals.between(0, 1).all() else None  # between 0 and 1: taken for shares
    if goal == "min":
        worst, best = finals.max(), 0.0 if finals.min() >= 0 else None
    return {
        c.label: tuning_curve(c.settings["final"], goal, range(1, len(c.settings) + 1), worst=float(worst), best=best)
        for c in swept
    }


def speed_memory(results: Results) -> pd.DataFrame:
    """Return speed over the reference's and bytes of state a parameter, a row an optimizer on a task."""
    parameters = {table.comparison.task: table.comparison.num_parameters for table in results.main}
    known = results.speeds[results.speeds["task"].isin(list(parameters))]
    known = known[known["ratio"].notna()]
    sizes = known["task"].map(parameters).astype(float)
    labels = known["optim"].where(known["step"] == "plain", known["optim"] + " (" + known["step"] + ")")
    frame = known[["task", "optim", "ratio", "low", "high"]].assign(bytes_per_parameter=known["state_bytes"] / sizes)
    frame = frame.assign(optim=labels)
    return frame.sort_values(["task", "optim"], ignore_index=True)


def all_grids(results: Results) -> list[Grid]:
    """Return the tables that are not of one comparison alone."""
    found = [grids.ranks_grid(results.main)]
    found += [grids.beside_grid(entry) for entry in beside(results.tables)]
    found += [grids.speed_grid(results.speeds, results.main)]
    found += [grids.survival_grid(results.tables)]
    return [grid for grid in found if grid is not None]


def readme(results: Results) -> str:
    """Return the overview as Markdown: what came out, how it was made, claims, and tables over all tasks."""
    parts = [f"# {results.about['title']}", *results.about["text"], "## What came out"]
    parts.append(_list(grids.summary_lines(results.tables, HIGHLIGHT)))
    parts.append(
        f"“{NO_DIFFERENCE}” does not mean equal: the 95% interval, simultaneous for all rivals of a table, holds zero. "
        f"Below {NEEDED} there is no verdict."
    )
    parts += ["## How it was made", _list(f"{name}: {value}" for name, value in facts(results))]
    parts += ["## Claims", grids.to_markdown(grids.claims_grid(results.verdicts))]
    parts += ["## Tables over all tasks", *(grids.to_markdown(grid) for grid in all_grids(results))]
    parts.append("Each task's own table: [tables.md](tables.md). Figures: [figures](figures). Page: index.html.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def facts(results: Results) -> list[tuple[str, str]]:
    """Say with what the records were made."""
    given = [(str(name), str(value)) for name, value in results.about["facts"].items()]
    commits = sorted({str(commit)[:10] for commit in results.runs["git_commit"].dropna()})
    return [*given, ("runs", f"{len(results.runs):,}"), ("commits of the code", ", ".join(commits))]


def _list(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)

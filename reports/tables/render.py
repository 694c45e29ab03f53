"""Print the comparison tables: for the terminal (rich), as Markdown and as CSV.

The same records give the same bytes: nothing here depends on the time, the machine or the order of reading.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from recipes.figure_format import Unit
from reports.number_format import NONE, laid_out, short_count, short_number
from reports.protocol import FRESH_SEEDS, SUBJECT, TRIAL_SEEDS_FROM, TRIALS
from reports.statistics.intervals import NO_DIFFERENCE
from reports.statistics.selection import SETTING, Comparison
from reports.tables.comparison import FIELD, Row, Table, to_frame
from reports.tables.units import difference, unit_of

DIRECTION = {"max": "higher is better", "min": "lower is better"}
IN_TIME = "val in the time of {}'s full run"
# Names of metrics in words, if the bare name could be mistaken for another metric.
MEANING = {"frechet_own_features": "Fréchet distance, our classifier's features: no FID"}


def heading(table: Table) -> str:
    """Return the heading of a table: scale, model, data, steps and metric of its runs."""
    c = table.comparison
    model = f"model {c.model or 'unknown'}" + (f" ({c.model_args})" if c.model_args else "")
    model += ", unknown size" if c.num_parameters is None else f", {short_count(c.num_parameters)} parameters"
    fingerprint = re.sub(r"\b([0-9a-f]{6})[0-9a-f]+\b", r"\1", c.data_fingerprint or "")
    data = f"data {c.data or 'unknown'}" + (f" ({fingerprint})" if fingerprint else "")
    data += f", augment {c.augment}" if c.augment else ""
    meaning = MEANING.get((c.metric or "").removeprefix("ema_"))
    metric = f"metric {c.metric or 'unknown'}" + (f" ({meaning})" if meaning else "")
    metric += f", {DIRECTION.get(c.goal or '', 'direction unknown')}"
    parts = [f"scale {c.scale or 'unknown'}", model, data, _length(c), metric]
    return " · ".join([*parts, table.note] if table.note else parts)


def caption(table: Table) -> str:
    """Return the caption of a table: settings tuned by the protocol, or the runs so far."""
    if table.tuned:
        return "Tuned settings on fresh seeds"
    some = any(not row.untuned for row in table.rows)
    return f"Runs so far: {'tuned and ' if some else ''}untuned settings"


def titles(tables: Sequence[Table]) -> list[str]:
    """Name each table by its task, and by its difference to the others if the task has several tables."""
    count = Counter(table.comparison.task for table in tables)
    return [_title(table, several=count[table.comparison.task] > 1) for table in tables]


def _title(table: Table, several: bool) -> str:
    c = table.comparison
    return ", ".join([c.task, _length(c), *([table.note] if table.note else [])]) if several else c.task


def cells(table: Table) -> pd.DataFrame:
    """Return the cells of a table as texts, markers included."""
    unit = unit_of(table)
    timed = any(row.timed_step for row in table.rows)
    return pd.DataFrame(
        {
            "optimizer": row.optim + (" untuned" if row.untuned else ""),
            "test": unit.figure(*row.compared("test")),
            f"{table.split} minus {table.reference}": _difference(row, table),
            "val": unit.figure(*row.compared("val")),
            **({IN_TIME.format(table.reference): _in_time(row, unit)} if table.part == FIELD else {}),
            "lr": short_number(row.lr) + _mark(row.lr_on_border, "†"),
            "weight decay": short_number(row.weight_decay) + _mark(row.weight_decay_on_border, "†"),
            "seeds": f"{row.seeds}"
            + _mark(not row.fresh and row.trials > 1, "◊")
            + _mark(row.repeated, "‡")
            + _mark(row.diverged_there > 0, "✗"),
            "trials": f"{row.trials}" + _mark(row.trials < row.most_trials, f"<{row.most_trials}"),
            "runs": _runs(row),
            f"steps to {table.reference}'s val": _target(row, table),
            **(_timed(row, table) if timed else {}),
            "optimizer state, MB": short_number(row.optimizer_state_bytes / 1e6),
        }
        for row in table.rows
    )


def legend(table: Table) -> list[str]:
    """Explain the columns, and each marker that occurs in the table."""
    rows, best = table.rows, {"max": "highest", "min": "lowest"}.get(table.comparison.goal or "", "best")
    kept = f"trials (seeds from {TRIAL_SEEDS_FROM} on)" if any(row.fresh for row in rows) else "seeds"
    lines = [
        f"lr and weight decay: the setting with the {best} mean val over {kept}, whatever its test value. "
        "val, test: mean over the seeds at that setting ± half its 95% interval (Student's t over seeds).",
    ]
    if any(not math.isnan(row.difference) for row in rows):
        counts = {row.family: row.comparisons for row in rows if row.family}
        names = {"primary": SUBJECT, "rivals": "other optimizers", "field": "field of 2026", "variants": "variants"}
        numbers = [f"{names[family]} {k}" for family, k in counts.items() if k]
        lines.append(
            f"{table.split} minus {table.reference}: mean over common seeds [95% interval of a paired t test over "
            "seeds, not over test examples, that allows for the choice of settings, simultaneous over the comparisons "
            f"of a family by Bonferroni (comparisons: {', '.join(numbers)}); {NONE} below two common seeds]."
        )
    elif not any(row.is_reference for row in rows):
        kinds = [row.optim for row in rows if row.optim.startswith(f"{table.reference} (")]
        lines.append(
            f"No row is called {table.reference!r}, so no differences are shown"
            + (f"; to choose one: --reference {kinds[0]!r}, or {' or '.join(map(repr, kinds[1:]))}." if kinds else ".")
        )
    if not math.isnan(table.target):
        lines.append(
            f"steps to {table.reference}'s val: where the mean validation curve first reaches {table.reference}'s "
            f"final {unit_of(table).figure(table.target)}, between evaluations on a straight line (times fewer than "
            f"{table.reference}'s); every run has the same length."
        )
    if table.part == FIELD:
        lines.append(
            f"{IN_TIME.format(table.reference)}: between evaluations on a straight line, where that time ends by the "
            "measured steps/s, each with its fastest kind of step; of one that is no slower, at its own end. Its "
            "schedule has not ended there, so a run made for that length may do better. Not measured: scripts/speed.py "
            f"has not timed it beside {table.reference} here."
        )
    if any(row.timed_step for row in rows):
        lines.append(
            f"steps/s: over {table.reference}'s with the same kind of step, which is named [quartiles]; optimizer "
            "step: the step alone. Timed in turn in one process."
        )
    lines.append("optimizer state: median over the runs that completed or diverged. 1 MB = 10⁶ bytes.")
    variants = sorted(f"{row.optim}: {row.variant}" for row in rows if row.variant)
    markers: list[tuple[str, str, Callable[[Row], bool]]] = [
        ("†", "open: no setting was tried on one side of it, so a better one may lie there", lambda r: r.open),
        ("n<k", "n settings tried, where a rival got k", lambda r: r.trials < r.most_trials),
        (
            "untuned",
            f"fewer than {TRIALS} trials or {FRESH_SEEDS} fresh seeds, so no verdict is given",
            lambda r: r.untuned,
        ),
        ("◊", "the setting was chosen on the same seeds, which flatters val", lambda r: not r.fresh and r.trials > 1),
        ("✗", "runs at this setting diverged; the mean is over the others", lambda r: r.diverged_there > 0),
        ("‡", "a seed was run more than once with other options; averaged by seed", lambda r: r.repeated),
        (
            NO_DIFFERENCE,
            "the interval contains zero, or all seeds differ by just as much",
            lambda r: r.verdict == NO_DIFFERENCE,
        ),
    ]
    if variants:
        lines.append("As they ran: " + "; ".join(variants) + ".")
    return lines + [f"{mark}: {words}." for mark, words, occurs in markers if any(map(occurs, rows))]


def stopped(table: Table) -> list[str]:
    """Name each setting at which runs did not complete, with how many, when and why."""
    lines = []
    for contender in table.comparison.contenders:
        others = contender.runs[contender.runs["status"] != "completed"]
        for (_, _, status), runs in others.groupby([*SETTING, "status"], dropna=False):
            steps = runs["diverged_step"].dropna()
            when = "" if steps.empty else f" at step {steps.min()}"
            when += f" to {steps.max()}" if steps.nunique() > 1 else ""
            causes = sorted({" ".join(cause.split())[:100] for cause in runs["cause"].dropna()})
            why = f" ({'; '.join(causes[:3])})" if causes else ""
            setting = runs[SETTING].iloc[0].map(short_number)
            where = f"{contender.label}, lr {setting['lr']}, weight decay {setting['weight_decay']}"
            lines.append(f"{where}: {len(runs)} {status}{when}{why}")
    return lines


def to_markdown(tables: Sequence[Table]) -> str:
    """Return the tables as one Markdown page, with the runs behind each row."""
    parts = ["# Comparison of optimizers"]
    for table, title in zip(tables, titles(tables), strict=True):
        parts += [f"## {plain(title)}", plain(heading(table))]
        if not table.tuned:
            parts.append(f"{caption(table)}.")
        shown = cells(table).map(plain)
        parts.append(tabulate(shown, headers="keys", showindex=False, tablefmt="pipe", disable_numparse=True))
        parts.append(_list(legend(table)))
        if lines := stopped(table):
            parts += ["Runs that did not complete:", _list(lines)]
        if behind := [f"{row.optim}: {row.run_ids}" for row in table.rows if row.run_ids]:
            parts += ["Runs behind each row, by run id:", _list(behind)]
    return "\n\n".join(parts) + "\n"


def to_latex(tables: Sequence[Table]) -> str:
    """Return the tables as LaTeX for the package booktabs, each in a table environment with its caption."""
    parts = []
    for table in tables:
        grid = tabulate(cells(table), headers="keys", showindex=False, tablefmt="latex_booktabs", disable_numparse=True)
        untuned = "" if table.tuned else f" {caption(table)}."
        words = _latex(f"{table.comparison.task}. {heading(table)}.{untuned} {' '.join(legend(table))}")
        parts.append(
            "\\begin{table}\n\\centering\\footnotesize\n"
            + _latex_signs(grid)
            + f"\n\\caption{{{words}}}\n\\end{{table}}\n"
        )
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(parts)


def to_csv(tables: Sequence[Table]) -> str:
    """Return all rows as CSV: every number in full, the markers as columns of their own."""
    return to_frame(tables).to_csv(index=False, lineterminator="\n")


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print the tables to a terminal, as blocks of lines if it is too narrow; long lines are wrapped."""
    for table, title in zip(tables, titles(tables), strict=True):
        shown = cells(table)
        console.print(Text(title, style="bold"))
        console.print(Text(heading(table)))
        if not table.tuned:
            console.print(Text(f"{caption(table)}."))
        _print_rows(shown, console)
        for line in legend(table):
            console.print(Text(line, style="dim"))
        console.print()


def _print_rows(shown: pd.DataFrame, console: Console) -> None:
    rows = [{str(name): str(text) for name, text in row.items()} for row in shown.to_dict("records")]
    names = [str(name) for name in shown]
    words = [[word for text in (name, *(row[name] for row in rows)) for word in text.split()] for name in names]
    if sum(max(map(len, of_column)) + 1 for of_column in words) > console.width:
        for line in laid_out(rows, width=0):
            console.print(Text(line))
    else:
        grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in shown.columns:
            side: Literal["left", "right"] = "left" if name in ("optimizer", "runs") else "right"
            grid.add_column(Text(name.replace(" ", "\n", 1)), justify=side, overflow="fold")
        for values in shown.itertuples(index=False):
            grid.add_row(*(Text(_stacked(str(value))) for value in values))
        console.print(grid)


def _target(row: Row, table: Table) -> str:
    if math.isnan(row.target_step):
        return NONE
    if math.isinf(row.target_step):
        return "not reached"
    return f"{row.target_step:,.0f}" + ("" if row.is_reference else f" ({row.speedup:.2f}×)")


def _in_time(row: Row, unit: Unit) -> str:
    """Return the validation figure at equal time, and the step where that is."""
    if math.isnan(row.in_time_step):
        return "not measured"
    figure = unit.figure(row.in_time_mean, row.in_time_low, row.in_time_high)
    return figure if figure == NONE else f"{figure} (step {row.in_time_step:,.0f})"


def _timed(row: Row, table: Table) -> dict[str, str]:
    """Return the cells of what was timed in turn."""
    ratio = NONE
    if not math.isnan(row.speed_ratio):
        quartiles = "" if row.is_reference else f" [{row.speed_low:.3f}, {row.speed_high:.3f}]"
        ratio = f"{'1' if row.is_reference else f'{row.speed_ratio:.3f}'} {row.timed_step}{quartiles}"
    return {f"steps/s over {table.reference}'s": ratio, "optimizer step, ms": short_number(row.optimizer_step_ms)}


def _difference(row: Row, table: Table) -> str:
    if row.is_reference:
        return "reference"
    return f"{difference(row, table)} {row.verdict}".rstrip()


def _runs(row: Row) -> str:
    counts = {"diverged": row.diverged, "failed": row.failed, "interrupted": row.interrupted}
    others = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{row.runs} ({others})" if others else f"{row.runs}"


def _mark(occurs: bool, mark: str) -> str:
    return mark if occurs else ""


def _stacked(text: str) -> str:
    """Put intervals and counts on separate lines, so that the table is as narrow as possible."""
    return re.sub(r" (?=[\[(]\S)|(?<=[a-z],) (?=\d)", "\n", text)


def plain(text: str) -> str:
    """Escape a text for Markdown."""
    return re.sub(r"([|*_`\\]|<(?=[A-Za-z/!]))", r"\\\1", text)


def _latex(text: str) -> str:
    """Escape a text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return _latex_signs("".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text))


def _latex_signs(text: str) -> str:
    """Replace characters that LaTeX's fonts lack by commands."""
    signs = {"†": r"$\dagger$", "‡": r"$\ddagger$", "◊": r"$\diamond$", "✗": r"$\times$", "×": r"$\times$"}
    signs |= {"·": r"$\cdot$", "⁶": "$^6$", "<": "$<$", "±": r"$\pm$"}
    return "".join(signs.get(character, character) for character in text)


def _length(comparison: Comparison) -> str:
    steps = "unknown steps" if comparison.steps is None else f"{comparison.steps:,} steps"
    return steps + ("" if comparison.batch_size is None else f" of {comparison.batch_size:,}")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)

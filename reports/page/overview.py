"""The first screen: the answer, three cards, the forest plot, and the effects of all optimizers on all tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reports.page import content as page
from reports.plots.forest import LINEAR, TICKS, ForestRow, forest_rows, reach_of
from reports.protocol import NEEDED, SUBJECT
from reports.results import Results
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables.answer import count, headline, name, pair, state_share
from reports.tables.comparison import Row, Table
from reports.tables.names import metric_name, task_name
from reports.tables.render import DIRECTION
from reports.tables.units import difference, unit_of


def overview(results: Results, anchors: Mapping[str, str]) -> page.Overview:
    """Return the first screen; `anchors` are those of the tasks on the page."""
    cards = [_verdicts(results), _state(results), _step_time(results)]
    return page.Overview(headline(results.main), cards, _forest(results, anchors), _effects(results, anchors))


def _verdicts(results: Results) -> page.Card:
    counts = count(results.main)
    figure = f"{counts.better} better · {counts.neither} no difference · {counts.worse} worse"
    words = f"{name(SUBJECT)} against {name(results.reference)}, both tuned on validation"
    if counts.open:
        words += f"; on {counts.open} a wider grid may change it (○)"
    if not counts.total:
        return page.Card("Tasks", "no verdict yet", f"a verdict takes {NEEDED} of both")
    return page.Card("Tasks", figure, words)


def _state(results: Results) -> page.Card:
    share = state_share(results.main)
    figure = f"{share} of {name(results.reference)}'s" if share else "not run"
    words = ""
    per = [
        (base.optimizer_state_bytes / parameters, row.optimizer_state_bytes / parameters, table.comparison.task)
        for table in results.main
        for row, base in filter(None, [pair(table)])
        if (parameters := table.comparison.num_parameters)
    ]
    if per:  # of the models that are trained whole
        base_bytes, ours, task = max(per)
        words = f"{ours:.1f} against {base_bytes:.1f} bytes a trained parameter ({task})"
    return page.Card("Optimizer state", figure, words)


def _step_time(results: Results) -> page.Card:
    """Compare the optimizers' fastest kind of step that both were timed with, in turn in one process."""
    for _, timed in results.speeds.groupby(["task", "step"], sort=False):
        step = timed.set_index("optim")
        if {SUBJECT, results.reference} <= set(step.index) and step.loc[SUBJECT, "step"] == "fused":
            ours, base = (step.loc[optim].to_dict() for optim in (SUBJECT, results.reference))
            milliseconds = [float(each["optimizer_step_ms"]) for each in (ours, base)]
            words = (
                f"optimizer step of {ours['task']}, both {ours['step']}, timed in turn: {milliseconds[0]:.2f} against "
                f"{milliseconds[1]:.2f} ms; whole steps a second {100 * (float(ours['ratio']) - 1):+.0f}%"
            )
            share = milliseconds[0] / milliseconds[1]
            return page.Card("Optimizer step", f"{share:.2f} of {name(results.reference)}'s time", words)
    return page.Card("Optimizer step", "not timed", "`python scripts/speed.py task=...` times optimizers in turn")


def _forest(results: Results, anchors: Mapping[str, str]) -> page.Forest | None:
    rows = forest_rows(results.main, SUBJECT)
    if not rows:
        return None
    reach = reach_of(rows)
    shown = [tick for tick in TICKS if abs(tick) <= reach]
    named = [tick for tick in shown if reach < 10 or abs(tick) != 1]  # on a long axis, 1 has no room beside 0
    ticks = [(place(float(tick), reach), "" if tick not in named else f"{tick:+d}" if tick else "0") for tick in shown]
    words = f"{name(SUBJECT)} minus {name(results.reference)} on test data, in % of {name(results.reference)}'s figure"
    return page.Forest(words, ticks, [_line(row, reach, anchors) for row in rows])


def _line(of_task: ForestRow, reach: float, anchors: Mapping[str, str]) -> page.ForestLine:
    table, rows = of_task.table, pair(of_task.table)
    assert rows is not None
    figures = [f"{name(row.optim)} {unit_of(table).figure(*row.compared(table.split))}" for row in rows]
    direction = f", {DIRECTION['min']}" if table.comparison.goal == "min" else ""
    return page.ForestLine(
        name=of_task.name,
        task=table.comparison.task,
        anchor=anchors[table.comparison.task],
        metric=metric_name(table.comparison) + direction,
        figures=" vs ".join(figures),
        difference=difference(rows[0], table),
        value=place(of_task.value, reach),
        interval=(place(of_task.interval[0], reach), place(of_task.interval[1], reach)),
        joint=(place(of_task.joint[0], reach), place(of_task.joint[1], reach)),
        verdict=of_task.verdict,
        seeds=of_task.seeds,
        open=of_task.open,
    )


def place(value: float, reach: float) -> float:
    """Return the position of a value between -reach and reach in percent: linear up to LINEAR, then logarithmic.

    This is matplotlib's symlog scale, so that the page's plot and the figure look the same.
    """
    return round(50 + 50 * _warped(max(-reach, min(value, reach))) / _warped(reach), 2)


def _warped(value: float) -> float:
    size, linear = abs(value) / LINEAR, 1 / (1 - 0.1)
    return math.copysign(size * linear if size <= 1 else linear + math.log10(size), value)


def _effects(results: Results, anchors: Mapping[str, str]) -> page.Effects | None:
    """Return each optimizer's difference to the reference in standard deviations between seeds, better above zero."""
    named = {row.optim for table in results.main for row in table.rows if not row.is_reference and "(" not in row.optim}
    optimizers = sorted(named, key=lambda optim: (optim != SUBJECT, optim))
    if not optimizers:
        return None
    rows = []
    for table in results.main:
        by_name = {row.optim: row for row in table.rows}
        base = next((row for row in table.rows if row.is_reference), None)
        effects = [_effect(by_name.get(optim), base, table) for optim in optimizers]
        rows.append((task_name(table.comparison), table.comparison.task, anchors[table.comparison.task], effects))
    if all(effect.value is None for *_, effects in rows for effect in effects):
        return None
    words = f"Difference to {name(results.reference)} in standard deviations between seeds, better above 0"
    return page.Effects(words, optimizers, rows)


def _effect(row: Row | None, base: Row | None, table: Table) -> page.Effect:
    if row is None or base is None:
        return page.Effect(None)
    spread = math.sqrt((_sd(row, table) ** 2 + _sd(base, table) ** 2) / 2)
    if not spread > 0 or not math.isfinite(row.difference):
        return page.Effect(None)
    value = row.difference / spread * (1 if table.comparison.goal == "max" else -1)
    title = f"{row.optim}, {table.comparison.task}: {difference(row, table)}, {row.verdict or 'no verdict'}"
    return page.Effect(value, "" if row.verdict == NO_DIFFERENCE else row.verdict, row.open or base.open, title)


def _sd(row: Row, table: Table) -> float:
    return row.test_sd if table.split == "test" else row.val_sd

"""Judge the claims in reports/claims.yaml by records, and by nothing else: no records, no verdict.

Each `test` there is one function here: from the tables, and its arguments in the file, to a verdict and the evidence
for it in words. Margins are shares of the metric (0.01 is one point of accuracy).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml

from reports.beside import main_tables
from reports.figures import batch_groups
from reports.records import read_metrics
from reports.selection import Contender
from reports.statistics import Difference, paired_difference
from reports.table import Row, Table
from reports.wording import fixed, short_number

CLAIMS = Path(__file__).with_name("claims.yaml")
Word = Literal["supported", "contradicted", "not shown", "not run"]
Judged = tuple[Word, str]
SUBJECT, REFERENCE = "lion", "adamw"
TAIL = 0.1  # share of a run whose training loss is averaged: single batches say little


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim."""

    claim: str
    source: str
    experiment: str
    rule: str
    verdict: Word
    evidence: str


@dataclass(frozen=True)
class Evidence:
    """What there is to judge by: each task's main table, all tables, timings and measurements of the landscape."""

    main: list[Table]
    tables: list[Table]
    speeds: pd.DataFrame
    landscape: pd.DataFrame


def evaluate(
    tables: Sequence[Table], speeds: pd.DataFrame, landscape: pd.DataFrame | None = None, path: Path = CLAIMS
) -> list[Verdict]:
    """Judge every claim in the file, in its order."""
    found = Evidence(main_tables(tables), list(tables), speeds, pd.DataFrame() if landscape is None else landscape)
    verdicts = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        test: Callable[..., Judged] = TESTS[entry["test"]]
        wanted = inspect.signature(test).parameters
        given = {name: value for name, value in entry.items() if name in wanted and name != "tasks"}
        main = [t for t in found.main if "tasks" not in entry or t.comparison.task in entry["tasks"]]
        word, evidence = test(Evidence(main, found.tables, found.speeds, found.landscape), **given)
        verdicts.append(Verdict(entry["claim"], entry["source"], entry["experiment"], entry["rule"], word, evidence))
    return verdicts


def setting_ratio(found: Evidence, axis: str, between: Sequence[float]) -> Judged:
    """Compare chosen learning rates (the reference's over the subject's) or weight decays (the other way round)."""
    ratios = {}
    for table in found.main:
        ours, theirs = _row(table, SUBJECT), _row(table, REFERENCE)
        if ours and theirs and not any(math.isnan(getattr(row, axis)) for row in (ours, theirs)):
            values = getattr(ours, axis), getattr(theirs, axis)
            ratios[table.comparison.task] = values[1] / values[0] if axis == "lr" else values[0] / values[1]
    inside = [0.99 * between[0] <= ratio <= 1.01 * between[1] for ratio in ratios.values()]  # 3 and 10 are included
    evidence = ", ".join(f"{task} {short_number(ratio)} times" for task, ratio in ratios.items())
    return _all_or_none(inside, evidence)


def better(found: Evidence) -> Judged:
    """Ask whether the subject is better than the reference on every task."""
    rows = [(table, row) for table in found.main if (row := _row(table, SUBJECT)) and row.verdict]
    words = [row.verdict for _, row in rows]
    evidence = ", ".join(f"{table.comparison.task} {_difference(row)}" for table, row in rows)
    if not words:
        return "not run", "no runs with two common seeds"
    if "worse" in words:
        return "contradicted", evidence
    return ("supported" if set(words) == {"better"} else "not shown"), evidence


def alike(found: Evidence, within: float) -> Judged:
    """Ask whether the subject and the reference are equal up to a margin."""
    rows = [(table, row) for table in found.main if (row := _row(table, SUBJECT)) and row.verdict]
    ends = [(row.difference_low, row.difference_high) for _, row in rows]
    return _within(ends, within, ", ".join(f"{table.comparison.task} {_difference(row)}" for table, row in rows))


def all_alike(found: Evidence, within: float) -> Judged:
    """Ask whether every optimizer equals the reference up to a margin."""
    rows = [(table, row) for table in found.main for row in table.rows if row.verdict]
    ends = [(row.difference_low, row.difference_high) for _, row in rows]
    beyond = [(t, r) for (t, r), (low, high) in zip(rows, ends, strict=True) if low > within or high < -within]
    shown = ", ".join(f"{row.optim} on {table.comparison.task} {_difference(row)}" for table, row in beyond)
    inside = sum(-within <= low and high <= within for low, high in ends)
    evidence = f"{inside} of {len(rows)} intervals lie within {within:g}" + (f"; beyond it: {shown}" if shown else "")
    return _within(ends, within, evidence)


def fewer_steps(found: Evidence, times: float) -> Judged:
    """Ask whether the subject reaches the reference's final figure sooner."""
    rows = [(table, row) for table in found.main if (row := _row(table, SUBJECT)) and not math.isnan(row.speedup)]
    words = [f"{row.speedup:.2f} times" if row.speedup else "not reached" for _, row in rows]
    evidence = ", ".join(f"{table.comparison.task} {word}" for (table, _), word in zip(rows, words, strict=True))
    return _all_or_none([row.speedup >= times for _, row in rows], evidence)


def smaller_span(found: Evidence) -> Judged:
    """Compare how far apart the best and the worst trial are, where both had equally many and none diverged."""
    spans = {}
    for table in found.main:
        pair = [_contender(table, name) for name in (SUBJECT, REFERENCE)]
        if any(c is None or len(c.settings) < 4 or c.settings["final"].isna().any() for c in pair):
            continue
        finals = [contender.settings["final"] for contender in pair if contender]
        if len(finals[0]) == len(finals[1]):
            spans[table.comparison.task] = [float(values.max() - values.min()) for values in finals]
    evidence = ", ".join(
        f"{task} {SUBJECT} {fixed(ours, 3)}, {REFERENCE} {fixed(theirs, 3)}" for task, (ours, theirs) in spans.items()
    )
    return _all_or_none([ours < theirs for ours, theirs in spans.values()], evidence)


def gain_grows(found: Evidence) -> Judged:
    """Compare the gain at the largest batch with that at the smallest."""
    grown, words = [], []
    for group in batch_groups(found.tables):
        rows = [(table, row) for table in group if (row := _row(table, SUBJECT)) and row.verdict]
        if len(rows) < 2:
            continue
        (first, small), (last, large) = rows[0], rows[-1]
        sign = 1 if first.comparison.goal == "max" else -1
        apart = sorted(sign * end for end in (large.difference_low, large.difference_high))
        below = sorted(sign * end for end in (small.difference_low, small.difference_high))
        grown.append(1 if apart[0] > below[1] else -1 if apart[1] < below[0] else 0)
        words.append(
            f"{first.comparison.task} batch {first.comparison.batch_size} {_difference(small)}, "
            f"batch {last.comparison.batch_size} {_difference(large)}"
        )
    return _signs(grown, "; ".join(words))


def no_gain_below(found: Evidence, batch: int) -> Judged:
    """Ask whether any smaller batch shows the subject better."""
    rows = _small_batches(found, lambda size: size < batch)
    if not rows:
        return "not run", ""
    evidence = ", ".join(f"batch {table.comparison.batch_size} {_difference(row)}" for table, row in rows)
    return ("contradicted" if any(row.verdict == "better" for _, row in rows) else "supported"), evidence


def worse_at_smallest(found: Evidence) -> Judged:
    """Ask how the subject does at the smallest batch."""
    rows = _small_batches(found, lambda size: True)[:1]
    evidence = ", ".join(f"batch {table.comparison.batch_size} {_difference(row)}" for table, row in rows)
    return _signs([{"worse": 1, "better": -1}.get(row.verdict, 0) for _, row in rows], evidence)


def higher_train_loss(found: Evidence) -> Judged:
    """Compare the training loss over the last part of the runs at the chosen settings."""
    signs, words = [], []
    for table in found.main:
        pair = [_contender(table, name) for name in (SUBJECT, REFERENCE)]
        losses = [_train_loss(contender) for contender in pair if contender is not None]
        if len(losses) < 2 or min(map(len, losses)) < 2:
            continue
        difference = paired_difference(losses[0], losses[1], comparisons=len(found.main))
        signs.append(_sign(difference))
        words.append(f"{table.comparison.task} {losses[0].mean():.3f} against {losses[1].mean():.3f}")
    return _signs(signs, ", ".join(words))


def half_state(found: Evidence) -> Judged:
    """Compare bytes of optimizer state."""
    shares = {}
    for table in found.main:
        ours, theirs = _row(table, SUBJECT), _row(table, REFERENCE)
        if ours and theirs and ours.optimizer_state_bytes > 0 and theirs.optimizer_state_bytes > 0:
            shares[table.comparison.task] = ours.optimizer_state_bytes / theirs.optimizer_state_bytes
    evidence = ", ".join(f"{task} {share:.2f}" for task, share in shares.items())
    if not shares:
        return "not run", ""
    return ("supported" if max(shares.values()) <= 0.501 else "contradicted"), evidence


def faster(found: Evidence, between: Sequence[float]) -> Judged:
    """Ask whether the quartiles of the speed ratio lie in a range."""
    if found.speeds.empty:
        return "not run", ""
    rows = found.speeds[(found.speeds["optim"] == SUBJECT) & (found.speeds["reference"] == REFERENCE)].to_dict(
        "records"
    )
    evidence = ", ".join(f"{r['task']} {r['ratio']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in rows)
    inside = [between[0] <= r["low"] and r["high"] <= between[1] for r in rows]
    outside = [r["high"] < between[0] or r["low"] > between[1] for r in rows]
    if not rows:
        return "not run", ""
    return ("supported" if all(inside) else "contradicted" if all(outside) else "not shown"), evidence


def kind_better(found: Evidence, kind: str, than: Sequence[str]) -> Judged:
    """Compare one kind of an optimizer with its other kinds."""
    signs, words = [], []
    for table, ours, theirs in _kinds(found, kind, than):
        sign = 1 if table.comparison.goal == "max" else -1
        difference = _kind_difference(table, ours, theirs, len(than))
        signs.append(sign * _sign(difference))
        words.append(f"{table.comparison.task} over {theirs.label} {_ends(difference)}")
    return _signs(signs, ", ".join(words))


def kinds_alike(found: Evidence, kinds: Sequence[str], within: float) -> Judged:
    """Ask whether two kinds of an optimizer are equal up to a margin."""
    pairs = list(_kinds(found, kinds[0], kinds[1:]))
    differences = [_kind_difference(table, ours, theirs, 1) for table, ours, theirs in pairs]
    words = [f"{t.comparison.task} {_ends(d)}" for (t, _, _), d in zip(pairs, differences, strict=True)]
    return _within([(d.low, d.high) for d in differences if not math.isnan(d.low)], within, ", ".join(words))


def flatter(found: Evidence, relative: bool) -> Judged:
    """Compare how much noise on the weights raises the training loss, at every noise level that was measured."""
    if found.landscape.empty:
        return "not run", ""
    rows_of_kind = found.landscape[found.landscape["relative"] == relative]
    risen = rows_of_kind.assign(rise=rows_of_kind["perturbed_loss"] - rows_of_kind["loss"])
    table = risen.pivot_table(index=["task", "noise"], columns="optim", values="rise", aggfunc="mean")
    if not {SUBJECT, REFERENCE} <= set(table.columns):
        return "not run", ""
    table = table.dropna(subset=[SUBJECT, REFERENCE])
    rows = table.reset_index().to_dict("records")
    words = [f"{r['task']} at {r['noise']:g}: {r[SUBJECT]:.3g} against {r[REFERENCE]:.3g}" for r in rows]
    return _all_or_none([r[SUBJECT] < r[REFERENCE] for r in rows], ", ".join(words))


def bounded(found: Evidence) -> Judged:
    """Ask whether the subject's weights lie within one over its weight decay."""
    if found.landscape.empty:
        return "not run", ""
    largest = found.landscape[found.landscape["optim"] == SUBJECT].groupby("task")["bound"].max()
    evidence = ", ".join(f"{task} {value:.2f}" for task, value in largest.items())
    if largest.empty:
        return "not run", ""
    return ("supported" if (largest <= 1.001).all() else "contradicted"), f"largest weight times λ: {evidence}"


TESTS: dict[str, Callable[..., Judged]] = {
    test.__name__: test
    for test in (
        setting_ratio,
        better,
        alike,
        all_alike,
        fewer_steps,
        smaller_span,
        gain_grows,
        no_gain_below,
        worse_at_smallest,
        higher_train_loss,
        half_state,
        faster,
        kind_better,
        kinds_alike,
        flatter,
        bounded,
    )
}


def _row(table: Table, optim: str) -> Row | None:
    """Return an optimizer's row; where it has several kinds, that of the settings the suite gives it."""
    named = [row for row in table.rows if row.optim == optim]
    kinds = [row for row in table.rows if row.optim.startswith(f"{optim} (")]
    return named[0] if named else max(kinds, key=lambda row: row.runs, default=None)


def _contender(table: Table, optim: str) -> Contender | None:
    row = _row(table, optim)
    return next((c for c in table.comparison.contenders if row and c.label == row.optim), None)


def _kinds(found: Evidence, kind: str, others: Sequence[str]) -> list[tuple[Table, Contender, Contender]]:
    """Return the pairs of two kinds of an optimizer that stand in one table, with common seeds enough to compare."""
    pairs = []
    for table in found.tables:
        by_label = {contender.label: contender for contender in table.comparison.contenders}
        pairs += [(table, by_label[kind], by_label[o]) for o in others if kind in by_label and o in by_label]
    return [pair for pair in pairs if not math.isnan(_kind_difference(*pair, 1).low)]


def _kind_difference(table: Table, ours: Contender, theirs: Contender, comparisons: int) -> Difference:
    column = "test" if table.split == "test" else "final"
    return paired_difference(ours.by_seed(column), theirs.by_seed(column), comparisons=max(comparisons, 1))


def _small_batches(found: Evidence, wanted: Callable[[int], bool]) -> list[tuple[Table, Row]]:
    tables = [table for group in batch_groups(found.tables) for table in group]
    return [
        (t, row) for t in tables if wanted(t.comparison.batch_size or 0) and (row := _row(t, SUBJECT)) and row.verdict
    ]


def _train_loss(contender: Contender) -> pd.Series[float]:
    """Return the mean training loss over the last part of each run at the chosen setting, by seed."""
    losses = {}
    for run in contender.at_choice().to_dict("records"):
        measured = read_metrics(run["path"], "train", "loss")
        tail = measured[measured["step"] > (1 - TAIL) * run["steps"]]
        if len(tail):
            losses[run["seed"]] = float(tail["value"].mean())
    return pd.Series(losses, dtype=float)


def _difference(row: Row) -> str:
    return _interval(row.difference, row.difference_low, row.difference_high)


def _ends(difference: Difference) -> str:
    return _interval(difference.value, difference.low, difference.high)


def _interval(value: float, low: float, high: float) -> str:
    return f"{fixed(value, 4, '+')} [{fixed(low, 4, '+')}, {fixed(high, 4, '+')}]"


def _sign(difference: Difference) -> int:
    word = difference.verdict("max")
    return {"better": 1, "worse": -1}.get(word, 0)


def _signs(signs: Sequence[int], evidence: str) -> Judged:
    """All for it: supported; any against it: contradicted."""
    if not signs:
        return "not run", evidence
    if min(signs) < 0:
        return "contradicted", evidence
    return ("supported" if min(signs) > 0 else "not shown"), evidence


def _all_or_none(true: Sequence[bool], evidence: str) -> Judged:
    if not true:
        return "not run", evidence
    return ("supported" if all(true) else "not shown" if any(true) else "contradicted"), evidence


def _within(ends: Sequence[tuple[float, float]], within: float, evidence: str) -> Judged:
    if not ends:
        return "not run", evidence
    if any(low > within or high < -within for low, high in ends):
        return "contradicted", evidence
    return ("supported" if all(-within <= low and high <= within for low, high in ends) else "not shown"), evidence

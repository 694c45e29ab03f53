"""Judge the claims in reports/claims/claims.yaml by records, and by nothing else: no records, no verdict.

Records count where the protocol was followed (reports/protocol.py) and the chosen setting is enclosed by what was
tried; below its trials and fresh seeds, a claim is not run. Every verdict rests on an interval; where the records give
none, the verdict is "not judged".

Each `test` there is one function here: from the tables, and its arguments in the file, to a verdict and the evidence
for it in words. Margins are shares: 0.01 is one point of accuracy, or one percent of the reference's perplexity.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml

from reports.claims.evidence import (
    Evidence,
    Kinds,
    above,
    augmented_pairs,
    batch_rows,
    kind_difference,
    kinds_of,
    main_kind,
    row_of,
    speedup_interval,
    tied_values,
    train_loss,
)
from reports.protocol import FRESH_SEEDS, REFERENCE, SUBJECT, TIMING_ROUNDS
from reports.records.speeds import STEPS
from reports.statistics.intervals import Difference, paired_difference
from reports.tables.comparison import Row, Table
from reports.tables.number_format import fixed, short_number
from reports.tables.paper_comparison import main_tables

CLAIMS = Path(__file__).with_name("claims.yaml")
Word = Literal["supported", "contradicted", "not shown", "not judged", "not run"]
Judged = tuple[Word, str]


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim."""

    id: str
    claim: str
    source: str
    experiment: str
    measure: str
    rule: str
    verdict: Word
    evidence: str


def evaluate(
    tables: Sequence[Table], speeds: pd.DataFrame, landscape: pd.DataFrame | None = None, path: Path = CLAIMS
) -> list[Verdict]:
    """Judge every claim in the file, in its order."""
    open_tasks = {
        table.comparison.task
        for table in main_tables(tables)
        if any((row := row_of(table, name)) and row.open and not row.untuned for name in (SUBJECT, REFERENCE))
    }
    tables = [by_protocol(table) for table in tables]
    timed = speeds[speeds["rounds"] >= TIMING_ROUNDS] if "rounds" in speeds else speeds.iloc[:0]
    found = Evidence(main_tables(tables), tables, timed, pd.DataFrame() if landscape is None else landscape)
    verdicts = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        test: Callable[..., Judged] = TESTS[entry["test"]]
        wanted = inspect.signature(test).parameters
        given = {name: value for name, value in entry.items() if name in wanted and name != "tasks"}
        main = [t for t in found.main if "tasks" not in entry or t.comparison.task in entry["tasks"]]
        word, evidence = test(Evidence(main, found.tables, found.speeds, found.landscape), **given)
        if word == "not run" and (tasks := open_tasks & set(entry.get("tasks", open_tasks))):
            word, evidence = (
                "not judged",
                f"the chosen setting is not enclosed by what was tried: {', '.join(sorted(tasks))}",
            )
        about = {name: entry[name] for name in ("id", "claim", "source", "experiment", "measure", "rule")}
        verdicts.append(Verdict(**about, verdict=word, evidence=evidence))
    return verdicts


def by_protocol(table: Table) -> Table:
    """Return a table with those of its rows that claims may be judged by."""
    followed = {row.optim for row in table.rows if not row.untuned and not row.open}
    contenders = [contender for contender in table.comparison.contenders if contender.label in followed]
    rows = [row for row in table.rows if row.optim in followed]
    return replace(table, rows=rows, comparison=replace(table.comparison, contenders=contenders))


def setting_ratio(found: Evidence, axis: str, between: Sequence[float]) -> Judged:
    """Compare chosen learning rates (the reference's over the subject's) or weight decays (the other way round).

    The interval of a ratio reaches over all settings that the records do not tell from the chosen one.
    """
    lower, upper = 0.99 * between[0], 1.01 * between[1]  # 3 and 10 are included
    inside, outside, words = [], [], []
    for table in found.main:
        pair = main_kind(table, SUBJECT), main_kind(table, REFERENCE)
        ties = [tied_values(contender, axis) for contender in pair if contender is not None]
        if len(ties) < 2:
            continue
        over, under = (ties[1], ties[0]) if axis == "lr" else (ties[0], ties[1])
        ratio, ends = _over(over[0], under[0]), (_over(over[1], under[2]), _over(over[2], under[1]))
        if any(map(math.isnan, (ratio, *ends))):
            continue
        inside.append(lower <= ends[0] and ends[1] <= upper)
        outside.append(ends[1] < lower or ends[0] > upper)
        shown = [short_number(end) if 0 < end < math.inf else "open" for end in ends]
        words.append(f"{table.comparison.task} {short_number(ratio)} times [{', '.join(shown)}]")
    return _all_inside(inside, outside, ", ".join(words))


def _over(one: float, other: float) -> float:
    return one / other if other else math.inf


def better(found: Evidence) -> Judged:
    """Ask whether the subject is better than the reference on every task."""
    rows = [(table, row) for table in found.main if (row := row_of(table, SUBJECT)) and row.verdict]
    words = [row.verdict for _, row in rows]
    evidence = ", ".join(f"{table.comparison.task} {_difference(row)}" for table, row in rows)
    if not words:
        return "not run", "no runs with two common seeds"
    if "worse" in words:
        return "contradicted", evidence
    return ("supported" if set(words) == {"better"} else "not shown"), evidence


def alike(found: Evidence, within: float) -> Judged:
    """Ask whether the subject and the reference are equal up to a margin."""
    rows = [(table, row) for table in found.main if (row := row_of(table, SUBJECT)) and row.verdict]
    ends = [_shares(table, row) for table, row in rows]
    return _within(ends, within, ", ".join(f"{table.comparison.task} {_difference(row)}" for table, row in rows))


def all_alike(found: Evidence, within: float, optims: Sequence[str] = ()) -> Judged:
    """Ask whether every optimizer, or those named, equals the reference up to a margin."""
    rows = [(table, row) for table in found.main for row in table.rows if row.verdict]
    rows = [(table, row) for table, row in rows if not optims or row.optim in optims]
    ends = [_shares(table, row) for table, row in rows]
    beyond = [(t, r) for (t, r), (low, high) in zip(rows, ends, strict=True) if low > within or high < -within]
    shown = ", ".join(f"{row.optim} on {table.comparison.task} {_difference(row)}" for table, row in beyond)
    inside = sum(-within <= low and high <= within for low, high in ends)
    evidence = (
        ""
        if not rows
        else f"{inside} of {len(rows)} intervals lie within {within:g}" + (f"; beyond it: {shown}" if shown else "")
    )
    return _within(ends, within, evidence)


def fewer_steps(found: Evidence, times: float) -> Judged:
    """Ask whether the subject reaches the reference's final figure sooner."""
    inside, outside, words = [], [], []
    for table in found.main:
        row, pair = row_of(table, SUBJECT), (main_kind(table, SUBJECT), main_kind(table, REFERENCE))
        if row is None or math.isnan(row.speedup) or pair[0] is None or pair[1] is None:
            continue
        low, high = speedup_interval(table, pair[0], pair[1])
        inside.append(low >= times)
        outside.append(high < times)
        word = f"{row.speedup:.2f} times" if row.speedup else "not reached"
        words.append(f"{table.comparison.task} {word} [{low:.2f}, {high:.2f}]")
    return _all_inside(inside, outside, ", ".join(words))


def smaller_span(found: Evidence) -> Judged:
    """Show how many trials diverged and how far apart the best and the worst of the others are.

    All trials have one seed, so there is no interval to judge by.
    """
    words = []
    for table in found.main:
        settings = [c.settings for name in (SUBJECT, REFERENCE) if (c := main_kind(table, name))]
        if len(settings) < 2 or len(settings[0]) != len(settings[1]):
            continue
        spans = [(int((s["diverged"] > 0).sum()), float(s["final"].max() - s["final"].min())) for s in settings]
        texts = [f"{fixed(span, 3)}" + (f" and {n} diverged" if n else "") for n, span in spans]
        words.append(f"{table.comparison.task} {SUBJECT} {texts[0]}, {REFERENCE} {texts[1]}")
    if not words:
        return "not run", ""
    return "not judged", f"no interval, since trials have one seed: {', '.join(words)}"


def gain_grows(found: Evidence) -> Judged:
    """Compare the gain at the largest batch with that at the smallest."""
    signs, words = [], []
    for rows in batch_rows(found):
        if len(rows) > 1:
            (small, low), (large, high) = rows[0], rows[-1]
            signs.append(above(small, high, low))
            sizes = [f"batch {table.comparison.batch_size} {_difference(row)}" for table, row in (rows[0], rows[-1])]
            words.append(f"{large.comparison.task} {', '.join(sizes)}")
    return _signs(signs, "; ".join(words))


def gain_shrinks(found: Evidence, strong: str) -> Judged:
    """Compare the gain without strong augmentation with that under it, each tuned by itself."""
    pairs = augmented_pairs(found, strong)
    words = [f"{t.comparison.task} {_difference(plain)}, {strong} {_difference(more)}" for t, plain, more in pairs]
    return _signs([above(table, plain, more) for table, plain, more in pairs], "; ".join(words))


def no_gain(found: Evidence, within: float) -> Judged:
    """Ask whether the subject gains nothing over the reference, up to a margin."""
    rows = [(table, row) for table in found.main if (row := row_of(table, SUBJECT)) and row.verdict]
    evidence = ", ".join(f"{table.comparison.task} {_difference(row)}" for table, row in rows)
    return _no_gain(rows, within, evidence)


def no_gain_below(found: Evidence, batch: int, within: float) -> Judged:
    """Ask the same of all smaller batches."""
    rows = [(t, row) for rows in batch_rows(found) for t, row in rows if (t.comparison.batch_size or batch) < batch]
    evidence = ", ".join(f"batch {table.comparison.batch_size} {_difference(row)}" for table, row in rows)
    return _no_gain(rows, within, evidence)


def worse_at_smallest(found: Evidence) -> Judged:
    """Ask how the subject does at each task's smallest batch."""
    rows = [rows[0] for rows in batch_rows(found) if rows]
    evidence = ", ".join(f"batch {table.comparison.batch_size} {_difference(row)}" for table, row in rows)
    return _signs([{"worse": 1, "better": -1}.get(row.verdict, 0) for _, row in rows], evidence)


def higher_train_loss(found: Evidence) -> Judged:
    """Compare the training loss over the last part of the runs at the chosen settings."""
    signs, words = [], []
    for table in found.main:
        pair = [main_kind(table, name) for name in (SUBJECT, REFERENCE)]
        losses = [train_loss(contender) for contender in pair if contender is not None]
        if len(losses) < 2 or min(map(len, losses)) < FRESH_SEEDS:
            continue
        difference = paired_difference(losses[0], losses[1], comparisons=len(found.main))
        signs.append(_sign(difference))
        words.append(f"{table.comparison.task} {losses[0].mean():.3f} against {losses[1].mean():.3f}")
    return _signs(signs, ", ".join(words))


def half_state(found: Evidence) -> Judged:
    """Compare bytes of optimizer state."""
    shares = {}
    for table in found.main:
        ours, theirs = row_of(table, SUBJECT), row_of(table, REFERENCE)
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
    ours = found.speeds[(found.speeds["optim"] == SUBJECT) & (found.speeds["reference"] == REFERENCE)]
    ours = ours[ours["ratio"].notna()].sort_values("step", key=lambda steps: steps.map(STEPS.index), kind="stable")
    rows = ours.drop_duplicates(["task", "scale", "model", "batch_size"]).sort_values("task").to_dict("records")
    shown = [f"{r['task']} {r['ratio']:.3f} [{r['low']:.3f}, {r['high']:.3f}] ({r['step']} steps)" for r in rows]
    evidence = ", ".join(shown)
    inside = [between[0] <= r["low"] and r["high"] <= between[1] for r in rows]
    outside = [r["high"] < between[0] or r["low"] > between[1] for r in rows]
    if not rows:
        return "not run", ""
    return ("supported" if all(inside) else "contradicted" if all(outside) else "not shown"), evidence


def kind_better(found: Evidence, kind: str, than: Sequence[str]) -> Judged:
    """Compare Lion of one argument with Lion of others, all further arguments being equal."""
    pairs = kinds_of(found, kind, than)
    differences = [kind_difference(table, ours, theirs, len(pairs)) for table, ours, theirs, _ in pairs]
    goals = [1 if table.comparison.goal == "max" else -1 for table, *_ in pairs]
    ahead = [goal * _sign(difference) for goal, difference in zip(goals, differences, strict=True)]
    return _signs(ahead, _kind_words(pairs, differences))


def kinds_alike(found: Evidence, kinds: Sequence[str], within: float) -> Judged:
    """Ask whether Lion of one argument equals Lion of another up to a margin."""
    pairs = kinds_of(found, kinds[0], kinds[1:])
    differences = [kind_difference(table, ours, theirs, 1) for table, ours, theirs, _ in pairs]
    return _within([(d.low, d.high) for d in differences], within, _kind_words(pairs, differences))


def flatter(found: Evidence, relative: bool) -> Judged:
    """Compare how much noise on the weights raises the training loss, at every noise level that was measured."""
    if found.landscape.empty:
        return "not run", ""
    rows = found.landscape[found.landscape["relative"] == relative]
    rows = rows.assign(rise=rows["perturbed_loss"] - rows["loss"])
    rises = rows.pivot_table(index=["task", "noise", "seed"], columns="optim", values="rise")
    if not {SUBJECT, REFERENCE} <= set(rises.columns):
        return "not run", ""
    levels = list(rises.groupby(level=["task", "noise"]))
    signs, words = [], []
    for (task, noise), level in levels:
        by_seed = level.droplevel(["task", "noise"])
        difference = paired_difference(by_seed[SUBJECT], by_seed[REFERENCE], comparisons=len(levels))
        if difference.seeds >= FRESH_SEEDS:
            signs.append(-_sign(difference))
            words.append(f"{task} at {noise:g}: {by_seed[SUBJECT].mean():.3g} against {by_seed[REFERENCE].mean():.3g}")
    return _signs(signs, ", ".join(words))


def bounded(found: Evidence) -> Judged:
    """Ask whether the subject's weights lie within one over its weight decay."""
    if found.landscape.empty:
        return "not run", ""
    ours = found.landscape[found.landscape["optim"] == SUBJECT]
    enough = ours.groupby("task")["seed"].nunique() >= FRESH_SEEDS
    largest = ours[ours["task"].map(enough).astype(bool)].groupby("task")["bound"].max()
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
        gain_shrinks,
        no_gain,
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


def _kind_words(pairs: Sequence[Kinds], differences: Sequence[Difference]) -> str:
    shown = zip(pairs, differences, strict=True)
    return ", ".join(f"{table.comparison.task} over {other} {_ends(d)}" for (table, _, _, other), d in shown)


def _no_gain(rows: Sequence[tuple[Table, Row]], within: float, evidence: str) -> Judged:
    if not rows:
        return "not run", ""
    if any(row.verdict == "better" for _, row in rows):
        return "contradicted", evidence
    gains = [(t.comparison.goal, *_shares(t, row)) for t, row in rows]
    small = all(high <= within if goal == "max" else -low <= within for goal, low, high in gains)
    return ("supported" if small else "not shown"), evidence


def _shares(table: Table, row: Row) -> tuple[float, float]:
    """Return the ends of a difference's interval; of what is no share itself, over the reference's mean."""
    means = (r.compared(table.split)[0] for r in table.rows if r.is_reference)
    unit = 1.0 if table.comparison.goal == "max" else next(means, math.nan)
    return row.difference_low / unit, row.difference_high / unit


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


def _all_inside(inside: Sequence[bool], outside: Sequence[bool], evidence: str) -> Judged:
    """Every interval inside: supported; every one outside: contradicted."""
    if not inside:
        return "not run", evidence
    return ("supported" if all(inside) else "contradicted" if all(outside) else "not shown"), evidence


def _within(ends: Sequence[tuple[float, float]], within: float, evidence: str) -> Judged:
    if not ends:
        return "not run", evidence
    if any(low > within or high < -within for low, high in ends):
        return "contradicted", evidence
    return ("supported" if all(-within <= low and high <= within for low, high in ends) else "not shown"), evidence

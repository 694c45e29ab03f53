"""The criteria of claims: functions from the evidence, and arguments in claims.yaml, to an outcome.

`decision.decide` combines several intervals. Every outcome is based on an interval; without one it is "not judged".
Margins are shares: 0.01 is one point of accuracy, or one percent of the reference's perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from recipes.figure_format import Unit, decimals, fixed
from reports.claims import conditions
from reports.claims.decision import LEVEL, Outcome, decide, inside_or_outside
from reports.claims.evidence import (
    Evidence,
    Kinds,
    in_words,
    kind_difference,
    kinds_of,
    main_kind,
    row_of,
    share_unit,
    shares_of,
    speedup_interval,
    train_loss,
    validation_difference,
)
from reports.number_format import short_number
from reports.protocol import FRESH_SEEDS, REFERENCE, SUBJECT
from reports.records.speeds import STEPS
from reports.statistics.families import variance_of_choices
from reports.statistics.intervals import Difference, paired_difference
from reports.statistics.ties import tied_values
from reports.tables.comparison import Row, Table
from reports.tables.units import difference, unit_of


def setting_ratio(evidence: Evidence, axis: str, between: Sequence[float]) -> Outcome:
    """Compare chosen learning rates (the reference's over the subject's) or weight decays (the inverse ratio).

    The interval of a ratio covers all settings that tie with the chosen one.
    """
    lower, upper = 0.99 * between[0], 1.01 * between[1]  # 3 and 10 are included
    signs, words = [], []
    for table in evidence.main:
        pair = main_kind(table, SUBJECT), main_kind(table, REFERENCE)
        ties = [tied_values(contender, axis) for contender in pair if contender is not None]
        if len(ties) < 2:
            continue
        over, under = (ties[1], ties[0]) if axis == "lr" else (ties[0], ties[1])
        ratio, ends = _over(over[0], under[0]), (_over(over[1], under[2]), _over(over[2], under[1]))
        if any(map(math.isnan, (ratio, *ends))):
            continue
        signs.append(inside_or_outside(*ends, lower, upper))
        shown = [_two_figures(end) if 0 < end < math.inf else "open" for end in ends]
        words.append(f"{table.comparison.task} {_two_figures(ratio)} times [{', '.join(shown)}]")
    return decide(signs, ", ".join(words))


def _two_figures(ratio: float) -> str:
    """Write a ratio of settings, which lie on a grid of half and quarter decades."""
    return short_number(float(f"{ratio:.2g}"))


def _over(one: float, other: float) -> float:
    return one / other if other else math.inf


def better(evidence: Evidence) -> Outcome:
    """Ask whether the subject is better than the reference."""
    rows = _compared(evidence)
    return decide([{"better": 1, "worse": -1}.get(row.verdict, 0) for _, row in rows], _words(rows))


def alike(evidence: Evidence, within: float) -> Outcome:
    """Ask whether the subject and the reference are equal up to a margin."""
    rows = _compared(evidence)
    return decide([inside_or_outside(*shares_of(*pair), -within, within) for pair in rows], _words(rows))


def _compared(evidence: Evidence) -> list[tuple[Table, Row]]:
    return [(table, row) for table in evidence.main if (row := row_of(table, SUBJECT)) and row.verdict]


def _words(rows: Sequence[tuple[Table, Row]]) -> str:
    return ", ".join(f"{table.comparison.task} {difference(row, table)}" for table, row in rows)


def all_alike(evidence: Evidence, within: float, optims: Sequence[str] = ()) -> Outcome:
    """Ask whether every optimizer, or those named, equals the reference up to a margin."""
    rows = [(table, row) for table in evidence.main for row in table.rows if row.verdict]
    rows = [(table, row) for table, row in rows if not optims or row.optim in optims]
    signs = [inside_or_outside(*shares_of(*pair), -within, within) for pair in rows]
    beyond = [(table, row) for (table, row), sign in zip(rows, signs, strict=True) if sign < 0]
    shown = ", ".join(f"{row.optim} on {table.comparison.task} {difference(row, table)}" for table, row in beyond)
    return decide(signs, f"beyond the margin: {shown or 'none'}")


def all_worse(evidence: Evidence, optims: Sequence[str]) -> Outcome:
    """Ask whether those named are worse than the reference."""
    rows = [(table, row) for table in evidence.main for row in table.rows if row.verdict and row.optim in optims]
    shown = ", ".join(f"{row.optim} on {table.comparison.task} {difference(row, table)}" for table, row in rows)
    return decide([{"worse": 1, "better": -1}.get(row.verdict, 0) for _, row in rows], shown)


def fewer_steps(evidence: Evidence, times: float) -> Outcome:
    """Ask whether the subject reaches the reference's final figure sooner."""
    signs, words = [], []
    for table in evidence.main:
        row, pair = row_of(table, SUBJECT), (main_kind(table, SUBJECT), main_kind(table, REFERENCE))
        if row is None or math.isnan(row.speedup) or pair[0] is None or pair[1] is None:
            continue
        low, high = speedup_interval(table, pair[0], pair[1])
        signs.append((low >= times) - (high < times))
        words.append(f"{table.comparison.task} {_speedup_in_words(row.speedup, low, high)}")
    return decide(signs, ", ".join(words))


def _speedup_in_words(factor: float, low: float, high: float) -> str:
    """Write a speed-up with its interval, and 0 in words: the figure is not reached."""
    places = decimals((high - low) / 2)
    value, *ends = (fixed(each, places) if each else "not reached" for each in (factor, low, high))
    return f"{value}{' times' if factor else ''} [{', '.join(dict.fromkeys(ends))}]"


def early_lead(evidence: Evidence, share: float) -> Outcome:
    """Ask whether the subject is ahead of the reference at a share of the run, and no longer ahead at its end."""
    signs, words = [], []
    for table, row in _compared(evidence):
        pair = main_kind(table, SUBJECT), main_kind(table, REFERENCE)
        if pair[0] is None or pair[1] is None:
            continue
        early = validation_difference(table, pair[0], pair[1], share)
        ahead = early.verdict(table.comparison.goal or "max")
        if ahead:
            signs.append((ahead == "better" and row.verdict != "better") - (ahead == "worse"))
            words.append(
                f"{table.comparison.task} {in_words(early, table)} at {share:.0%}, {difference(row, table)} at the end"
            )
    return decide(signs, ", ".join(words))


def smaller_span(evidence: Evidence) -> Outcome:
    """Show how many trials diverged and how far apart the best and the worst of the others are.

    All trials have one seed, so there is no interval to judge by.
    """
    words = []
    for table in evidence.main:
        settings = [c.settings for name in (SUBJECT, REFERENCE) if (c := main_kind(table, name))]
        if len(settings) < 2 or len(settings[0]) != len(settings[1]):
            continue
        spans = [(int((s["diverged"] > 0).sum()), float(s["final"].max() - s["final"].min())) for s in settings]
        unit = unit_of(table)
        texts = [unit.difference(span, math.nan, math.nan).lstrip("+") for _, span in spans]
        texts = [text + (f" and {n} diverged" if n else "") for text, (n, _) in zip(texts, spans, strict=True)]
        words.append(f"{table.comparison.task} {SUBJECT} {texts[0]}, {REFERENCE} {texts[1]}")
    if not words:
        return "not run", ""
    return "not judged", f"no interval, since trials have one seed: {', '.join(words)}"


def no_gain(evidence: Evidence, within: float) -> Outcome:
    """Ask whether the subject gains nothing over the reference, up to a margin."""
    rows = _compared(evidence)
    return conditions.without_gain(rows, within, _words(rows))


def higher_train_loss(evidence: Evidence) -> Outcome:
    """Compare the training loss over the last part of the runs at the chosen settings."""
    signs, words = [], []
    for table in evidence.main:
        ours, theirs = main_kind(table, SUBJECT), main_kind(table, REFERENCE)
        if ours is None or theirs is None:
            continue
        losses = train_loss(ours), train_loss(theirs)
        if min(map(len, losses)) < FRESH_SEEDS:
            continue
        variance = variance_of_choices(ours, theirs)
        found = paired_difference(*losses, comparisons=len(evidence.main), choice_variance=variance)
        signs.append(_sign(found))
        words.append(f"{table.comparison.task} {Unit().difference(found.value, found.low, found.high)}")
    return decide(signs, ", ".join(words))


def half_state(evidence: Evidence) -> Outcome:
    """Compare bytes of optimizer state."""
    shares = {}
    for table in evidence.main:
        ours, theirs = row_of(table, SUBJECT), row_of(table, REFERENCE)
        if ours and theirs and ours.optimizer_state_bytes > 0 and theirs.optimizer_state_bytes > 0:
            shares[table.comparison.task] = ours.optimizer_state_bytes / theirs.optimizer_state_bytes
    details = ", ".join(f"{task} {share:.0%}" for task, share in shares.items())
    if not shares:
        return "not run", ""
    return ("supported" if max(shares.values()) <= 0.501 else "contradicted"), details


def faster(evidence: Evidence, between: Sequence[float]) -> Outcome:
    """Ask whether the quartiles of the speed ratio lie in a range."""
    if evidence.speeds.empty:
        return "not run", ""
    ours = evidence.speeds[(evidence.speeds["optim"] == SUBJECT) & (evidence.speeds["reference"] == REFERENCE)]
    ours = ours[ours["ratio"].notna()].sort_values("step", key=lambda steps: steps.map(STEPS.index), kind="stable")
    rows = ours.drop_duplicates(["task", "scale", "model", "batch_size"]).sort_values("task").to_dict("records")
    shown = [f"{r['task']} {Unit().estimate(r['ratio'], r['low'], r['high'])} ({r['step']} steps)" for r in rows]
    details = ", ".join(shown)
    inside = [between[0] <= r["low"] and r["high"] <= between[1] for r in rows]
    outside = [r["high"] < between[0] or r["low"] > between[1] for r in rows]
    if not rows:
        return "not run", ""
    return ("supported" if all(inside) else "contradicted" if all(outside) else "not shown"), details


def kind_better(evidence: Evidence, kind: str, than: Sequence[str]) -> Outcome:
    """Compare Lion of one argument with Lion of others, all further arguments being equal."""
    pairs = kinds_of(evidence, kind, than)
    differences = [kind_difference(table, ours, theirs, len(pairs)) for table, ours, theirs, _ in pairs]
    goals = [1 if table.comparison.goal == "max" else -1 for table, *_ in pairs]
    ahead = [goal * _sign(each) for goal, each in zip(goals, differences, strict=True)]
    return decide(ahead, _kind_words(pairs, differences))


def kinds_alike(evidence: Evidence, kinds: Sequence[str], within: float) -> Outcome:
    """Ask whether Lion of one argument equals Lion of another up to a margin."""
    pairs = kinds_of(evidence, kinds[0], kinds[1:])
    differences = [kind_difference(table, ours, theirs, 1) for table, ours, theirs, _ in pairs]
    units = [share_unit(table) for table, *_ in pairs]
    signs = [
        inside_or_outside(d.low / unit, d.high / unit, -within, within)
        for d, unit in zip(differences, units, strict=True)
    ]
    return decide(signs, _kind_words(pairs, differences))


def fewer_diverge(evidence: Evidence, kind: str, than: Sequence[str]) -> Outcome:
    """Ask whether fewer trials of Lion diverged with one argument than with others, by Fisher's exact test."""
    signs, words = [], []
    for table, ours, theirs, other in kinds_of(evidence, kind, than):
        counts = [(int((c.settings["diverged"] > 0).sum()), len(c.settings)) for c in (ours, theirs)]
        (few, tried), (many, of) = counts
        if few + many == 0:
            continue
        surprising = stats.fisher_exact(np.array([[few, tried - few], [many, of - many]])).pvalue <= LEVEL
        signs.append(surprising * ((few / tried < many / of) - (few / tried > many / of)))
        words.append(f"{table.comparison.task} {few} of {tried} trials against {many} of {of} with {other}")
    return decide(signs, ", ".join(words))


def flatter(evidence: Evidence, relative: bool) -> Outcome:
    """Compare how much noise on the weights raises the training loss, at every noise level that was measured."""
    if evidence.landscape.empty:
        return "not run", ""
    rows = evidence.landscape[evidence.landscape["relative"] == relative]
    rows = rows.assign(rise=rows["perturbed_loss"] - rows["loss"])
    rises = rows.pivot_table(index=["task", "noise", "seed"], columns="optim", values="rise")
    if not {SUBJECT, REFERENCE} <= set(rises.columns):
        return "not run", ""
    levels = list(rises.groupby(level=["task", "noise"]))
    signs, words = [], []
    for (task, noise), level in levels:
        by_seed = level.droplevel(["task", "noise"])
        found = paired_difference(by_seed[SUBJECT], by_seed[REFERENCE], comparisons=len(levels))
        if found.seeds >= FRESH_SEEDS:
            signs.append(-_sign(found))
            words.append(f"{task} at {noise:g}: {by_seed[SUBJECT].mean():.3g} against {by_seed[REFERENCE].mean():.3g}")
    return decide(signs, ", ".join(words))


def bounded(evidence: Evidence) -> Outcome:
    """Ask whether the absolute values of the subject's weights are at most one over its weight decay."""
    if evidence.landscape.empty:
        return "not run", ""
    ours = evidence.landscape[evidence.landscape["optim"] == SUBJECT]
    enough = ours.groupby("task")["seed"].nunique() >= FRESH_SEEDS
    largest = ours[ours["task"].map(enough).astype(bool)].groupby("task")["bound"].max()
    details = ", ".join(f"{task} {value:.2f}" for task, value in largest.items())
    if largest.empty:
        return "not run", ""
    return ("supported" if (largest <= 1.001).all() else "contradicted"), f"largest weight times λ: {details}"


CRITERIA: dict[str, Callable[..., Outcome]] = {
    criterion.__name__: criterion
    for criterion in (
        setting_ratio,
        better,
        alike,
        all_alike,
        all_worse,
        early_lead,
        fewer_steps,
        smaller_span,
        conditions.gain_grows,
        conditions.gain_shrinks,
        no_gain,
        conditions.no_gain_below,
        conditions.worse_at_smallest,
        conditions.larger_best_batch,
        conditions.longer_warmup_gains,
        conditions.schedule_gains,
        fewer_diverge,
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
    return ", ".join(f"{table.comparison.task} over {other} {in_words(d, table)}" for (table, _, _, other), d in shown)


def _sign(found: Difference) -> int:
    word = found.verdict("max")
    return {"better": 1, "worse": -1}.get(word, 0)

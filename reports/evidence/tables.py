"""The ledger's tables as Markdown and CSV: the same files give the same bytes."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from reports.evidence import counts, ledger, pairs, statements, transfer
from reports.evidence.counts import Claim
from reports.evidence.ledger import SUBJECT, Ledger
from reports.evidence.pairs import BASELINE, LION, NO_VALUE, TIE, Pair
from reports.evidence.statements import CheckedStatement
from reports.evidence.transfer import HALF_DECADE, RULES, Regret, Score, choose
from reports.evidence.tuned_pairs import AXES, OWN, RECORDS, Axis, TunedPair, collect, studies_of

TARGET, MARGIN = 3.28, 0.004  # of the speed-run's rule: (target - mean loss) * sqrt(runs) is at least the margin
AXIS_WORDS = {"lr": "rate", "weight_decay": "decay"}
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Results:
    """The data behind the tables."""

    ledger: Ledger
    pairs: list[Pair]
    checked: list[CheckedStatement]
    claims: list[Claim]
    tuned: list[TunedPair]
    scores: dict[Axis, list[Score]]
    regrets: dict[str, list[Regret]]  # by the rule's name


def read_results(folder: Path = ledger.FOLDER, records: Path = RECORDS) -> Results:
    """Read the ledger and the suite's records, and compute everything.

    Raises:
        ConfigError: a file or a row is invalid.
    """
    read = ledger.read(folder)
    tuned, lines = collect(read, records)
    return Results(
        ledger=read,
        pairs=pairs.pairs(read),
        checked=statements.check_all(read),
        claims=counts.evaluate(read, folder / "claims.yaml"),
        tuned=tuned,
        scores={axis: transfer.scores(tuned, axis) for axis in AXES},
        regrets={rule.name: transfer.regrets(tuned, lines, rule) for rule in RULES},
    )


def files(results: Results) -> dict[str, str]:
    """Return the text of every file by its name."""
    tables = {
        "studies.csv": study_rows(results),
        "differences.csv": difference_rows(results.pairs),
        "statements.csv": statement_rows(results.checked),
        "claims.csv": claim_rows(results.claims),
        "tuned_pairs.csv": tuned_rows(results.tuned),
        "rules.csv": rule_rows(results),
        "regrets.csv": regret_rows(results),
    }
    return {"README.md": page(results, tables), **{name: _csv(rows) for name, rows in tables.items()}}


def study_rows(results: Results) -> Rows:
    """One row a study: who chose what how, and how its pairs came out."""
    rows = []
    for study in results.ledger.studies:
        readings = [pair.reading for pair in results.pairs if pair.study is study]
        valued = [reading for reading in readings if reading != NO_VALUE]
        rows.append(
            {
                "study": study.name,
                "rows": str(len(study.runs)),
                "pairs": str(len(readings)),
                "Lion ahead": str(sum(reading.startswith(LION) for reading in valued)),
                "behind": str(sum(reading.startswith(BASELINE) for reading in valued)),
                "not told apart": str(valued.count(TIE)),
                "settings only": str(readings.count(NO_VALUE)),
                "settings chosen by": study.chosen,
                "independent": "yes" if study.independent else "no",
                "what to know": study.caveats,
                "source": study.source,
                "licence": study.licence,
            }
        )
    return rows


def difference_rows(measured: Iterable[Pair]) -> Rows:
    """One row a pair."""
    return [
        {
            "study": pair.study.name,
            "experiment": pair.place,
            "parameters": pair.lion.parameters,
            "baseline": pair.baseline.optimizer,
            "baseline rate": _short(pair.baseline.lr),
            "Lion rate": _short(pair.lion.lr),
            "baseline decay": _short(pair.baseline.weight_decay),
            "Lion decay": _short(pair.lion.weight_decay),
            "metric": pair.lion.metric,
            "goal": pair.lion.goal or "",
            "baseline value": _short(pair.baseline.value, 6),
            "Lion value": _short(pair.lion.value, 6),
            "Lion minus baseline": "" if pair.difference is None else f"{pair.difference:+.4f}",
            "margin": "" if pair.margin is None else f"{pair.margin:.4f}",
            "best value on the edge": "; ".join(
                f"{AXIS_WORDS[axis]} of {' and '.join(sides)}" for axis in AXES if (sides := pair.on_edge(axis))
            ),
            "rests on": pair.basis,
            "reading": pair.reading,
        }
        for pair in measured
    ]


def statement_rows(checked: Iterable[CheckedStatement]) -> Rows:
    """One row for each statement that was checked against its study's figures."""
    return [
        {
            "study": one.study,
            "says": one.says,
            "own figures": one.computed,
            "verdict": one.verdict,
            "note": one.note,
            "source": one.source,
        }
        for one in checked
    ]


def claim_rows(claims: Iterable[Claim]) -> Rows:
    """One row a claim: what was counted, and what is cited."""
    return [
        {
            "id": claim.id,
            "suite claim": claim.suite or "",
            "claim": claim.claim,
            "for": _of(claim, "supports"),
            "against": _of(claim, "contradicts"),
            "neither": _of(claim, "neither"),
            "of": claim.counts.unit if claim.counts else "",
            "counted": claim.counts.words if claim.counts else "",
            "cited, not counted": cited(claim),
        }
        for claim in claims
    ]


def cited(claim: Claim) -> str:
    """Return the statements on a claim as one text, each with the side it takes and its source."""
    sides = {True: "for", False: "against", None: "neither"}
    return "; ".join(f"{sides[one['for']]}: {one['says']} ({one['source']})" for one in claim.statements)


def tuned_rows(tuned: Iterable[TunedPair]) -> Rows:
    """One row a pair of tuned settings."""
    return [
        {
            "study": pair.study,
            "task": pair.place,
            "domain": pair.domain,
            **{f"baseline {AXIS_WORDS[axis]}": _short(pair.base[axis]) for axis in AXES},
            **{f"Lion {AXIS_WORDS[axis]}": _short(pair.lion[axis]) for axis in AXES},
            "baseline betas": _betas(pair.base_betas),
            "Lion betas": _betas(pair.lion_betas),
            "batch": str(pair.batch or ""),
            "steps": str(pair.steps or ""),
            "best value on the edge": ", ".join(AXIS_WORDS[axis] for axis in AXES if axis in pair.edges),
        }
        for pair in tuned
    ]


def rule_rows(results: Results) -> Rows:
    """One row a rule and axis: its errors on studies that it was not fitted to."""
    rows = []
    for axis, scores in results.scores.items():
        used = choose(scores)
        studies = studies_of([pair for pair, _ in scores[0].errors])
        for score in scores:
            total = len(score.errors)
            row = {
                "of": AXIS_WORDS[axis],
                "rule": score.rule.name,
                "kind": "rule of thumb" if score.rule.thumb else "fitted",
                "used": "yes" if score is used else "",
                "within half a decade": f"{score.within} of {total} ({score.within / total:.0%})",
                "median error, decades": f"{score.median:.2f}",
                "worst error, decades": f"{score.worst:.2f}",
            }
            for study in studies_of(results.tuned):
                within, of = score.of_study(study)
                row[study] = f"{within} of {of}" if study in studies else ""
            rows.append(row)
    return rows


def regret_rows(results: Results) -> Rows:
    """One row a rule, study, axis and metric: what its suggestions cost where a sweep shows it."""
    rows = []
    for rule, regrets in results.regrets.items():
        groups: dict[tuple[str, Axis, str], list[Regret]] = {}
        for regret in regrets:
            key = (regret.line.pair.study, regret.line.axis, regret.line.metric)
            groups.setdefault(key, []).append(regret)
        for (study, axis, metric), group in sorted(groups.items()):
            costs = [regret.cost for regret in group if regret.cost is not None]
            rows.append(
                {
                    "rule": rule,
                    "of": AXIS_WORDS[axis],
                    "study": study,
                    "metric": metric,
                    "sweeps": str(len(group)),
                    "beyond what was tried": str(len(group) - len(costs)),
                    "median cost": _cost(median(costs)) if costs else "",
                    "worst cost": _cost(max(costs)) if costs else "",
                }
            )
    return rows


def page(results: Results, tables: Mapping[str, Rows]) -> str:
    """Return the page that explains the tables and shows them."""
    readings = Counter(pair.reading for pair in results.pairs)
    ours = sum(pair.study == OWN for pair in results.tuned)
    parts = [
        "# What others found",
        "Written by `python scripts/evidence.py` from `reports/evidence` and `reports/published/records`; "
        "[docs/evidence.md](../../../docs/evidence.md) says how to read it and how to add a study.",
        "## Studies",
        f"{len(results.ledger.runs):,} rows of {len(results.ledger.studies)} studies, "
        f"{len(results.pairs)} pairs of Lion and its baseline.",
        _markdown(tables["studies.csv"], leave_out=("licence",)),
        "## Differences",
        "Lion's best row minus the baseline's, in the metric's unit. The margin is the larger of what the source "
        "counts as equal and, of sweeps of nine rows and more, of how far the third best row lies behind the best: a "
        "step of some coordinate that moves the figure as much. No margin: nothing is published to say it from, and "
        "only the sign stands. "
        "A best value on the edge of those published may not be the best. "
        f"Readings: {', '.join(f'{reading} {number}' for reading, number in sorted(readings.items()))}. "
        "Pairs without figures stand in differences.csv alone.",
        _markdown(
            [row for row in tables["differences.csv"] if row["reading"] != NO_VALUE],
            leave_out=("baseline rate", "Lion rate", "baseline decay", "Lion decay", "metric"),
        ),
        "## What a study says and what its own figures show",
        _markdown(tables["statements.csv"]),
        "## Claims",
        "Counted from the rows, without the Lion paper's own pairs; what no rows allow to be counted is cited.",
        _markdown(tables["claims.csv"]),
        "## Settings that transfer",
        f"{len(results.tuned)} pairs tuned on both sides, {ours} of them this suite's. A rule is fitted to all studies "
        "but one and judged on that one; errors are in decades. Of this suite's pairs, a rate or decay on the edge of "
        "its grid, or where all that was tried ties, does not count. A fitted rule is used where it has a larger share "
        "within half a decade than the best rule of thumb, and no larger median and worst errors.",
        _markdown(tables["rules.csv"]),
        " ".join(_without_edges(results, axis) for axis in AXES),
        "What the suggestions would have cost, read from sweeps along one coordinate at the value nearest to the "
        "suggestion, in the unit of the metric.",
        _markdown([row for row in tables["regrets.csv"] if row["rule"] in _shown_rules(results)]),
        "## Leaderboards",
        "\n".join(f"- {line}" for line in leaderboards(results.ledger)),
    ]
    return "\n\n".join(parts) + "\n"


def _without_edges(results: Results, axis: Axis) -> str:
    """Say how accurate the chosen rule is without the pairs whose optimum may be beyond the published values."""
    score = choose(results.scores[axis])
    closed = [abs(error) <= HALF_DECADE for pair, error in score.errors if axis not in pair.edges]
    count = len(score.errors) - len(closed)
    return (
        f"In {count} pairs a {AXIS_WORDS[axis]} lies on the edge of the values that its study "
        f"published; without them the rule that is used is right in {sum(closed)} of {len(closed)}."
    )


def _shown_rules(results: Results) -> set[str]:
    """The rules of thumb and the chosen rule; all others are in the CSV."""
    return {rule.name for rule in RULES if rule.thumb} | {
        choose(scores).rule.name for scores in results.scores.values()
    }


def leaderboards(read: Ledger) -> list[str]:
    """Describe the public leaderboards' entries of Lion and of the optimizers it would be compared with."""
    passing = [row for row in read.speed_run if passes(row)]
    differing = [row for row in read.speed_run if passes(row) != (row["marked"] == "✓")]
    named = sum(SUBJECT in row["optimizers"] for row in read.speed_run)
    adam = [row for row in read.speed_run if row["optimizers"] == "Adam" and not row["builds_on"]]
    lines = [
        f"Public speed-run of a GPT-2 of 124M parameters to a loss of {TARGET}: {len(read.speed_run)} entries, "
        f"{len(passing)} pass its rule, {len(differing)} are marked otherwise by it; {named} name Lion."
    ]
    if passing:
        lines.append(f"Its fastest entry that passes takes {min(row['steps'] for row in passing):,} steps.")
    lines += [
        f"Its entry of Adam alone takes {row['steps']:,} steps, {row['seeds']} run, and "
        f"{'passes' if passes(row) else 'does not pass'} the rule."
        for row in adam
    ]
    scored = [row for row in read.algoperf if row["score"] is not None]
    lines.append(f"AlgoPerf: {len(scored)} scores of {len({row['leaderboard'] for row in scored})} rounds.")
    for row in read.algoperf:
        if row["submission"] == SUBJECT:
            betas = f"{row['beta1']:g} and {row['beta2']:g}"
            score = "no score" if row["score"] is None else f"score {row['score']:g}"
            lines.append(
                f"AlgoPerf's Lion, {row['ruleset']}: {score}; rate {row['lr']:g}, decay {row['weight_decay']:g}, "
                f"betas {betas}, one setting for all workloads."
            )
    return lines


def passes(row: Mapping[str, Any]) -> bool:
    """Say whether an entry of the speed-run passes its rule, a one-sided test over its runs."""
    return bool((TARGET - row["mean_loss"]) * math.sqrt(row["seeds"]) >= MARGIN - 1e-9)


def summary(results: Results) -> list[str]:
    """Return what a terminal shows: a line a study, contradictions, claims that were counted, and the rules used."""
    lines = ["studies"]
    for row in study_rows(results):
        lines.append(
            f"  {row['study']}: {row['rows']} rows, {row['pairs']} pairs: Lion ahead {row['Lion ahead']}, behind "
            f"{row['behind']}, not told apart {row['not told apart']}, settings only {row['settings only']}"
        )
    lines.append("statements that a study's own figures contradict")
    lines += [
        f"  {one.study}: {one.says}: {one.computed}" for one in results.checked if one.verdict != statements.AGREES
    ]
    lines.append("claims: for, against, neither")
    for claim in results.claims:
        if claim.counts:
            tally = claim.counts
            lines.append(f"  {claim.claim} {tally.supports}, {tally.contradicts}, {tally.neither} {tally.unit}")
        else:
            lines.append(f"  {claim.claim} cited: {len(claim.statements)}")
    lines.append("settings that transfer, judged on studies left out")
    for axis, scores in results.scores.items():
        used = choose(scores)
        lines.append(
            f"  {AXIS_WORDS[axis]}: {used.rule.name}: {used.within} of {len(used.errors)} within half a decade, median "
            f"error {used.median:.2f}, worst {used.worst:.2f} decades"
        )
    return lines


def _of(claim: Claim, name: str) -> str:
    return str(getattr(claim.counts, name)) if claim.counts else ""


def _short(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _cost(value: float) -> str:
    return "diverged" if math.isinf(value) else f"{value:.4f}"


def _betas(betas: tuple[float, float] | None) -> str:
    return f"{betas[0]:g} {betas[1]:g}" if betas else ""


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["none"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _markdown(rows: Sequence[Mapping[str, str]], leave_out: Sequence[str] = ()) -> str:
    if not rows:
        return "None."
    names = [name for name in rows[0] if name not in leave_out]
    lines = [names, ["---"] * len(names), *([row[name].replace("|", "\\|") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Count the results of other studies for and against the claims in claims.yaml, from the ledger's rows.

Each `count` in the file is a function here: from the ledger's pairs and arguments to the numbers of pairs (or another
unit) for the claim, against it, or neither. Pairs of the Lion paper are left out, since it made the claims.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.errors import ConfigError
from reports.evidence.ledger import FOLDER, Ledger, Run, read_yaml
from reports.evidence.pairs import BASELINE, LION, NO_MARGIN, NO_VALUE, TIE, Pair, line_along, pairs
from reports.evidence.statements import ROUNDING, setting_ratio

PAPER = "lion-paper"
DIVERGED = 1.0  # nats above the best of a line: the loss is near that of a model that learns nothing
KEYS = ("id", "claim", "suite", "count", "statements")


@dataclass(frozen=True)
class Counts:
    """Counts for a claim, against it, and neither, a description, and what a reader of the counts has to know."""

    supports: int
    contradicts: int
    neither: int
    unit: str
    words: str
    caveats: str = ""

    @property
    def total(self) -> int:
        """All that were counted."""
        return self.supports + self.contradicts + self.neither


@dataclass(frozen=True)
class Claim:
    """One claim, its counts from the ledger (None if the rows allow no count), and its citations."""

    id: str
    claim: str
    suite: str | None
    counts: Counts | None
    statements: tuple[Mapping[str, Any], ...]


def evaluate(ledger: Ledger, path: Path = FOLDER / "claims.yaml") -> list[Claim]:
    """Count every claim in the file, in its order.

    Raises:
        ConfigError: an entry is invalid.
    """
    measured = [pair for pair in pairs(ledger) if pair.study.name != PAPER]
    claims = []
    content = read_yaml(path)
    if not isinstance(content, list):
        raise ConfigError(f"{path}: expected a list of claims")
    for number, entry in enumerate(content, 1):
        place = f"{path}, claim {number}"
        _check(place, entry)
        counts = None
        if "count" in entry:
            arguments = {key: value for key, value in entry.items() if key not in KEYS}
            counts = COUNTS[entry["count"]](measured, **arguments)
        statements = tuple(entry.get("statements", ()))
        claims.append(Claim(entry["id"], entry["claim"], entry.get("suite"), counts, statements))
    return claims


def _check(place: str, entry: Any) -> None:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("id", "claim")):
        raise ConfigError(f"{place}: expected a mapping with an id and a claim")
    if "count" in entry:
        if entry["count"] not in COUNTS:
            raise ConfigError(f"{place}: count is {entry['count']!r}; known: {', '.join(COUNTS)}")
        wanted = dict(inspect.signature(COUNTS[entry["count"]]).parameters)
        del wanted["measured"]
        if unknown := sorted(set(entry) - set(wanted) - set(KEYS)):
            takes = ", ".join(wanted) or "nothing"
            raise ConfigError(f"{place}: {', '.join(unknown)} is unknown; {entry['count']} takes {takes}")
        if missing := sorted(n for n, p in wanted.items() if p.default is inspect.Parameter.empty and n not in entry):
            raise ConfigError(f"{place}: {entry['count']} needs {', '.join(missing)}")
    elif not entry.get("statements"):
        raise ConfigError(f"{place}: neither a count nor statements")
    for stated in entry.get("statements", ()):
        if not isinstance(stated, dict) or set(stated) != {"says", "source", "for"}:
            raise ConfigError(f"{place}: a statement has says, source and for, and nothing else")


def ahead(measured: Sequence[Pair], domain: str | None = None, models: Sequence[str] = ()) -> Counts:
    """Count the pairs in which Lion is ahead; signs without an interval count, and their number is reported."""
    chosen = [pair for pair in _chosen(measured, domain, models) if pair.reading != NO_VALUE]
    readings = [pair.reading for pair in chosen]
    supports, contradicts = (sum(reading.startswith(word) for reading in readings) for word in (LION, BASELINE))
    bare = sum(reading.endswith(NO_MARGIN) for reading in readings)
    words = f"Lion ahead in {supports}, behind in {contradicts}, not told apart in {readings.count(TIE)}"
    words += f"; {bare} by their sign alone"
    if authors := sum(not pair.study.independent for pair in chosen):
        words += f"; {authors} posted by an author of the Lion paper"
    return Counts(supports, contradicts, readings.count(TIE), "pairs", words, _caveats(chosen))


def not_ahead(measured: Sequence[Pair], tuned: bool) -> Counts:
    """Count the pairs, tuned on both sides or not, in which Lion is not ahead."""
    chosen = [pair for pair in measured if ("lr" in pair.study.tuned) == tuned]
    counts = ahead(chosen)
    return replace(counts, supports=counts.contradicts + counts.neither, contradicts=counts.supports, neither=0)


def alike(measured: Sequence[Pair], within: float, models: Sequence[str]) -> Counts:
    """Count the pairs whose accuracies differ by no more than a share."""
    chosen = [pair for pair in _chosen(measured, None, models) if pair.difference is not None]
    shares = [(pair.difference or 0.0) / (100 if "%" in pair.lion.metric else 1) for pair in chosen]
    inside = sum(abs(share) <= within for share in shares)
    words = f"differences of {_listed(shares, '+.4f')}, no intervals published"
    return Counts(inside, len(shares) - inside, 0, "pairs", words, _caveats(chosen))


def _caveats(chosen: Sequence[Pair]) -> str:
    """Say how many studies the pairs are of, and which of them are weak evidence."""
    studies = len({pair.study.name for pair in chosen})
    parts = {
        "not tuned": sum("lr" not in pair.study.tuned for pair in chosen),
        "without an interval": sum(pair.reading.endswith(NO_MARGIN) for pair in chosen),
        "by an author of the paper": sum(not pair.study.independent for pair in chosen),
    }
    counted = [f"{_all_or(number, len(chosen))} {words}" for words, number in parts.items() if number]
    return ", ".join([f"{studies} {'study' if studies == 1 else 'studies'}", *counted])


def _all_or(number: int, total: int) -> str:
    return ("both" if total == 2 else "all") if 1 < number == total else str(number)


def ratio_between(measured: Sequence[Pair], axis: str, between: Sequence[float]) -> Counts:
    """Count the tuned pairs whose ratio of rates (baseline over Lion) or decays (Lion over baseline) is in a range."""
    tuned = [(pair, ratio) for pair in measured if axis in pair.study.tuned and (ratio := setting_ratio(pair, axis))]
    ratios = [ratio for _, ratio in tuned]
    inside = sum(between[0] / ROUNDING <= ratio <= between[1] * ROUNDING for ratio in ratios)
    words = f"ratios from {min(ratios):.3g} to {max(ratios):.3g}" if ratios else "no tuned pairs"
    if edges := sum(bool(pair.on_edge(axis)) for pair, _ in tuned):
        words += f"; in {edges} a best value lies on the edge of those published"
    return Counts(inside, len(ratios) - inside, 0, "tuned pairs", words)


def product_kept(measured: Sequence[Pair], times: float) -> Counts:
    """Count the tuned pairs whose products of rate and decay differ by no more than a factor."""
    tuned = [pair for pair in measured if {"lr", "weight_decay"} <= set(pair.study.tuned)]
    both = [(setting_ratio(pair, "weight_decay"), setting_ratio(pair, "lr")) for pair in tuned]
    products = [decay / rate for decay, rate in both if decay and rate]
    inside = sum(1 / (times * ROUNDING) <= product <= times * ROUNDING for product in products)
    words = f"Lion's product over the baseline's from {min(products):.3g} to {max(products):.3g}" if products else ""
    return Counts(inside, len(products) - inside, 0, "tuned pairs", words)


def catches_up(measured: Sequence[Pair]) -> Counts:
    """Compare the difference at the longest with that at the shortest training of each size, beyond twice the noise."""
    changes, words = [], []
    for size, lengths in _by_size(measured).items():
        first, last = lengths[0], lengths[-1]
        toward = _signed(last) - _signed(first)
        changes.append(0 if abs(toward) <= 2 * (first.study.noise or 0.0) else math.copysign(1, toward))
        words.append(f"{size} {first.difference:+.4f} at {first.lion.variant} to {last.difference:+.4f} at")
        words[-1] += f" {last.lion.variant}"
    return _signs(changes, "sizes", ", ".join(words))


def longer_beta2(measured: Sequence[Pair]) -> Counts:
    """Compare Lion's chosen beta2 at the longest with that at the shortest training of each size."""
    changes, words = [], []
    for size, lengths in _by_size(measured).items():
        betas = [pair.lion.beta2 for pair in lengths if pair.lion.beta2 is not None]
        changes.append(_sign(betas[-1] - betas[0]))
        words.append(f"{size} {_listed(betas, 'g')}")
    return _signs(changes, "sizes", ", ".join(words))


def close_to_divergence(measured: Sequence[Pair], times: float) -> Counts:
    """Find the lowest rate above the best one that diverged, along each sweep of rates, of both optimizers."""
    supports, contradicts, words = 0, 0, []
    for pair in measured:
        for rows in (pair.baseline_rows, pair.lion_rows):
            line = line_along(rows, "lr")
            values = {rate: run.value for rate, run in line.items() if run.value is not None}
            if len(line) < 3 or not values or rows[0].goal != "min":
                continue
            best = min(values, key=lambda rate: values[rate])
            bad = [rate for rate in line if rate > best and values.get(rate, math.inf) > values[best] + DIVERGED]
            if bad and min(bad) <= times * best:
                supports += 1
                words.append(min(bad) / best)
            elif max(line) >= times * best:
                contradicts += 1
    shown = f"first divergence at {_listed(sorted(set(words)), 'g')} times the best rate" if words else ""
    return Counts(supports, contradicts, 0, "sweeps of the rate", shown)


def equal_decay(measured: Sequence[Pair]) -> Counts:
    """Read from sweeps of Lion's decay what the baseline's decay costs it, beyond the source's noise."""
    costs, above = [], 0
    for pair in measured:
        line = line_along(pair.lion_rows, "weight_decay")
        values = {decay: run.value for decay, run in line.items() if run.value is not None}
        above += len(values) >= 3 and min(values) > (pair.baseline.weight_decay or math.inf)
        if len(values) >= 3 and pair.baseline.weight_decay in values:
            best = (max if pair.lion.goal == "max" else min)(values.values())
            larger = max(decay for decay, value in values.items() if value == best) > pair.baseline.weight_decay
            cost = abs(values[pair.baseline.weight_decay] - best)
            noise = pair.study.noise or 0.0
            costs.append((0 if cost <= noise else 1 if larger else -1, cost))
    words = f"cost {_listed([cost for _, cost in costs], '.4f')}; " if costs else ""
    words += f"{above} more sweeps tried larger decays alone"
    return _signs([sign for sign, _ in costs], "sweeps of the decay", words)


def behind_at_equal_decay(measured: Sequence[Pair]) -> Counts:
    """Count the pairs of one and the same decay, above 0, in which Lion is behind."""
    equal = [
        pair for pair in measured if pair.lion.weight_decay and pair.lion.weight_decay == pair.baseline.weight_decay
    ]
    counts = ahead(equal)
    return Counts(counts.contradicts, counts.supports, counts.neither, counts.unit, counts.words)


def batch_gain(measured: Sequence[Pair]) -> Counts:
    """Compare the difference at the largest with that at the smallest batch that both sides ran, all else fixed.

    Learning rates are those of the centres: they were not tuned for each batch size.
    """
    changes, words = [], []
    for pair in measured:
        sides = [_steady(line_along(rows, "batch").values()) for rows in (pair.baseline_rows, pair.lion_rows)]
        common = sorted(set(sides[0]) & set(sides[1]))
        if len(common) < 2:
            continue
        ends = [sides[1][batch] - sides[0][batch] for batch in (common[0], common[-1])]
        toward = (ends[1] - ends[0]) * (1 if pair.lion.goal == "max" else -1)
        changes.append(0 if abs(toward) <= 2 * (pair.study.noise or 0.0) else math.copysign(1, toward))
        at = [f"{end:+.4f} at {batch}" for end, batch in zip(ends, (common[0], common[-1]), strict=True)]
        words.append(f"{pair.lion.parameters} {pair.lion.variant.partition(' ')[0]}: {' to '.join(at)}")
    return _signs(changes, "sweeps of the batch", "; ".join([*words, "rates not tuned anew"]))


def _steady(runs: Iterable[Run]) -> dict[int, float]:
    """Return the figures of runs that did not diverge, by batch."""
    values = {run.batch: run.value for run in runs if run.value is not None and run.batch is not None}
    return {batch: value for batch, value in values.items() if value <= min(values.values()) + DIVERGED}


def _by_size(measured: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return the pairs of one study and size that differ in the length of training, from the shortest to the longest.

    Longer means a multiple of the number of tokens that goes with the size, which the variant begins with: "2x ...".
    """
    sizes: dict[tuple[str, str], list[tuple[float, Pair]]] = {}
    for pair in measured:
        head = pair.lion.variant.partition("x")[0]
        if pair.difference is not None and head.isdigit():
            sizes.setdefault((pair.study.name, pair.lion.parameters), []).append((float(head), pair))
    sorted_sizes = {size: [pair for _, pair in sorted(of, key=lambda item: item[0])] for (_, size), of in sizes.items()}
    return {size: lengths for size, lengths in sorted_sizes.items() if len(lengths) > 1}


def _signed(pair: Pair) -> float:
    """The difference, larger for Lion ahead."""
    return (pair.difference or 0.0) * (1 if pair.lion.goal == "max" else -1)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _signs(signs: Sequence[float], unit: str, words: str) -> Counts:
    supports, contradicts = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
    return Counts(supports, contradicts, len(signs) - supports - contradicts, unit, words)


def _chosen(measured: Sequence[Pair], domain: str | None, models: Sequence[str]) -> list[Pair]:
    return [
        pair for pair in measured if domain in (None, pair.lion.domain) and (not models or pair.lion.model in models)
    ]


def _listed(values: Sequence[float], form: str) -> str:
    return " / ".join(format(value, form) for value in values)


COUNTS: Mapping[str, Callable[..., Counts]] = {
    count.__name__: count
    for count in (
        ahead,
        not_ahead,
        alike,
        ratio_between,
        product_kept,
        catches_up,
        longer_beta2,
        close_to_divergence,
        equal_decay,
        behind_at_equal_decay,
        batch_gain,
    )
}

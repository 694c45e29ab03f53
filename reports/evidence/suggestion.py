"""Suggest settings of Lion from AdamW's: a centre, trials in order, and how accurate such rules were."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recipes.errors import ConfigError
from recipes.tuning_grid import Point, around
from reports.evidence.schema import DOMAINS
from reports.evidence.transfer import Score, choose, scores
from reports.evidence.tuned_pairs import AXES, Axis, TunedPair, studies_of
from reports.protocol import TRIALS

Betas = tuple[float, float]
# The task of each domain, for the suggested command.
TASKS = {"images": "vit_b16", "language": "gpt2_small", "image_text": "lit_b16_b", "diffusion": "unet_64"}
OWN_DATA = {"images": "imagenet", "language": "text", "image_text": "image_text", "diffusion": "imagenet"}  # data=
DEFAULT_DOMAIN = "images"
SMALLEST, LARGEST, MOST = 1e-30, 1e30, 10**15  # values beyond are typing errors or overflow
WORDS = {"lr": "learning rate", "weight_decay": "weight decay"}


@dataclass(frozen=True)
class Asked:
    """AdamW's settings, and what is trained; None if not given.

    `batch` is in examples or sequences, `steps` in optimizer steps.
    """

    lr: float
    weight_decay: float
    betas: Betas | None = None
    batch: int | None = None
    steps: int | None = None
    domain: str | None = None

    def check(self) -> None:
        """Check the values.

        Raises:
            ConfigError: one line for each impossible value.
        """
        wrong = []
        if not SMALLEST <= self.lr <= LARGEST:
            wrong.append(f"--adamw-lr is {self.lr:g}; expected a number above 0, from {SMALLEST:g} to {LARGEST:g}")
        if self.weight_decay and not SMALLEST <= self.weight_decay <= LARGEST:
            allowed = f"0, or a number from {SMALLEST:g} to {LARGEST:g}"
            wrong.append(f"--adamw-weight-decay is {self.weight_decay:g}; expected {allowed}")
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            wrong.append(f"--betas are {self.betas[0]:g} {self.betas[1]:g}; expected two numbers from 0 to below 1")
        for name, value in (("--batch", self.batch), ("--steps", self.steps)):
            if value is not None and not 1 <= value <= MOST:
                wrong.append(f"{name} is {value}; expected a whole number from 1 to {MOST:,}")
        if self.domain is not None and self.domain not in DOMAINS:
            wrong.append(f"--domain is {self.domain!r}; known: {', '.join(DOMAINS)}")
        if wrong:
            raise ConfigError("\n".join(wrong))

    def as_pair(self) -> TunedPair:
        """Return what a rule is asked with."""
        base: dict[Axis, float | None] = {"lr": self.lr, "weight_decay": self.weight_decay}
        none: dict[Axis, float | None] = {"lr": None, "weight_decay": None}
        domain = self.domain or ""
        return TunedPair("asked", "asked", domain, base, none, self.betas, None, self.batch, self.steps)


@dataclass(frozen=True)
class Suggestion:
    """A centre for Lion, `trials` in order of promise, and their evidence.

    `counts` is, for each trial, the number of tuned pairs whose best setting was nearest to it, relative to the rule's
    centre; `scores` are those of the chosen rules; `outside` has a line for each value beyond those of the pairs.
    """

    asked: Asked
    centre: Point
    betas: Betas
    betas_from: str
    trials: tuple[Point, ...]
    counts: tuple[int, ...]
    scores: dict[Axis, Score]
    ratios: dict[Axis, list[float]]
    outside: tuple[str, ...]


def suggest(asked: Asked, pairs: Sequence[TunedPair]) -> Suggestion:
    """Suggest settings for Lion.

    Raises:
        ConfigError: a value is impossible.
    """
    asked.check()
    pair = asked.as_pair()
    chosen = {axis: choose(scores(pairs, axis)) for axis in AXES}
    of_domain = [pair for pair in pairs if asked.domain in (None, pair.domain)]
    centre = (_two_digits(_value(chosen, "lr", pairs, pair)), _two_digits(_value(chosen, "weight_decay", pairs, pair)))
    betas, betas_from = _betas(asked, of_domain)
    points = around(centre, TRIALS if centre[1] > 0 else 3)
    counts = _nearest_counts(chosen, points, centre)
    order = sorted(range(len(points)), key=lambda place: (place != 0, -counts[place], place))
    return Suggestion(
        asked=asked,
        centre=centre,
        betas=betas,
        betas_from=betas_from,
        trials=tuple(points[place] for place in order),
        counts=tuple(counts[place] for place in order),
        scores=chosen,
        ratios={axis: sorted(_ratio(other, axis) for other in of_domain if other.has(axis)) for axis in AXES},
        outside=tuple(_outside(asked, pairs)),
    )


def _value(chosen: dict[Axis, Score], axis: Axis, pairs: Sequence[TunedPair], pair: TunedPair) -> float:
    """Return the prediction of the chosen rule, fitted to all pairs, for a setting; 0 stays 0."""
    if not pair.base[axis]:
        return 0.0
    return chosen[axis].rule.fit([other for other in pairs if other.has(axis)], axis)(pair)


def _ratio(pair: TunedPair, axis: Axis) -> float:
    over, under = (pair.base, pair.lion) if axis == "lr" else (pair.lion, pair.base)
    return (over[axis] or math.nan) / (under[axis] or math.nan)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def _nearest_counts(chosen: dict[Axis, Score], points: Sequence[Point], centre: Point) -> list[int]:
    """Count for each point the tuned pairs whose best setting was nearest to it, relative to the rule's centre.

    The errors of the rules are those on held-out studies. Pairs without a tuned weight decay count along the learning
    rate only, at the centre's weight decay.
    """
    errors: dict[int, dict[Axis, float]] = {}  # by identity: two pairs of one study may have the same settings
    for axis in AXES:
        for pair, error in chosen[axis].errors:
            errors.setdefault(id(pair), {})[axis] = error
    places = [
        [math.log10(value / middle) if middle else 0.0 for value, middle in zip(p, centre, strict=True)] for p in points
    ]
    nearest: Counter[int] = Counter()
    for pair_errors in errors.values():
        if "lr" in pair_errors:
            at = (pair_errors["lr"], pair_errors.get("weight_decay", 0.0))
            distances = [math.dist(at, place) for place in places]
            nearest[distances.index(min(distances))] += 1
    return [nearest[place] for place in range(len(points))]


def _betas(asked: Asked, pairs: Sequence[TunedPair]) -> tuple[Betas, str]:
    """Take Lion's most frequent betas among the pairs with the nearest beta2 of AdamW; no rule is fitted for betas."""
    recorded = [pair for pair in pairs if pair.base_betas and pair.lion_betas]
    if not recorded:
        return (0.9, 0.99), "no tuned pair of such a task says its betas: Lion's defaults"
    if asked.betas is not None:
        memory = math.log10(1 - asked.betas[1])
        distance = [
            abs(math.log10(1 - pair.base_betas[1]) - memory) if pair.base_betas else math.inf for pair in recorded
        ]
        least = min(distance)
        recorded = [pair for pair, away in zip(recorded, distance, strict=True) if away <= least + 1e-9]
    counts = Counter(pair.lion_betas for pair in recorded)
    most = max(counts.values())
    betas = min(betas for betas, number in counts.items() if betas and number == most)
    near = f" with AdamW's beta2 at {recorded[0].base_betas[1]:g}" if asked.betas and recorded[0].base_betas else ""
    return betas, f"the most frequent of the {len(recorded)} tuned pairs{near}, {most} of them; not fitted"


def _outside(asked: Asked, pairs: Sequence[TunedPair]) -> Iterable[str]:
    """Report values that are outside the range of the tuned pairs, and how far."""
    ranges: list[tuple[str, float | None, list[float]]] = [
        ("--adamw-lr", asked.lr, [float(pair.base["lr"] or 0) for pair in pairs if pair.has("lr")]),
        (
            "--adamw-weight-decay",
            asked.weight_decay or None,
            [float(pair.base["weight_decay"] or 0) for pair in pairs if pair.has("weight_decay")],
        ),
        ("--batch", asked.batch, [float(pair.batch) for pair in pairs if pair.batch]),
        ("--steps", asked.steps, [float(pair.steps) for pair in pairs if pair.steps]),
    ]
    if asked.betas is not None:
        betas = [pair.base_betas for pair in pairs if pair.base_betas]
        ranges += [
            ("the memory 1/(1 - beta2)", 1 / (1 - asked.betas[1]), [1 / (1 - beta2) for _, beta2 in betas]),
        ]
    for name, value, tuned_values in ranges:
        if value is None or not tuned_values:
            continue
        low, high = min(tuned_values), max(tuned_values)
        if value < low / 1.001 or value > high * 1.001:
            factor = low / value if value < low else value / high
            yield (
                f"{name} {value:,.7g} is outside the tuned pairs' range, {low:,.7g} to {high:,.7g}, by a factor of "
                f"{factor:,.3g} ({math.log10(factor):.2g} decades): no rule was tested there"
            )


def described(suggestion: Suggestion) -> list[str]:
    """Return the lines that tell a suggestion and what it rests on."""
    asked, (lr, decay), betas = suggestion.asked, suggestion.centre, suggestion.betas
    text = [f"Lion's centre: lr {lr:g}, weight decay {decay:g}, betas {betas[0]:g} {betas[1]:g}"]
    if not asked.weight_decay:
        text.append("AdamW has no weight decay: the centre has none, and the rate alone is tried")
    rules = dict.fromkeys(score.rule for score in suggestion.scores.values())
    text += [
        f"rule: {rule.name}{'; no fitted rule beat it throughout' if rule.thumb else ', fitted'}" for rule in rules
    ]
    text += [f"betas: {suggestion.betas_from}", ""]
    for axis, score in suggestion.scores.items():
        text += _how_often_right(axis, score)
    kind = asked.domain or "all domains"
    for axis, ratios in suggestion.ratios.items():
        words = {"lr": "AdamW's rate over Lion's", "weight_decay": "Lion's decay over AdamW's"}[axis]
        span = f"{ratios[0]:.3g} to {ratios[-1]:.3g} in {len(ratios)} tuned pairs" if ratios else "no tuned pair"
        if ratios and axis == "lr":
            span += f", here lr {_two_digits(asked.lr / ratios[-1]):g} to {_two_digits(asked.lr / ratios[0]):g}"
        elif ratios and asked.weight_decay:
            ends = [_two_digits(asked.weight_decay * ratio) for ratio in (ratios[0], ratios[-1])]
            span += f", here weight decay {ends[0]:g} to {ends[1]:g}"
        text.append(f"{words} ({kind}): {span}")
    text += suggestion.outside
    text += ["", "trials in order: the centre, then by the number of tuned pairs whose best setting lay nearest"]
    for point, number in zip(suggestion.trials, suggestion.counts, strict=True):
        text.append(f"  lr {point[0]:<8g} weight decay {point[1]:<6g} {number}")
    data = OWN_DATA[asked.domain or DEFAULT_DOMAIN]
    return [
        *text,
        "",
        f"sweep: {command(suggestion)}",
        "  a small model of this suite on data that it has; add scale=gpu or scale=paper for a full-size one, and "
        f"data={data} data.path=FOLDER for your own data",
    ]


def _how_often_right(axis: Axis, score: Score) -> Iterable[str]:
    total = len(score.errors)
    yield (
        f"{WORDS[axis]}: within half a decade in {score.within} of {total} tuned pairs ({score.within / total:.0%}) of "
        f"studies left out; median error {score.median:.2f}, worst {score.worst:.2f} decades"
    )
    shares = [(study, score.of_study(study)) for study in studies_of([pair for pair, _ in score.errors])]
    yield "  " + ", ".join(f"{study} {within} of {of}" for study, (within, of) in shares)


def command(suggestion: Suggestion) -> str:
    """Return the sweep to type, of a task of this suite."""
    asked = suggestion.asked
    parts = [f"task={TASKS[asked.domain or DEFAULT_DOMAIN]}", "optim=lion", f"optim.lr={suggestion.centre[0]:g}"]
    parts += [f"optim.weight_decay={suggestion.centre[1]:g}"]
    parts += [f"'optim.betas=[{suggestion.betas[0]:g},{suggestion.betas[1]:g}]'"]
    parts += [f"batch_size={asked.batch}"] * bool(asked.batch) + [f"steps={asked.steps}"] * bool(asked.steps)
    return f"python scripts/tune.py {' '.join(parts)} trials={len(suggestion.trials)}"

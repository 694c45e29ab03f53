"""Rules that predict Lion's learning rate or weight decay from the baseline's, evaluated on held-out studies.

A rule is fitted to the pairs of all studies but one and evaluated on that one. Pairs of one study share models, data
and the authors' habits, so leaving out single pairs would overestimate a fitted rule. Errors are in decades: log10 of
the best value over the suggested value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from recipes.errors import ConfigError
from reports.evidence.tuned_pairs import AXES, Axis, Line, TunedPair, studies_of

HALF_DECADE = 0.5 + 1e-9  # a factor of 3.16, the step of the suite's grids; 1 to 3.16 counts as within
Suggest = Callable[[TunedPair], float]  # from a pair's baseline to Lion's value
Fit = Callable[[Sequence[TunedPair], Axis], Suggest]


@dataclass(frozen=True)
class Rule:
    """A rule for Lion's learning rate or weight decay; a rule of thumb is not fitted."""

    name: str
    fit: Fit
    thumb: bool = False


@dataclass(frozen=True)
class Score:
    """The accuracy of a rule on held-out studies.

    `errors` are in decades, a pair each; `studies` holds the share within half a decade of each study.
    """

    rule: Rule
    axis: Axis
    errors: tuple[tuple[TunedPair, float], ...]

    @property
    def sizes(self) -> list[float]:
        """The errors without their sign."""
        return [abs(error) for _, error in self.errors]

    @property
    def median(self) -> float:
        """The median error in decades."""
        return median(self.sizes)

    @property
    def worst(self) -> float:
        """The largest error in decades."""
        return max(self.sizes)

    @property
    def within(self) -> int:
        """The number of pairs predicted within half a decade."""
        return sum(size <= HALF_DECADE for size in self.sizes)

    def of_study(self, study: str) -> tuple[int, int]:
        """Return the number of a study's pairs within half a decade, and the number of its pairs."""
        errors = [abs(error) for pair, error in self.errors if pair.study == study]
        return sum(error <= HALF_DECADE for error in errors), len(errors)


def _log_ratio(pair: TunedPair, axis: Axis) -> float:
    return math.log10((pair.lion[axis] or math.nan) / (pair.base[axis] or math.nan))


def _times(factor: float) -> Fit:
    """Return the rule of thumb that divides the rate and multiplies the decay by one factor."""

    def fit(pairs: Sequence[TunedPair], axis: Axis) -> Suggest:
        return lambda pair: (pair.base[axis] or math.nan) * (1 / factor if axis == "lr" else factor)

    return fit


def _ratio(pairs: Sequence[TunedPair], axis: Axis) -> Suggest:
    shift = median(_log_ratio(pair, axis) for pair in pairs)
    return lambda pair: (pair.base[axis] or math.nan) * 10**shift


def _ratio_of_studies(pairs: Sequence[TunedPair], axis: Axis) -> Suggest:
    studies = studies_of(pairs)
    shift = fmean(median(_log_ratio(pair, axis) for pair in pairs if pair.study == study) for study in studies)
    return lambda pair: (pair.base[axis] or math.nan) * 10**shift


def _ratio_of_domain(pairs: Sequence[TunedPair], axis: Axis) -> Suggest:
    ratios: dict[str, list[float]] = {}
    for pair in pairs:
        ratios.setdefault(pair.domain, []).append(_log_ratio(pair, axis))
    overall = median(value for values in ratios.values() for value in values)
    shifts = {domain: median(values) for domain, values in ratios.items()}
    return lambda pair: (pair.base[axis] or math.nan) * 10 ** shifts.get(pair.domain, overall)


def _line(pairs: Sequence[TunedPair], axis: Axis) -> Suggest:
    """Least squares of log10 of Lion's value on log10 of the baseline's."""
    points = [(math.log10(pair.base[axis] or math.nan), math.log10(pair.lion[axis] or math.nan)) for pair in pairs]
    intercept, slope = _least_squares(points)
    return lambda pair: 10 ** (intercept + slope * math.log10(pair.base[axis] or math.nan))


def _by_steps(pairs: Sequence[TunedPair], axis: Axis) -> Suggest:
    """Least squares of the log ratio on log10 of the steps; the median ratio if the steps are unknown."""
    points = [(math.log10(pair.steps), _log_ratio(pair, axis)) for pair in pairs if pair.steps]
    overall = median(_log_ratio(pair, axis) for pair in pairs)
    intercept, slope = _least_squares(points) if len({x for x, _ in points}) > 1 else (overall, 0.0)

    def suggest(pair: TunedPair) -> float:
        shift = intercept + slope * math.log10(pair.steps) if pair.steps else overall
        return (pair.base[axis] or math.nan) * 10**shift

    return suggest


def _least_squares(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    across = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / across if across else 0.0
    return mean_y - slope * mean_x, slope


MIDDLE = math.sqrt(3 * 10)  # of 3 to 10 times, the paper's text (section 5), on a logarithmic scale
RULES = (
    Rule("rate over 10, decay times 10", _times(10), thumb=True),
    Rule("rate over 3, decay times 3", _times(3), thumb=True),
    Rule("the paper's text, the middle of 3 to 10 times", _times(MIDDLE), thumb=True),
    Rule("median ratio of the pairs", _ratio),
    Rule("mean of the studies' median ratios", _ratio_of_studies),
    Rule("median ratio by domain", _ratio_of_domain),
    Rule("line through the logarithms", _line),
    Rule("ratio by the number of steps", _by_steps),
)


def held_out(pairs: Sequence[TunedPair], axis: Axis, rule: Rule) -> Score:
    """Evaluate a rule by leaving out one study at a time."""
    tuned = [pair for pair in pairs if pair.has(axis)]
    errors = []
    for study in studies_of(tuned):
        suggest = rule.fit([pair for pair in tuned if pair.study != study], axis)
        errors += [
            (pair, math.log10((pair.lion[axis] or math.nan) / suggest(pair))) for pair in tuned if pair.study == study
        ]
    return Score(rule, axis, tuple(errors))


def scores(pairs: Sequence[TunedPair], axis: Axis, rules: Sequence[Rule] = RULES) -> list[Score]:
    """Evaluate all rules, in order.

    Raises:
        ConfigError: there are fewer than two studies.
    """
    studies = studies_of([pair for pair in pairs if pair.has(axis)])
    if len(studies) < 2:
        which = f"of {studies[0]} alone" if studies else "of no study"
        raise ConfigError(f"tuned pairs {which} have a {axis} of both sides; rules are judged on studies left out")
    return [held_out(pairs, axis, rule) for rule in rules]


def choose(judged: Sequence[Score]) -> Score:
    """Choose the rule of thumb of the largest share within half a decade, unless a fitted rule beats it throughout.

    Of rules of thumb with the same share, that of the smallest median error. A fitted rule has to have a larger share,
    and no larger median and worst errors: a rule picked from several on few studies looks better than it is.
    """
    thumb = min((score for score in judged if score.rule.thumb), key=lambda score: (-score.within, score.median))
    better = [
        score
        for score in judged
        if score.within > thumb.within and score.median <= thumb.median and score.worst <= thumb.worst
    ]
    return min(better, key=lambda score: (-score.within, score.median), default=thumb)


@dataclass(frozen=True)
class Regret:
    """The regret of a suggestion on one line of a sweep: the figure at the nearest value tried, minus the line's best.

    `cost` is in the unit of the metric: 0 at the best value, inf if the run at the nearest value diverged, None if the
    suggestion is more than half a step outside the values tried.
    """

    line: Line
    suggested: float
    nearest: float
    cost: float | None


def regrets(pairs: Sequence[TunedPair], lines: Sequence[Line], rule: Rule) -> list[Regret]:
    """Compute the regret of a rule's suggestions on sweeps, with the rule fitted without the sweep's study."""
    regrets = []
    for axis in AXES:
        tuned = [pair for pair in pairs if pair.has(axis)]
        for line in lines:
            if line.axis == axis and line.pair.has(axis):
                suggest = rule.fit([pair for pair in tuned if pair.study != line.pair.study], axis)
                regrets.append(regret(line, suggest(line.pair)))
    return regrets


def regret(line: Line, suggested: float) -> Regret:
    """Compute the regret of one suggested value."""
    place = math.log10(suggested)
    tried = [(math.log10(at), value) for at, value in line.values]
    nearest, value = min(tried, key=lambda point: abs(point[0] - place))
    steps = [right[0] - left[0] for left, right in itertools.pairwise(tried)]
    beyond = max(tried[0][0] - steps[0] / 2 - place, place - tried[-1][0] - steps[-1] / 2)
    cost = math.inf if value is None else abs(value - line.best)
    return Regret(line, suggested, 10**nearest, None if beyond > 0 else cost)

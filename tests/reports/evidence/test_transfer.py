"""Rules for Lion's settings, judged on studies left out, against numpy by brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import ConfigError
from reports.evidence import ledger, transfer
from reports.evidence.transfer import RULES, Rule, Score, choose, held_out, regret
from reports.evidence.tuned_pairs import AXES, Line, TunedPair, collect, from_records

BY_NAME = {rule.name: rule for rule in RULES}


def pair(study: str, base: float | None, lion: float | None, domain: str = "language", steps: int | None = None):
    none = {"weight_decay": None}
    return TunedPair(study, "", domain, {"lr": base, **none}, {"lr": lion, **none}, None, None, None, steps)


@pytest.fixture(scope="module")
def published():
    return collect(ledger.read())


def brute_force(pairs, axis, name) -> list[float]:
    """The errors of a fitted rule, each study's from a fit to the others by numpy."""
    known = [p for p in pairs if p.base[axis] and p.lion[axis]]
    errors = []
    for p in known:
        rest = [q for q in known if q.study != p.study]
        x, y = (np.log10([getattr(q, side)[axis] for q in rest]) for side in ("base", "lion"))
        at = np.log10(p.base[axis])
        if name == "median ratio of the pairs":
            guess = at + np.median(y - x)
        elif name == "line through the logarithms":
            slope, intercept = np.polyfit(x, y, 1)
            guess = intercept + slope * at
        elif name == "mean of the studies' median ratios":
            names = np.array([q.study for q in rest])
            guess = at + np.mean([np.median((y - x)[names == study]) for study in set(names)])
        elif name == "median ratio by domain":
            same = np.array([q.domain == p.domain for q in rest])
            guess = at + np.median((y - x)[same] if same.any() else y - x)
        else:
            timed = np.array([bool(q.steps) for q in rest])
            lengths = np.log10([q.steps for q in rest if q.steps])
            slope, intercept = np.polyfit(lengths, (y - x)[timed], 1)
            guess = at + (intercept + slope * np.log10(p.steps) if p.steps else np.median(y - x))
        errors.append(np.log10(p.lion[axis]) - guess)
    return errors


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", [rule.name for rule in RULES if not rule.thumb])
def test_held_out_errors_are_those_of_a_brute_force_fit(published, axis: str, name: str) -> None:
    pairs, _ = published
    ours = held_out(pairs, axis, BY_NAME[name])
    expected = brute_force(pairs, axis, name)
    by_pair = {id(p): error for p, error in ours.errors}
    known = [p for p in pairs if p.has(axis)]
    assert [by_pair[id(p)] for p in known] == pytest.approx(expected, abs=1e-9)
    assert ours.median == pytest.approx(np.median(np.abs(expected)))
    assert ours.worst == pytest.approx(np.max(np.abs(expected)))
    assert ours.within == np.sum(np.abs(expected) <= 0.5 + 1e-9)


@pytest.mark.parametrize(("name", "factor"), [("rate over 10, decay times 10", 10), ("rate over 3, decay times 3", 3)])
def test_rules_of_thumb_divide_the_rate_and_multiply_the_decay(published, name: str, factor: float) -> None:
    pairs, _ = published
    for axis, sign in (("lr", -1), ("weight_decay", 1)):
        errors = held_out(pairs, axis, BY_NAME[name]).errors
        expected = [math.log10(p.lion[axis] / p.base[axis]) - sign * math.log10(factor) for p, _ in errors]
        assert [error for _, error in errors] == pytest.approx(expected, abs=1e-12)


studies = st.lists(st.tuples(st.sampled_from("abc"), st.floats(1e-4, 1e-1)), min_size=4, max_size=12)


@settings(deadline=None)
@given(studies, st.floats(1, 30))
def test_where_all_pairs_have_one_ratio_every_fitted_rule_of_ratios_is_exact(found, ratio: float) -> None:
    several = [("a", 0.01), ("a", 0.03), ("b", 0.02), ("b", 0.05)]  # rates of each study, for a line to go through
    pairs = [pair(study, rate, rate / ratio) for study, rate in [*found, *several]]
    for rule in RULES:
        score = held_out(pairs, "lr", rule)
        if rule.thumb:
            assert len({round(error, 9) for _, error in score.errors}) == 1
        else:
            assert score.worst < 1e-6
            assert score.within == len(pairs)


def test_a_pair_never_helps_to_fit_the_rule_that_it_judges() -> None:
    """Moving the pairs of one study moves their own errors by as much: the fit does not follow them."""
    pairs = [pair("a", 0.01, 0.001), pair("b", 0.01, 0.002), pair("c", 0.01, 0.003)]
    moved = [pair("a", 0.01, 0.1), *pairs[1:]]
    for rule in RULES:
        before, after = (held_out(p, "lr", rule).errors[0][1] for p in (pairs, moved))
        assert after - before == pytest.approx(2, abs=1e-9), rule.name


def test_rules_are_not_judged_on_one_study() -> None:
    with pytest.raises(ConfigError, match="tuned pairs of a alone have a lr of both sides"):
        transfer.scores([pair("a", 0.01, 0.001), pair("b", 0.01, None)], "lr")


def score(thumb: bool, *errors: float) -> Score:
    rule = Rule(f"{thumb} {errors}", transfer.RULES[0].fit, thumb=thumb)
    return Score(rule, "lr", tuple((pair("a", 1, 1), error) for error in errors))


def test_a_fitted_rule_is_used_only_where_it_is_better_throughout() -> None:
    thumb, worse_thumb = score(True, 0.2, 0.6, 0.7), score(True, 0.6, 0.6, 0.6)
    assert choose([worse_thumb, thumb]) is thumb
    better = score(False, 0.1, 0.4, 0.7)
    assert choose([thumb, better, worse_thumb]) is better
    assert choose([thumb, score(False, 0.1, 0.4, 0.9)]) is thumb, "its worst error is larger"
    assert choose([thumb, score(False, 0.1, 0.55, 0.6)]) is thumb, "its share is no larger"
    half_right = score(True, 0.1, 0.1, 0.1, 0.6, 0.7)
    assert choose([half_right, score(False, 0.4, 0.4, 0.4, 0.4, 0.7)]) is half_right, "its median error is larger"


def test_half_a_decade_is_within_and_more_is_not() -> None:
    assert score(True, 0.5, -0.5, 0.501).within == 2


LINE = Line(pair("a", 1, 1), "lr", "min", "loss", ((1e-3, 3.0), (2e-3, 2.5), (4e-3, 2.75), (8e-3, None)))


@pytest.mark.parametrize(
    ("suggested", "nearest", "cost"),
    [
        (2e-3, 2e-3, 0.0),
        (1.3e-3, 1e-3, 0.5),
        (1.5e-3, 2e-3, 0.0),
        (5e-3, 4e-3, 0.25),
        (9e-3, 8e-3, math.inf),
        (0.72e-3, 1e-3, 0.5),
        (0.70e-3, 1e-3, None),
        (12e-3, 8e-3, None),
    ],
)
def test_regret_is_read_at_the_nearest_value(suggested: float, nearest: float, cost: float | None) -> None:
    result = regret(LINE, suggested)
    assert result.nearest == pytest.approx(nearest)
    assert result.cost == (None if cost is None else pytest.approx(cost))


def test_lines_of_marin_are_full_sweeps_and_hold_the_published_losses(published) -> None:
    _, lines = published
    (line,) = [
        line
        for line in lines
        if line.axis == "lr" and "130M, 1x" in line.pair.place and line.pair.study.startswith("marin")
    ]
    rates, losses = zip(*line.values, strict=True)
    assert rates == (0.0005, 0.001, 0.002, 0.004, 0.008)
    assert losses[rates.index(0.002)] == pytest.approx(3.551537, abs=1e-6)
    assert losses[rates.index(0.001)] == pytest.approx(3.549181, abs=1e-6)


def test_own_pairs_are_tuned_by_protocol_and_an_open_optimum_is_left_out(tune, tmp_path) -> None:
    root = tmp_path / "outputs"
    kinds = {"optim_args": {"betas": [0.9, 0.99]}, "task": "vit_b16", "root": root}
    tune("adamw", [0.9, 0.91], lr=1e-2, weight_decay=0.1, **kinds)
    tune("lion", [0.9, 0.91], lr=1e-3, weight_decay=1.0, **kinds)
    (result,), lines = from_records(root)
    assert (result.base, result.lion) == ({"lr": 1e-2, "weight_decay": 0.1}, {"lr": 1e-3, "weight_decay": 1.0})
    assert (result.domain, result.lion_betas, result.batch, result.steps) == ("images", (0.9, 0.99), 64, 100)
    assert sorted(line.axis for line in lines) == ["lr", "weight_decay"]
    assert all(line.best == 0.9 and len(line.values) == 3 for line in lines)


def test_an_optimum_on_the_edge_of_its_grid_does_not_count(tune, write_run, tmp_path) -> None:
    root = tmp_path / "outputs"
    kinds = {"optim_args": {"betas": [0.9, 0.99]}, "task": "vit_b16", "root": root}
    tune("adamw", [0.9, 0.91], lr=1e-2, weight_decay=0.1, **kinds)
    tune("lion", [0.9, 0.91], lr=1e-3, weight_decay=1.0, **kinds)
    write_run(optim="lion", lr=1e-2, weight_decay=1.0, seed=1000, final=0.99, **kinds)  # a better trial, at the edge
    for seed in range(3):
        write_run(optim="lion", lr=1e-2, weight_decay=1.0, seed=seed, final=0.99, **kinds)
    (result,), _ = from_records(root)
    assert result.base["lr"] is None
    assert result.lion["lr"] is None
    assert result.lion["weight_decay"] is None  # at this rate, no other decay was tried

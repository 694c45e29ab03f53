"""Settings suggested for Lion: the arithmetic, the order of trials, and what is said where the data end."""

import math
import re
import shlex
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import ConfigError
from recipes.tuning_grid import around
from reports.evidence import ledger
from reports.evidence.schema import DOMAINS
from reports.evidence.suggestion import Asked, command, described, suggest
from reports.evidence.tuned_pairs import TunedPair, collect

reasonable = st.floats(1e-6, 10).map(lambda value: float(f"{value:.3g}"))


@cache
def pairs() -> list[TunedPair]:
    """Those of the ledger and of the published records."""
    return collect(ledger.read())[0]


def tuned(study: str, rates: tuple[float, float], decays: tuple[float, float], **more: object) -> TunedPair:
    fields = {"domain": "language", "base_betas": (0.9, 0.99), "lion_betas": (0.95, 0.98), "batch": 64, "steps": 1000}
    sides = [dict(zip(("lr", "weight_decay"), side, strict=True)) for side in zip(rates, decays, strict=True)]
    return TunedPair(study, "", base=sides[0], lion=sides[1], **(fields | more))


def test_the_centre_is_what_the_rule_makes_of_adamws_settings() -> None:
    """All ratios are 10, so a tenth and ten times are right everywhere and no other rule of thumb is."""
    result = [tuned(study, (0.01, 0.001), (0.1, 1.0)) for study in "abc"]
    one = suggest(Asked(3e-4, 0.02), result)
    assert one.centre == (3e-5, 0.2)
    assert one.scores["lr"].rule.name == one.scores["weight_decay"].rule.name == "rate over 10, decay times 10"
    assert one.scores["lr"].within == 3
    shown = described(one)
    assert "AdamW's rate over Lion's (all domains): 10 to 10 in 3 tuned pairs, here lr 3e-05 to 3e-05" in shown
    assert "Lion's decay over AdamW's (all domains): 10 to 10 in 3 tuned pairs, here weight decay 0.2 to 0.2" in shown
    assert one.ratios == {"lr": pytest.approx([10] * 3), "weight_decay": pytest.approx([10] * 3)}


def test_a_fitted_rule_is_used_where_it_beats_all_rules_of_thumb() -> None:
    result = [tuned(study, (0.01, 0.01 / 200), (0.1, 20.0)) for study in "abc"]
    one = suggest(Asked(2e-3, 0.1), result)
    assert not one.scores["lr"].rule.thumb
    assert one.centre == (1e-5, 20.0)


def test_trials_are_the_grid_of_the_sweep_in_the_order_of_the_pairs() -> None:
    """Eight pairs lie half a decade lower in rate, five higher in decay, the rest at the centre."""
    result = [tuned(study, (0.01, 0.001), (0.1, 1.0)) for study in "ab" for _ in range(15)]
    result += [tuned("a", (0.01, 0.001 / math.sqrt(10)), (0.1, 1.0)) for _ in range(8)]
    result += [tuned("b", (0.01, 0.001), (0.1, 1.0 * math.sqrt(10))) for _ in range(5)]
    one = suggest(Asked(0.01, 0.1), result)
    assert one.centre == (1e-3, 1.0)
    assert one.trials[:3] == ((1e-3, 1.0), (3e-4, 1.0), (1e-3, 3.0))
    assert one.counts[:4] == (30, 8, 5, 0)
    assert set(one.trials) == set(around(one.centre, 9))


def test_betas_are_the_most_frequent_where_adamws_memory_is_nearest() -> None:
    result = [tuned(study, (0.01, 0.001), (0.1, 1.0)) for study in "abc"]
    result += [tuned("c", (0.01, 0.001), (0.1, 1.0), base_betas=(0.9, 0.999), lion_betas=(0.9, 0.99))]
    assert suggest(Asked(1e-3, 0.1, (0.9, 0.95)), result).betas == (0.95, 0.98)
    assert suggest(Asked(1e-3, 0.1, (0.9, 0.999)), result).betas == (0.9, 0.99)
    assert suggest(Asked(1e-3, 0.1), result).betas == (0.95, 0.98)
    assert suggest(Asked(1e-3, 0.1, domain="diffusion"), result).betas == (0.9, 0.99), "Lion's defaults"


def test_without_decay_there_is_none_and_the_rate_alone_is_tried() -> None:
    one = suggest(Asked(1e-3, 0), pairs())
    assert one.centre[1] == 0
    assert len(one.trials) == 3
    assert all(decay == 0 for _, decay in one.trials)
    assert "trials=3" in command(one)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            Asked(1.0, 0.1),
            "--adamw-lr 1 is outside the tuned pairs' range, 3e-05 to 0.03, by a factor of 33.3 (1.5 decades)",
        ),
        (Asked(1e-3, 0.1, steps=2_071_166), "by a factor of 2 (0.3 decades)"),
        (Asked(1e-3, 0.1, batch=1), "--batch 1 is outside"),
        (Asked(1e-3, 0.1, betas=(0.9, 0.9999)), "the memory 1/(1 - beta2) 10,000 is outside"),
    ],
)
def test_what_lies_beyond_the_data_is_said_with_how_far(asked: Asked, says: str) -> None:
    (line,) = suggest(asked, pairs()).outside
    assert says in line
    assert line in described(suggest(asked, pairs()))


def test_within_the_data_nothing_is_said() -> None:
    assert suggest(Asked(1e-3, 0.1, (0.9, 0.99), 256, 20_000, "language"), pairs()).outside == ()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(0.0, 0.1), "--adamw-lr is 0; expected"),
        (Asked(math.nan, 0.1), "--adamw-lr is nan; expected"),
        (Asked(1e-3, -0.1), "--adamw-weight-decay is -0.1; expected 0, or"),
        (Asked(1e-3, math.inf), "--adamw-weight-decay is inf"),
        (Asked(1e-3, 0.1, (0.9, 1.0)), "--betas are 0.9 1; expected two numbers from 0 to below 1"),
        (Asked(1e-3, 0.1, (0.9, math.nan)), "--betas are 0.9 nan"),
        (Asked(1e-3, 0.1, batch=0), "--batch is 0; expected a whole number from 1"),
        (Asked(1e-3, 0.1, steps=10**400), "--steps is 1000"),
        (Asked(1e-3, 0.1, domain="games"), "--domain is 'games'; known: images, language"),
    ],
)
def test_impossible_values_are_refused_in_a_line(asked: Asked, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        suggest(asked, pairs())
    assert str(raised.value).startswith(says)
    assert "\n" not in str(raised.value)


def test_several_impossible_values_have_a_line_each() -> None:
    with pytest.raises(ConfigError) as raised:
        Asked(-1, -1, (2, 2), 0, 0, "x").check()
    assert len(str(raised.value).splitlines()) == 6


@settings(deadline=None, max_examples=40)
@given(
    reasonable, reasonable, st.one_of(st.none(), st.sampled_from(DOMAINS)), st.one_of(st.none(), st.integers(1, 10**7))
)
def test_any_possible_settings_give_a_grid_around_a_centre_and_a_command(
    rate: float, decay: float, domain: str | None, steps: int | None
) -> None:
    one = suggest(Asked(rate, decay, None, None, steps, domain), pairs())
    assert one.trials[0] == one.centre
    assert sorted(one.trials) == sorted(around(one.centre, 9))
    assert list(one.counts[1:]) == sorted(one.counts[1:], reverse=True)
    known = Counter(p.has("lr") for p in pairs())[True]
    assert sum(one.counts) == known
    # Both follow one rule today, so the product stays; the rates are rounded to two digits.
    if one.scores["lr"].rule is one.scores["weight_decay"].rule and one.scores["lr"].rule.thumb:
        assert one.centre[0] * one.centre[1] == pytest.approx(rate * decay, rel=0.11)
    words = shlex.split(command(one))
    assert words[:2] == ["python", "scripts/tune.py"]
    assert f"optim.lr={one.centre[0]:g}" in words
    assert re.fullmatch(r"optim\.betas=\[[\d.]+,[\d.]+\]", words[6])

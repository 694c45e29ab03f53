import numpy as np
import pytest

from reports.plots.plot_style import styles_of
from reports.protocol import CHOICE_VARIANCE, SUBJECT, choice_variance
from reports.statistics.families import FIELD, families
from scripts import tune
from scripts.maintenance.simulate_protocol import RULES, simulate


def test_families_by_label():
    labels = [
        "adamw",
        "lion",
        "lion (betas 0.9 0.9)",
        "radam",
        "nadam (eps 1e-08)",
        "nadam (eps 1e-06)",
        "adamw (amsgrad)",
    ]
    assert families(labels, "adamw") == {
        "adamw": "",
        "lion": "primary",
        "lion (betas 0.9 0.9)": "variants",
        "radam": "rivals",
        "nadam (eps 1e-08)": "rivals",  # no row is plain nadam, so neither is a variant of it
        "nadam (eps 1e-06)": "rivals",
        "adamw (amsgrad)": "variants",
    }
    assert families(["lion", "adamw"], SUBJECT) == {"lion": "", "adamw": "rivals"}
    assert families(["adamw (eps 1e-08)", "adamw (eps 1e-06)", "lion"], "adamw (eps 1e-08)") == {
        "adamw (eps 1e-08)": "",
        "adamw (eps 1e-06)": "variants",
        "lion": "primary",
    }


def test_the_field_is_a_family_of_its_own_with_colours_of_its_own():
    labels = ["adamw", "lion", "radam", *FIELD, "muon (betas 0.9 0.95)"]
    named = families(labels, "adamw")
    assert {label for label, family in named.items() if family == "field"} == set(FIELD)
    assert (named["radam"], named["muon (betas 0.9 0.95)"]) == ("rivals", "variants")
    assert set(tune.FIELD.split(",")) - {"adamw", "lion"} <= set(FIELD)
    assert "muon" not in tune.ALL
    styles = styles_of(labels, "adamw", "lion")
    assert len({(style.colour, style.dashes) for style in styles.values()}) == len(labels)
    assert styles_of(["muon"], "adamw", "lion")["muon"] == styles["muon"]


def test_the_choice_of_settings_is_surer_with_more_trial_seeds():
    assert [choice_variance(n) for n in (0, 1, 2, 3, 9)] == [CHOICE_VARIANCE[n] for n in (1, 1, 1, 3, 3)]
    assert sorted(CHOICE_VARIANCE.values(), reverse=True) == list(CHOICE_VARIANCE.values())


@pytest.mark.slow
def test_the_protocol_finds_good_settings_and_few_false_wins():
    """The figures of docs/comparison.md, within what 1,000 simulated pairs can tell."""
    from hydra_plugins.tuning_protocol import Protocol

    def of(rule):
        return simulate(Protocol(trials=9, trial_seed=1000, seeds=5, first_seed=0, **RULES[rule]), 1000, seed=1)

    old, new = of("first grid, one trial seed"), of("the protocol: best 3 on 2 further trial seeds")
    assert old["within"] == pytest.approx(0.54, abs=0.04)
    assert new["within"] == pytest.approx(0.70, abs=0.04)
    assert new["enclosed"] > 0.99 > 0.3 > old["enclosed"]
    tolerance = 3 * np.sqrt(0.05 * 0.95 / 1000)
    for seeds in (3, 5, 10):
        assert new[f"with choice {seeds}"] <= 0.05 + tolerance
        assert new[f"plain {seeds}"] > new[f"with choice {seeds}"]

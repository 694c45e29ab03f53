import pytest

from reports.plots.plot_style import styles_of
from reports.protocol import CHOICE_VARIANCE, SUBJECT, TRIAL_SEEDS_FROM, choice_variance
from reports.records.reader import read_records
from reports.statistics.families import FIELD, families, variance_of_choices
from reports.statistics.selection import comparisons
from scripts import tune


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
    numbers = (0, 1, 2, 3, 4, 5, 9)
    assert [choice_variance(n) for n in numbers] == [CHOICE_VARIANCE[n] for n in (1, 1, 1, 3, 3, 5, 5)]
    assert sorted(CHOICE_VARIANCE.values(), reverse=True) == list(CHOICE_VARIANCE.values())


@pytest.mark.parametrize("trial_seeds", [1, 2, 3, 5])
def test_an_interval_allows_for_the_choice_by_its_trial_seeds(write_run, outputs, trial_seeds):
    """Three other settings were run on the first trial seed alone."""
    for optim in ("adamw", "lion"):
        for number in range(6):
            for seed in range(trial_seeds if number < 3 else 1):
                write_run(optim=optim, seed=TRIAL_SEEDS_FROM + seed, lr=10.0**-number)
        write_run(optim=optim, seed=0, lr=1.0)
    (comparison,) = comparisons(read_records([outputs]).runs)
    assert variance_of_choices(*comparison.contenders) == choice_variance(trial_seeds)

"""Which settings tie with the chosen one, by margins worked out by hand.

Over seeds 0.88, 0.92 and 0.90 the standard deviation is 0.02; the 97.5% point of t with two degrees of freedom, 4.303,
times the root of two times 0.02 is 0.122.
"""

import pytest

from reports.records.reader import read_records
from reports.statistics.selection import comparisons
from reports.statistics.ties import is_flat, tied_settings

SEEDS = (0.88, 0.92)


@pytest.fixture
def contender(outputs):
    return lambda: comparisons(read_records([outputs]).runs)[0].contenders[0]


@pytest.mark.parametrize(("others", "ties"), [(0.79, 9), (0.77, 1)])
def test_what_lies_within_the_margin_ties(tune, contender, others, ties):
    tune("adamw", SEEDS, trial_finals=(0.9, others))
    assert len(tied_settings(contender())) == ties
    assert [is_flat(contender(), axis) for axis in ("lr", "weight_decay")] == [ties == 9] * 2


def test_an_axis_is_flat_where_all_of_its_values_tie_at_the_chosen_value_of_the_other(write_run, contender):
    for rate, decay, final in ((1e-3, 0.1, 0.9), (1e-3, 0.3, 0.89), (1e-3, 1.0, 0.88), (1e-4, 0.1, 0.5)):
        write_run(lr=rate, weight_decay=decay, seed=1000, final=final)
    for seed, final in enumerate(SEEDS):
        write_run(lr=1e-3, weight_decay=0.1, seed=seed, final=final)
    write_run(lr=1e-3, weight_decay=0.1, seed=2, final=0.9)
    assert [is_flat(contender(), axis) for axis in ("lr", "weight_decay")] == [False, True]
    write_run(lr=1e-3, weight_decay=3.0, seed=1000, final=0.5)
    assert not is_flat(contender(), "weight_decay")


def test_a_diverged_setting_never_ties(tune, write_run, contender):
    tune("adamw", SEEDS, trial_finals=(0.9, 0.89))
    write_run(optim="adamw", lr=1.0, weight_decay=0.1, seed=1000, status="diverged")
    assert len(tied_settings(contender())) == 9
    assert not is_flat(contender(), "lr")
    assert is_flat(contender(), "weight_decay")

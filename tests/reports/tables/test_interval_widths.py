import math

import pytest
from scipy import stats

from reports.protocol import choice_variance
from reports.records.reader import read_records
from reports.tables.comparison import build_tables
from reports.tables.interval_widths import interval_widths

STEADY = (0.900, 0.910, 0.900, 0.910)


@pytest.fixture
def widths(tune, outputs):
    """The sentences on one task, from figures of AdamW and Lion on the same seeds."""

    def of(adamw, lion, **more):
        tune("adamw", adamw, **more)
        tune("lion", lion, **more)
        return interval_widths(build_tables(read_records([outputs]).runs, "adamw"))

    return of


def half_width(differences):
    """The formula of docs/comparison.md, with a t quantile of the seeds and with the normal one of infinitely many."""
    n, mean = len(differences), sum(differences) / len(differences)
    sd = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    of_choice = choice_variance(1)
    now = stats.t.ppf(0.975, n - 1) * sd * math.sqrt(1 / n + of_choice)
    return now, stats.norm.ppf(0.975) * sd * math.sqrt(of_choice)


def test_a_narrow_interval_is_counted(widths):
    assert widths(STEADY, (0.901, 0.912, 0.902, 0.911)) == (
        "The intervals' half-widths are at most 1 point or 3% on 1 of 1 tasks."
    )


def test_a_wide_one_is_named_with_what_more_seeds_could_do(widths):
    lion = (0.80, 0.95, 0.85, 0.92)
    now, least = half_width([one - other for one, other in zip(lion, STEADY, strict=True)])
    text = widths(STEADY, lion)
    assert "at most 1 point or 3% on 0 of 1 tasks. Wider, in brackets with any number of fresh seeds: " in text
    assert f" {100 * now:.2g} points ({100 * least:.2g} points)." in text


def test_of_a_perplexity_it_is_a_share_of_the_references(widths):
    adamw, lion = (30.0, 31.0, 30.0, 31.0), (33.0, 36.0, 30.0, 39.0)
    now, least = half_width([one - other for one, other in zip(lion, adamw, strict=True)])
    text = widths(adamw, lion, metric="perplexity", goal="min")
    assert f" {100 * now / 30.5:.2g}% ({100 * least / 30.5:.2g}%)." in text


def test_of_a_reference_of_zero_there_is_no_share(widths):
    assert widths((0.0, 0.0, 0.0), (1.0, 2.0, 3.0), metric="loss", goal="min") == ""


def test_without_fresh_seeds_of_both_nothing_is_said(write_run, outputs):
    write_run()
    assert interval_widths(build_tables(read_records([outputs]).runs, "adamw")) == ""

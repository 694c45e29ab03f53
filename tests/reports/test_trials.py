"""Choosing on seeds that are kept for choosing, and telling an optimizer's kinds apart."""

import pytest

from reports.records.reader import read_records
from reports.statistics.selection import TRIAL_SEEDS_FROM, comparisons

TRIAL = TRIAL_SEEDS_FROM


@pytest.fixture
def contenders(outputs):
    def read():
        (comparison,) = comparisons(read_records([outputs]).runs)
        return {contender.label: contender for contender in comparison.contenders}

    return read


def test_trials_choose_and_fresh_seeds_speak(write_run, contenders):
    write_run(lr=1e-3, seed=TRIAL, final=0.90)
    write_run(lr=1e-4, seed=TRIAL, final=0.80)
    for seed, value in enumerate([0.70, 0.72]):  # fresh seeds do worse than what was chosen on, as they must
        write_run(lr=1e-3, seed=seed, final=value)
    write_run(lr=1e-4, seed=0, final=0.99)  # a fresh seed elsewhere, however good, changes no choice
    adamw = contenders()["adamw"]
    assert adamw.fresh
    assert adamw.chosen["lr"] == 1e-3
    assert list(adamw.by_seed("final")) == [0.70, 0.72]
    assert len(adamw.trials) == len(adamw.settings) == 2


def test_trials_without_fresh_seeds_leave_the_means_empty(write_run, contenders):
    write_run(seed=TRIAL, final=0.9)
    adamw = contenders()["adamw"]
    assert adamw.chosen["lr"] == 1e-3
    assert adamw.by_seed("final").empty


def test_without_trials_all_seeds_choose_and_speak(write_run, contenders):
    write_run(seed=TRIAL - 1, final=0.9)
    adamw = contenders()["adamw"]
    assert not adamw.fresh
    assert list(adamw.by_seed("final")) == [0.9]


def test_kinds_of_one_optimizer_are_named_by_what_differs(write_run, contenders):
    common = {"optim": "lion", "variant": "lion.Lion"}
    write_run(**common, optim_args={"betas": [0.9, 0.99], "momentum_dtype": "bfloat16"})
    write_run(**common, optim_args={"betas": [0.9, 0.9], "momentum_dtype": "bfloat16"})
    write_run()
    assert set(contenders()) == {"adamw", "lion (betas 0.9 0.99)", "lion (betas 0.9 0.9)"}


def test_the_kind_of_most_tasks_has_the_plain_name(write_run, outputs):
    common = {"optim": "lion", "variant": "lion.Lion"}
    usual = {"betas": [0.9, 0.99], "momentum_dtype": "bfloat16"}
    write_run(**common, optim_args=usual)
    write_run(**common, optim_args=usual, task="another")
    write_run(**common, optim_args=usual | {"betas": [0.9, 0.9]})
    write_run(**common, optim_args=usual | {"momentum_dtype": "float32"})
    records = max(comparisons(read_records([outputs]).runs), key=lambda comparison: len(comparison.contenders))
    labels = {contender.label for contender in records.contenders}
    assert labels == {"lion", "lion (betas 0.9 0.9)", "lion (momentum_dtype float32)"}


def test_an_ablation_leaves_the_plain_name_to_the_kind_of_more_tasks_though_another_has_most(write_run, outputs):
    """Language has other betas than images: where they are varied, they are the usual ones."""
    common = {"optim": "lion", "variant": "lion.Lion"}
    images, language = {"betas": [0.9, 0.99]}, {"betas": [0.95, 0.98]}
    for task in ("vit", "mixer", "resnet"):
        write_run(**common, optim_args=images, task=task)
    for task in ("gpt", "t5"):
        write_run(**common, optim_args=language, task=task)
    write_run(**common, optim_args={"betas": [0.95, 0.95]}, task="gpt")
    labels = {
        comparison.task: {contender.label for contender in comparison.contenders}
        for comparison in comparisons(read_records([outputs]).runs)
    }
    assert labels["gpt"] == {"lion", "lion (betas 0.95 0.95)"}
    assert labels["vit"] == labels["t5"] == {"lion"}


def test_kinds_with_an_argument_that_others_lack(write_run, contenders):
    write_run(optim="lion", variant="plain", optim_args={"betas": [0.9, 0.99]})
    write_run(optim="lion", variant="plain", optim_args={"betas": [0.9, 0.99], "caution": True})
    assert set(contenders()) == {"lion (defaults)", "lion (caution True)"}


def test_a_run_that_ended_early_joins_the_only_kind(write_run, contenders):
    write_run(optim_args={"betas": [0.9, 0.999]}, variant="a")
    write_run(status="failed", seed=1, optim_args=None, variant=None)
    assert len(contenders()["adamw"].runs) == 2

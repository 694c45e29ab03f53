import math

import pytest

from reports.records.reader import read_records
from reports.statistics.selection import comparisons


@pytest.fixture
def compared(outputs):
    return lambda: comparisons(read_records([outputs]).runs)


def chosen(contender):
    return contender.chosen["lr"], contender.chosen["weight_decay"]


def test_the_choice_is_by_validation_where_test_would_choose_otherwise(write_run, compared):
    write_run(lr=1e-3, final=0.90, test=0.50)
    write_run(lr=1e-4, final=0.80, test=0.99)
    (comparison,) = compared()
    assert chosen(comparison.contenders[0]) == (1e-3, 0.1)


def test_the_choice_is_by_final_not_by_best(write_run, compared):
    write_run(lr=1e-3, final=0.90, best=0.90)
    write_run(lr=1e-4, final=0.80, best=0.99)
    assert chosen(compared()[0].contenders[0]) == (1e-3, 0.1)


def test_a_metric_to_be_lowered(write_run, compared):
    write_run(lr=1e-3, final=3.0, goal="min", metric="loss")
    write_run(lr=1e-4, final=2.0, goal="min", metric="loss")
    assert chosen(compared()[0].contenders[0]) == (1e-4, 0.1)


def test_the_mean_over_seeds_decides(write_run, compared):
    for seed, value in enumerate([0.99, 0.50]):
        write_run(lr=1e-3, seed=seed, final=value)
    for seed, value in enumerate([0.80, 0.82]):
        write_run(lr=1e-4, seed=seed, final=value)
    contender = compared()[0].contenders[0]
    assert chosen(contender) == (1e-4, 0.1)
    assert contender.chosen["final"] == pytest.approx(0.81)
    assert list(contender.by_seed("final")) == [0.80, 0.82]


def test_both_axes_make_the_setting(write_run, compared):
    write_run(lr=1e-3, weight_decay=0.1, final=0.7)
    write_run(lr=1e-3, weight_decay=1.0, final=0.8)
    write_run(lr=1e-4, weight_decay=1.0, final=0.6)
    assert chosen(compared()[0].contenders[0]) == (1e-3, 1.0)


def test_a_setting_that_diverged_ranks_behind(write_run, compared):
    write_run(lr=1e-2, seed=0, final=0.99)
    write_run(lr=1e-2, seed=1, status="diverged", diverged_step=30, final=0.999)
    write_run(lr=1e-3, seed=0, final=0.70)
    contender = compared()[0].contenders[0]
    assert chosen(contender) == (1e-3, 0.1)
    broken = contender.settings.set_index("lr").loc[1e-2]
    assert (broken["seeds"], broken["diverged"], broken["final"]) == (1, 1, 0.99)


def test_of_settings_that_all_diverged_once_the_best_is_chosen(write_run, compared):
    for lr, value in ((1e-2, 0.6), (1e-3, 0.7)):
        write_run(lr=lr, seed=0, final=value)
        write_run(lr=lr, seed=1, status="diverged")
    contender = compared()[0].contenders[0]
    assert chosen(contender) == (1e-3, 0.1)
    assert len(contender.at_choice("diverged")) == 1


def test_where_all_that_were_run_again_diverged_one_that_did_not_is_chosen(write_run, compared):
    for lr, value in ((1e-2, 0.9), (1e-3, 0.8)):
        write_run(lr=lr, seed=0, final=value)
        write_run(lr=lr, seed=1, status="diverged")
    write_run(lr=1e-4, seed=0, final=0.5)
    assert chosen(compared()[0].contenders[0]) == (1e-4, 0.1)


def test_of_equals_the_one_with_more_seeds(write_run, compared):
    write_run(lr=1e-4, seed=0, final=0.5)
    write_run(lr=1e-3, seed=0, final=0.5)
    write_run(lr=1e-3, seed=1, final=0.5)
    assert chosen(compared()[0].contenders[0]) == (1e-3, 0.1)


def test_no_completed_run_no_choice(write_run, compared):
    write_run(status="diverged")
    write_run(status="failed", lr=1e-4)
    contender = compared()[0].contenders[0]
    assert contender.chosen is None
    assert contender.at_choice().empty
    assert len(contender.settings) == 1  # what failed was not tried


def test_a_setting_without_weight_decay(write_run, compared):
    write_run(weight_decay=None, final=0.9)
    write_run(weight_decay=None, seed=1, final=0.8)
    contender = compared()[0].contenders[0]
    assert math.isnan(contender.chosen["weight_decay"])
    assert len(contender.at_choice()) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 200},
        {"data": "glyphs"},
        {"data_fingerprint": {"val": "fedc", "train": "0123"}},
        {"model": "mixer"},
        {"model_args": {"depth": 8, "width": 64}},
        {"batch_size": 128},
        {"augment": "mixup"},
        {"num_parameters": 500_000},
        {"metric": "loss", "goal": "min"},
        {"scale": "paper"},
        {"task": "letters"},
    ],
)
def test_unlike_runs_are_never_put_together(write_run, compared, other):
    write_run()
    write_run(optim="lion", **other)
    assert [len(comparison.contenders) for comparison in compared()] == [1, 1]


def test_a_run_that_ended_early_joins_the_comparison_it_belongs_to(write_run, compared):
    write_run()
    write_run(optim="lion", status="failed", model=None, data_fingerprint={}, num_parameters=0)
    (comparison,) = compared()
    assert comparison.model == "vit"
    assert [contender.label for contender in comparison.contenders] == ["adamw", "lion"]


def test_a_run_that_could_belong_to_two_comparisons_stands_alone(write_run, compared):
    write_run(model="small")
    write_run(model="large")
    write_run(optim="lion", status="failed", model=None)
    assert sorted((comparison.model or "") for comparison in compared()) == ["", "large", "small"]


def test_a_fact_that_no_run_has_does_not_part_them(write_run, compared):
    write_run(data_fingerprint=None)
    write_run(optim="lion", data_fingerprint=None)
    write_run(optim="lion", data_fingerprint=None, model=None, status="failed")
    assert [len(comparison.contenders) for comparison in compared()] == [2]


def test_variants_of_an_optimizer_are_apart(write_run, compared):
    write_run(variant="torch")
    write_run(variant="timm")
    write_run(variant="timm", seed=1)
    contenders = compared()[0].contenders
    assert [(c.label, len(c.runs)) for c in contenders] == [("adamw (timm)", 2), ("adamw (torch)", 1)]


def test_a_run_that_failed_before_it_named_its_variant_joins_the_only_one(write_run, compared):
    write_run(variant="torch")
    write_run(variant=None, status="failed")
    assert [c.label for c in compared()[0].contenders] == ["adamw"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"momentum": 0.9}),
        ({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "c": 2}}),
        ({"dtype": None}, {"dtype": "none"}),
        ({"fused": True}, {"fused": "True"}),
        ({"betas": [0.9]}, {"betas": 0.9}),
        ({"betas": [0.9, 0.99]}, {"betas": "0.9 0.99"}),
        ({"a": "1, b 2"}, {"a": 1, "b": 2}),
    ],
)
def test_runs_with_different_arguments_never_share_a_row(write_run, compared, one, other):
    write_run(optim_args=one)
    write_run(optim_args=other)
    labels = [contender.label for contender in compared()[0].contenders]
    assert len(set(labels)) == 2


def test_one_setting_spelt_in_two_ways_is_one_row(write_run, compared):
    write_run(optim_args={"betas": [0, 0.99], "eps": 1})
    write_run(optim_args={"betas": [0.0, 0.99], "eps": 1.0}, seed=1)
    (contender,) = compared()[0].contenders
    assert contender.described == "betas 0 0.99, eps 1"


def test_why_an_optimizer_refuses_shards_is_no_argument(write_run, compared):
    """It is a sentence: older records hold it among the arguments, newer ones do not."""
    write_run(optim_args={"momentum": 0.95, "refuses_shards": "it orthogonalizes whole matrices"})
    write_run(optim_args={"momentum": 0.95}, seed=1)
    (contender,) = compared()[0].contenders
    assert contender.described == "momentum 0.95"


def test_the_class_is_what_ran_and_old_records_name_it_in_their_text(write_run, compared):
    write_run(variant="torch.optim.AdamW, eps 1e-6 (Lion paper, appendix)")
    write_run(variant="another text", optim_class="torch.optim.AdamW", seed=1)
    write_run(optim="nadam", variant="Optax's nadamw: constant beta1, momentum corrected for the next step")
    write_run(optim="nadam", optim_class="baselines.NAdamW", seed=1)
    assert [c.described for c in compared()[0].contenders] == ["torch.optim.AdamW", "baselines.NAdamW"]

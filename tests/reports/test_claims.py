"""Each rule on records made by hand: what it takes to support, to contradict, and to say nothing."""

import json

import pandas as pd
import pytest
import yaml

from reports import claims
from reports.landscape import read_landscape
from reports.records import read_records
from reports.selection import TRIAL_SEEDS_FROM
from reports.table import build_tables

NO_SPEEDS = pd.DataFrame(columns=["optim", "reference"])


@pytest.fixture
def judge(outputs):
    """Judge one test over the records written so far: returns the verdict."""

    def run(test, speeds=NO_SPEEDS, landscape=None, **given):
        tables = build_tables(read_records([outputs]).runs, "adamw", None)
        main = claims.main_tables(tables)
        found = claims.Evidence(main, tables, speeds, pd.DataFrame() if landscape is None else landscape)
        return claims.TESTS[test](found, **given)[0]

    outputs.mkdir(exist_ok=True)
    return run


def runs(write_run, optim, tests, **given):
    for seed, test in enumerate(tests):
        write_run(optim=optim, seed=seed, test=test, final=test, **given)


def test_every_claim_names_a_test_with_its_arguments_and_nothing_is_judged_without_records(outputs):
    outputs.mkdir()
    entries = yaml.safe_load(claims.CLAIMS.read_text())
    assert {entry["test"] for entry in entries} == set(claims.TESTS)
    verdicts = claims.evaluate(build_tables(read_records([outputs]).runs, "adamw"), NO_SPEEDS)
    assert [verdict.verdict for verdict in verdicts] == ["not run"] * len(entries)


@pytest.mark.parametrize(
    ("rates", "word"), [((1e-3, 3e-4), "supported"), ((1e-3, 1e-4), "supported"), ((1e-3, 1e-3), "contradicted")]
)
def test_setting_ratio(write_run, judge, rates, word):
    for optim, rate in zip(("adamw", "lion"), rates, strict=True):
        write_run(optim=optim, lr=rate, weight_decay=1 / rate)
    assert judge("setting_ratio", axis="lr", between=[3, 10]) == word
    assert judge("setting_ratio", axis="weight_decay", between=[3, 10]) == word


def test_setting_ratio_on_some_tasks_only(write_run, judge):
    for task, rate in (("a", 1e-4), ("b", 1e-3)):
        write_run(task=task, lr=1e-3)
        write_run(task=task, optim="lion", lr=rate)
    assert judge("setting_ratio", axis="lr", between=[3, 10]) == "not shown"


@pytest.mark.parametrize(
    ("ours", "word"),
    [((0.95, 0.951), "supported"), ((0.5, 0.51), "contradicted"), ((0.95, 0.85), "not shown"), ((0.9,), "not run")],
)
def test_better(write_run, judge, ours, word):
    runs(write_run, "adamw", (0.90, 0.902))
    runs(write_run, "lion", ours)
    assert judge("better") == word


@pytest.mark.parametrize(
    ("ours", "word"),
    [((0.9005, 0.9014), "supported"), ((0.95, 0.951), "contradicted"), ((0.85, 0.95), "not shown")],
)
def test_alike(write_run, judge, ours, word):
    runs(write_run, "adamw", (0.90, 0.901))
    runs(write_run, "lion", ours)
    assert judge("alike", within=0.01) == word
    assert judge("all_alike", within=0.01) == word


@pytest.mark.parametrize(("curve", "word"), [((0.9, 0.95), "supported"), ((0.1, 0.2), "contradicted")])
def test_fewer_steps(write_run, judge, curve, word):
    write_run(curve=[(10, 1, 0.5), (20, 2, 0.9)])
    write_run(optim="lion", curve=[(10, 1, curve[0]), (20, 2, curve[1])])
    assert judge("fewer_steps", times=1.05) == word


def test_smaller_span(write_run, judge):
    for lr, theirs, ours in ((1e-4, 0.5, 0.8), (3e-4, 0.9, 0.9), (1e-3, 0.8, 0.85), (3e-3, 0.7, 0.8)):
        write_run(lr=lr, seed=TRIAL_SEEDS_FROM, final=theirs)
        write_run(optim="lion", lr=lr, seed=TRIAL_SEEDS_FROM, final=ours)
    assert judge("smaller_span") == "supported"
    write_run(lr=1e-2, seed=TRIAL_SEEDS_FROM, final=0.7)
    assert judge("smaller_span") == "not run"  # one had more trials than the other


@pytest.mark.parametrize(
    ("large", "word"), [((0.95, 0.951), "supported"), ((0.8, 0.801), "contradicted"), ((0.91, 0.911), "not shown")]
)
def test_gain_grows(write_run, judge, large, word):
    for batch, theirs, ours in ((16, (0.9, 0.901), (0.91, 0.9111)), (64, (0.9, 0.9011), large)):
        runs(write_run, "adamw", theirs, batch_size=batch)
        runs(write_run, "lion", ours, batch_size=batch)
    assert judge("gain_grows") == word


def test_small_batches(write_run, judge):
    for batch in (16, 64):
        runs(write_run, "adamw", (0.9, 0.902), batch_size=batch)
        runs(write_run, "lion", (0.8, 0.803), batch_size=batch)
    assert judge("no_gain_below", batch=64) == "supported"
    assert judge("worse_at_smallest") == "supported"


def test_a_gain_at_a_small_batch(write_run, judge):
    for batch in (16, 64):
        runs(write_run, "adamw", (0.8, 0.802), batch_size=batch)
        runs(write_run, "lion", (0.9, 0.903), batch_size=batch)
    assert judge("no_gain_below", batch=64) == "contradicted"
    assert judge("worse_at_smallest") == "contradicted"


@pytest.mark.parametrize(
    ("ours", "word"), [((0.7, 0.71), "supported"), ((0.1, 0.12), "contradicted"), ((0.3, 0.9), "not shown")]
)
def test_higher_train_loss(write_run, judge, ours, word):
    for optim, losses in (("adamw", (0.5, 0.5)), ("lion", ours)):
        for seed, loss in enumerate(losses):
            folder = write_run(optim=optim, seed=seed)
            lines = [
                {"step": step, "split": "train", "name": "loss", "value": v, "seconds": 1}
                for step, v in ((50, 9.0), (95, loss), (100, loss))
            ]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judge("higher_train_loss") == word


@pytest.mark.parametrize(("ours", "word"), [(50, "supported"), (25, "supported"), (60, "contradicted")])
def test_half_state(write_run, judge, ours, word):
    write_run(optimizer_state_bytes=100)
    write_run(optim="lion", optimizer_state_bytes=ours)
    assert judge("half_state") == word


@pytest.mark.parametrize(
    ("low", "high", "word"), [(1.03, 1.1, "supported"), (0.9, 0.95, "contradicted"), (1.0, 1.1, "not shown")]
)
def test_faster(judge, low, high, word):
    row = {"task": "a", "optim": "lion", "reference": "adamw", "ratio": (low + high) / 2, "low": low, "high": high}
    assert judge("faster", speeds=pd.DataFrame([row]), between=[1.02, 1.15]) == word


@pytest.mark.parametrize(
    ("other", "better", "alike"),
    [
        ((0.8, 0.801), "supported", "contradicted"),
        ((0.95, 0.951), "contradicted", "contradicted"),
        ((0.9001, 0.9012), "not shown", "supported"),
    ],
)
def test_kinds(write_run, judge, other, better, alike):
    runs(write_run, "lion", (0.9, 0.9013), optim_args={"betas": [0.9, 0.99]})
    runs(write_run, "lion", other, optim_args={"betas": [0.9, 0.9]})
    kinds = ["lion (betas 0.9 0.99)", "lion (betas 0.9 0.9)"]
    assert judge("kind_better", kind=kinds[0], than=kinds[1:]) == better
    assert judge("kinds_alike", kinds=kinds, within=0.01) == alike


@pytest.mark.parametrize(
    ("ours", "bound", "flat", "kept"),
    [(0.6, 0.9, "supported", "supported"), (5.0, 1.2, "contradicted", "contradicted")],
)
def test_landscape(judge, tmp_path, ours, bound, flat, kept):
    rows = [
        {
            "task": "a",
            "optim": optim,
            "seed": 0,
            "run_id": optim,
            "loss": 0.5,
            "bound": bound,
            "noise": 0.1,
            "relative": False,
            "perturbed_loss": perturbed,
        }
        for optim, perturbed in (("adamw", 1.0), ("lion", ours))
    ]
    (tmp_path / "a.landscape.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "b.landscape.json").write_text("{")
    landscape = read_landscape([tmp_path])
    assert judge("flatter", landscape=landscape, relative=False) == flat
    assert judge("flatter", landscape=landscape, relative=True) == "not run"
    assert judge("bounded", landscape=landscape) == kept

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
    assert len({entry["id"] for entry in entries}) == len(entries)
    assert all(entry["rule"].startswith("supported if") and "contradicted if" in entry["rule"] for entry in entries)
    verdicts = claims.evaluate(build_tables(read_records([outputs]).runs, "adamw"), NO_SPEEDS)
    assert [(verdict.id, verdict.verdict) for verdict in verdicts] == [(entry["id"], "not run") for entry in entries]
    assert all(verdict.measure and verdict.evidence in ("", "no runs with two common seeds") for verdict in verdicts)


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


def test_what_is_alike_is_told_by_the_optimizers_named(write_run, judge):
    runs(write_run, "adamw", (0.90, 0.901))
    runs(write_run, "radam", (0.9005, 0.9014))
    runs(write_run, "lion", (0.95, 0.951))
    assert judge("all_alike", within=0.02, optims=["radam"]) == "supported"
    assert judge("all_alike", within=0.02) == "contradicted"
    assert judge("all_alike", within=0.02, optims=["nadam"]) == "not run"


@pytest.mark.parametrize(
    ("ours", "word"),
    [
        ((0.9, 0.9013), "supported"),
        ((0.85, 0.8511), "supported"),
        ((0.95, 0.9511), "contradicted"),
        ((0.8, 1.0), "not shown"),
    ],
)
def test_no_gain(write_run, judge, ours, word):
    runs(write_run, "adamw", (0.90, 0.901))
    runs(write_run, "lion", ours)
    assert judge("no_gain", within=0.01) == word


@pytest.mark.parametrize(
    ("ours", "word"), [((30.01, 30.01), "supported"), ((20, 20.1), "contradicted"), ((20, 40), "not shown")]
)
def test_margins_of_a_perplexity_are_shares_of_the_references(write_run, judge, ours, word):
    runs(write_run, "adamw", (30.0, 30.02), metric="perplexity", goal="min")
    runs(write_run, "lion", ours, metric="perplexity", goal="min")
    assert judge("no_gain", within=0.01) == word
    assert judge("alike", within=0.01) == word


@pytest.mark.parametrize(("curve", "word"), [((0.9, 0.95), "supported"), ((0.1, 0.2), "contradicted")])
def test_fewer_steps(write_run, judge, curve, word):
    write_run(curve=[(10, 1, 0.5), (20, 2, 0.9)])
    write_run(optim="lion", curve=[(10, 1, curve[0]), (20, 2, curve[1])])
    assert judge("fewer_steps", times=1.05) == word


def test_fewer_steps_on_some_tasks_only(write_run, judge):
    for task, end in (("a", 0.95), ("b", 0.2)):
        write_run(task=task, curve=[(10, 1, 0.1), (20, 2, 0.9)])
        write_run(task=task, optim="lion", curve=[(10, 1, end), (20, 2, end)])
    assert judge("fewer_steps", times=1.05) == "not shown"


RATES = (1e-4, 3e-4, 1e-3, 3e-3)


def trials(write_run, optim, finals, task="digits"):
    for lr, final in zip(RATES, finals, strict=True):
        ended = {"final": final} if final else {"status": "diverged", "diverged_step": 5}
        write_run(task=task, optim=optim, lr=lr, seed=TRIAL_SEEDS_FROM, **ended)


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ((0.8, 0.9, 0.85, 0.8), (0.5, 0.9, 0.8, 0.7), "supported"),
        ((0.4, 0.9, 0.85, 0.8), (0.5, 0.9, 0.8, 0.7), "contradicted"),
        ((0.4, 0.9, 0.85, 0.8), (0.8, 0.9, 0.8, None), "supported"),
        ((0.8, 0.9, 0.85, None), (0.5, 0.9, 0.8, 0.7), "contradicted"),
    ],
)
def test_smaller_span(write_run, judge, ours, theirs, word):
    trials(write_run, "lion", ours)
    trials(write_run, "adamw", theirs)
    assert judge("smaller_span") == word
    trials(write_run, "lion", theirs, task="other")
    trials(write_run, "adamw", ours, task="other")
    assert judge("smaller_span") == "not shown"


def test_spans_of_unequal_trials_are_not_compared(write_run, judge):
    trials(write_run, "lion", (0.8, 0.9, 0.85, 0.8))
    trials(write_run, "adamw", (0.5, 0.9, 0.8, 0.7))
    write_run(lr=1e-2, seed=TRIAL_SEEDS_FROM, final=0.7)
    assert judge("smaller_span") == "not run"


@pytest.mark.parametrize(
    ("strong", "word"), [((0.9, 0.901), "supported"), ((0.99, 0.991), "contradicted"), ((0.8, 1.0), "not shown")]
)
def test_gain_shrinks(write_run, judge, strong, word):
    for augment, ours in (("none", (0.95, 0.9511)), ("randaug_mixup", strong)):
        runs(write_run, "adamw", (0.9, 0.9012), augment=augment)
        runs(write_run, "lion", ours, augment=augment)
    assert judge("gain_shrinks", strong="randaug_mixup") == word
    assert judge("gain_shrinks", strong="mixup") == "not run"


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
    assert judge("no_gain_below", batch=64, within=0.01) == "supported"
    assert judge("worse_at_smallest") == "supported"


def test_a_gain_at_a_small_batch(write_run, judge):
    for batch in (16, 64):
        runs(write_run, "adamw", (0.8, 0.802), batch_size=batch)
        runs(write_run, "lion", (0.9, 0.903), batch_size=batch)
    assert judge("no_gain_below", batch=64, within=0.01) == "contradicted"
    assert judge("worse_at_smallest") == "contradicted"


def test_wide_intervals_at_a_small_batch_show_nothing(write_run, judge):
    for batch in (16, 64):
        runs(write_run, "adamw", (0.8, 0.802), batch_size=batch)
        runs(write_run, "lion", (0.75, 0.85), batch_size=batch)
    assert judge("no_gain_below", batch=64, within=0.01) == "not shown"
    assert judge("no_gain_below", batch=16, within=0.01) == "not run"
    assert judge("worse_at_smallest") == "not shown"


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
    runs(write_run, "lion", (0.9, 0.9013), optim_args={"betas": [0.9, 0.99], "momentum_dtype": "bfloat16"})
    runs(write_run, "lion", other, optim_args={"betas": [0.9, 0.9], "momentum_dtype": "bfloat16"})
    kinds = ["betas 0.9 0.99", "betas 0.9 0.9"]
    for another in (True, False):
        assert judge("kind_better", kind=kinds[0], than=kinds[1:]) == better
        assert judge("kinds_alike", kinds=kinds, within=0.01) == alike
        assert judge("kinds_alike", kinds=["betas 0.9 0.99", "betas 0.9 0.5"], within=0.01) == "not run"
        if another:  # a kind that differs in a further argument: it lengthens all names, and is no partner of these
            runs(write_run, "lion", (0.1, 0.2), optim_args={"betas": [0.9, 0.99], "momentum_dtype": "float32"})


@pytest.mark.parametrize(("reference", "betas"), [((0.9, 0.999), [0.9, 0.99]), ((0.9, 0.99), [0.95, 0.98])])
def test_of_several_kinds_the_papers_is_judged(write_run, judge, reference, betas):
    runs(write_run, "adamw", (0.8, 0.801), optim_args={"betas": list(reference)})
    for other in ([0.9, 0.9], [0.9, 0.99], [0.95, 0.98]):
        values = (0.9, 0.9011) if other == betas else (0.7, 0.7011)
        runs(write_run, "lion", values, optim_args={"betas": other, "momentum_dtype": "bfloat16"})
    runs(write_run, "lion", (0.1, 0.1011), optim_args={"betas": betas, "momentum_dtype": "float32"})
    assert judge("better") == "supported"


@pytest.mark.parametrize(
    ("ours", "bound", "flat", "kept"),
    [
        ((0.6, 0.62, 0.61), 0.9, "supported", "supported"),
        ((5.0, 5.1, 4.9), 1.2, "contradicted", "contradicted"),
        ((0.1, 2.0, 1.0), 1.0, "not shown", "supported"),
        ((0.6,), 1.0, "not run", "supported"),
    ],
)
def test_landscape(judge, tmp_path, ours, bound, flat, kept):
    about = {"task": "a", "loss": 0.5, "bound": bound, "noise": 0.1, "relative": False}
    rows = [
        {**about, "optim": optim, "seed": seed, "run_id": f"{optim}{seed}", "perturbed_loss": 0.5 + rise}
        for optim, rises in (("adamw", (1.0, 1.01, 0.98)), ("lion", ours))
        for seed, rise in enumerate(rises)
    ]
    (tmp_path / "a.landscape.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "b.landscape.json").write_text("{")
    landscape = read_landscape([tmp_path])
    assert judge("flatter", landscape=landscape, relative=False) == flat
    assert judge("flatter", landscape=landscape, relative=True) == "not run"
    assert judge("bounded", landscape=landscape) == kept

"""Each rule on records made by hand: what it takes to support, to contradict, and to say nothing."""

import json
import math

import pandas as pd
import pytest
import yaml
from scipy import stats

from reports.claims import criteria, evidence
from reports.claims import evaluation as claims
from reports.protocol import choice_variance
from reports.records.landscape import read_landscape
from reports.records.reader import read_records
from reports.tables.comparison import batch_groups, build_tables

NO_SPEEDS = pd.DataFrame(columns=["optim", "reference"])


@pytest.fixture
def judge(outputs):
    """Judge one test over the records written so far: returns the verdict."""

    def run(test, speeds=NO_SPEEDS, landscape=None, **given):
        tables = [claims.by_protocol(table) for table in build_tables(read_records([outputs]).runs, "adamw", None)]
        main = claims.main_tables(tables)
        found = evidence.Evidence(main, tables, speeds, pd.DataFrame() if landscape is None else landscape)
        return criteria.CRITERIA[test](found, **given)[0]

    outputs.mkdir(exist_ok=True)
    return run


def test_every_claim_names_a_test_with_its_arguments_and_nothing_is_judged_without_records(outputs):
    outputs.mkdir()
    entries = yaml.safe_load(claims.CLAIMS.read_text())
    assert {entry["test"] for entry in entries} == set(criteria.CRITERIA)
    assert len({entry["id"] for entry in entries}) == len(entries)
    whole = {"smaller_span", "half_state", "faster", "bounded"}  # of these, no intervals are counted
    counted = [entry["rule"] for entry in entries if entry["test"] not in whole]
    assert all(rule.startswith("for: ") and "; against: " in rule for rule in counted)
    verdicts = claims.evaluate(build_tables(read_records([outputs]).runs, "adamw"), NO_SPEEDS)
    assert [(verdict.id, verdict.verdict) for verdict in verdicts] == [(entry["id"], "not run") for entry in entries]
    assert all(verdict.measure and verdict.evidence in ("", "beyond the margin: none") for verdict in verdicts)


def write_some_of_everything(write_run, optims=("adamw", "lion"), seeds=2):
    for optim in optims:
        for seed in range(seeds):
            value = 0.9 + 0.05 * (optim == "lion") + seed / 1000
            curve = [(50, 1.0, value / 2), (100, 2.0, value)]
            lr = 1e-3 if optim == "adamw" else 1e-4
            write_run(None, curve, optim=optim, lr=lr, seed=seed, test=value, final=value)


@pytest.mark.parametrize("seeds", [2, 5])
def test_below_the_protocol_no_claim_is_judged(write_run, outputs, seeds):
    """A few runs of the defaults, however clear they look, and however many seeds they have."""
    write_some_of_everything(write_run, seeds=seeds)
    verdicts = claims.evaluate(build_tables(read_records([outputs]).runs, "adamw"), NO_SPEEDS)
    assert {verdict.verdict for verdict in verdicts} == {"not run"}


def test_with_too_few_trials_or_seeds_nothing_is_judged(tune, judge, outputs, write_run):
    tune("adamw", (0.90, 0.901))
    tune("lion", (0.95, 0.951))
    assert judge("better") == "supported"
    for place in outputs.glob("*/lion/*/summary.json"):
        summary = json.loads(place.read_text())
        if summary["seed"] == 0:
            place.write_text(json.dumps(summary | {"status": "interrupted"}))
    assert judge("better") == "not run"


@pytest.mark.parametrize(
    ("rates", "word"),
    [((1e-3, 1e-4), "supported"), ((1e-3, 3e-4), "supported"), ((1e-3, 1e-3), "contradicted")],
)
def test_setting_ratio(tune, judge, rates, word):
    for optim, rate in zip(("adamw", "lion"), rates, strict=True):
        tune(optim, (0.9, 0.9001), lr=rate, weight_decay=1e-4 / rate)
    assert judge("setting_ratio", axis="lr", between=[3, 10]) == word
    assert judge("setting_ratio", axis="weight_decay", between=[3, 10]) == word


def test_settings_that_tie_widen_the_ratio(tune, judge):
    """By hand: over seeds 0.88, 0.92 and 0.90 the standard deviation is 0.02, so 0.9 - 0.4 is no tie and 0.9 - 0.1 is:
    the 97.5% point of t with two degrees of freedom, 4.303, times the root of two times 0.02 is 0.122."""
    tune("adamw", (0.88, 0.92))
    tune("lion", (0.88, 0.92), lr=1e-4, weight_decay=1.0)
    assert judge("setting_ratio", axis="lr", between=[3, 10]) == "supported"
    tune("lion", (0.88, 0.92), lr=1e-4, weight_decay=1.0, task="other", trial_finals=(0.9, 0.8))
    tune("adamw", (0.88, 0.92), task="other", trial_finals=(0.9, 0.8))
    assert judge("setting_ratio", axis="lr", between=[3, 10]) == "not shown"


def test_setting_ratio_on_some_tasks_only(tune, judge):
    for task, rate in (("a", 1e-4), ("b", 1e-3)):
        tune("adamw", (0.9, 0.9001), task=task)
        tune("lion", (0.9, 0.9001), task=task, lr=rate)
    assert judge("setting_ratio", axis="lr", between=[3, 10]) == "not shown"


@pytest.mark.parametrize(
    ("ours", "word"),
    [((0.95, 0.951), "supported"), ((0.5, 0.51), "contradicted"), ((0.95, 0.85), "not shown"), ((0.9,), "not run")],
)
def test_better(tune, judge, ours, word):
    tune("adamw", (0.90, 0.902))
    tune("lion", ours)
    assert judge("better") == word


@pytest.mark.parametrize(
    ("ours", "word"),
    [((0.9005, 0.9014), "supported"), ((0.95, 0.951), "contradicted"), ((0.85, 0.95), "not shown")],
)
def test_alike(tune, judge, ours, word):
    tune("adamw", (0.90, 0.901))
    tune("lion", ours)
    assert judge("alike", within=0.01) == word
    assert judge("all_alike", within=0.01) == word


def test_what_is_alike_is_told_by_the_optimizers_named(tune, judge):
    tune("adamw", (0.90, 0.901))
    tune("radam", (0.9005, 0.9014))
    tune("lion", (0.95, 0.951))
    assert judge("all_alike", within=0.02, optims=["radam"]) == "supported"
    assert judge("all_alike", within=0.02, optims=["lion"]) == "contradicted"
    assert judge("all_alike", within=0.02) == "not shown"  # one inside, one outside
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
def test_no_gain(tune, judge, ours, word):
    tune("adamw", (0.90, 0.901))
    tune("lion", ours)
    assert judge("no_gain", within=0.01) == word


@pytest.mark.parametrize(
    ("ours", "word"), [((30.01, 30.01), "supported"), ((20, 20.1), "contradicted"), ((20, 40), "not shown")]
)
def test_margins_of_a_perplexity_are_shares_of_the_references(tune, judge, ours, word):
    tune("adamw", (30.0, 30.02), metric="perplexity", goal="min")
    tune("lion", ours, metric="perplexity", goal="min")
    assert judge("no_gain", within=0.01) == word
    assert judge("alike", within=0.01) == word


SLOW, FAST = [(10, 1, 0.5), (20, 2, 0.9)], [(10, 1, 0.9), (20, 2, 0.95)]


@pytest.mark.parametrize(
    ("curves", "word"),
    [([FAST], "supported"), ([[(10, 1, 0.1), (20, 2, 0.2)]], "contradicted"), ([FAST, SLOW, SLOW], "not shown")],
)
def test_fewer_steps(tune, judge, curves, word):
    tune("adamw", (0.9, 0.9001), curves=[SLOW])
    tune("lion", (0.9, 0.9001), curves=curves)
    assert judge("fewer_steps", times=1.05) == word


def test_fewer_steps_on_some_tasks_only(tune, judge):
    for task, curve in (("a", FAST), ("b", [(10, 1, 0.2), (20, 2, 0.2)])):
        tune("adamw", (0.9, 0.9001), task=task, curves=[SLOW])
        tune("lion", (0.9, 0.9001), task=task, curves=[curve])
    assert judge("fewer_steps", times=1.05) == "not shown"


def test_the_interval_of_a_speedup_is_where_the_difference_is_not_shown(tune, outputs):
    """By hand: 0.5 below AdamW's 0.9 at step 10, and 0.1, 0.12 and 0.14 above it at 20, ends on straight lines."""
    tune("adamw", (0.9, 0.9), curves=[SLOW])
    tune("lion", (0.9, 0.9), curves=[[(10, 1, 0.4), (20, 2, top)] for top in (1.0, 1.02, 1.04)])
    (table,) = build_tables(read_records([outputs]).runs, "adamw")
    theirs, ours = table.comparison.contenders
    half = stats.t.ppf(0.975, 2) * 0.02 * math.sqrt(1 / 3 + choice_variance(1))
    steps = [10 + 10 * 0.5 / (0.5 + end) for end in (0.12 - half, 0.12 + half)]
    assert evidence.speedup_interval(table, ours, theirs) == pytest.approx((20 / steps[0], 20 / steps[1]))


def test_a_speedup_that_is_lost_again_is_not_sure(tune, outputs):
    tune("adamw", (0.9, 0.9), curves=[SLOW])
    tune("lion", (0.9, 0.9), curves=[[(5, 1, 0.95), (10, 1, 0.95), (15, 2, 0.5), (20, 2, 0.5)]])
    (table,) = build_tables(read_records([outputs]).runs, "adamw")
    theirs, ours = table.comparison.contenders
    assert evidence.speedup_interval(table, ours, theirs) == (0.0, 20 / 5)


def test_spans_of_one_seed_have_no_interval_to_judge_by(tune, judge):
    tune("adamw", (0.9, 0.9001))
    assert judge("smaller_span") == "not run"
    tune("lion", (0.9, 0.9001), trial_finals=(0.9, 0.89))
    assert judge("smaller_span") == "not judged"


@pytest.mark.parametrize(
    ("strong", "word"), [((0.9, 0.901), "supported"), ((0.99, 0.991), "contradicted"), ((0.8, 1.0), "not shown")]
)
def test_gain_shrinks(tune, judge, strong, word):
    for augment, ours in (("none", (0.95, 0.9511)), ("randaug_mixup", strong)):
        tune("adamw", (0.9, 0.9012), augment=augment)
        tune("lion", ours, augment=augment)
    assert judge("gain_shrinks", strong="randaug_mixup") == word
    assert judge("gain_shrinks", strong="mixup") == "not run"


@pytest.mark.parametrize(
    ("large", "word"), [((0.95, 0.951), "supported"), ((0.8, 0.801), "contradicted"), ((0.91, 0.911), "not shown")]
)
def test_gain_grows(tune, judge, large, word):
    for batch, theirs, ours in ((16, (0.9, 0.901), (0.91, 0.9111)), (64, (0.9, 0.9011), large)):
        tune("adamw", theirs, batch_size=batch, steps=6400 // batch)
        tune("lion", ours, batch_size=batch, steps=6400 // batch)
    assert judge("gain_grows") == word


def test_batch_sizes_are_compared_at_equal_epochs(tune, outputs):
    """10 batches of 1,000 are 157 of 64, which end within the last batch; runs of another length are apart."""
    for batch, steps in ((64, 157), (1000, 10), (64, 52), (16, 157)):
        tune("adamw", (0.9, 0.91), batch_size=batch, steps=steps)
    groups = batch_groups(build_tables(read_records([outputs]).runs, "adamw"))
    assert [[(t.comparison.batch_size, t.comparison.steps) for t in group] for group in groups] == [
        [(64, 157), (1000, 10)]
    ]


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ((0.9, 0.95, 0.90), "not shown"),  # both at 64
        ((0.9, 0.95, 0.99), "supported"),
        ((0.99, 0.95, 0.90), "contradicted"),
        ((0.9, 0.95, None), "not shown"),  # 0.95 at 64, and 0.5 to 1.3 at 256 from seed to seed
    ],
)
def test_larger_best_batch(tune, judge, gains, word):
    theirs = (0.92, 0.95, 0.90)
    for batch, adamw, lion in zip((16, 64, 256), theirs, gains, strict=True):
        length = {"batch_size": batch, "steps": 6400 // batch, "warmup_steps": 100 // batch}
        tune("adamw", (adamw, adamw + batch / 1e5), **length)
        tune("lion", (lion, lion + batch / 1e5) if lion else (0.5, 1.3), **length)
    assert judge("larger_best_batch") == word


@pytest.mark.parametrize(("without", "word"), [(0.7, "supported"), (0.97, "contradicted"), (0.93, "not shown")])
def test_what_a_warmup_gains(tune, judge, without, word):
    for steps, theirs, ours in ((0, (0.9, 0.901), (without, without + 0.001)), (25, (0.9, 0.902), (0.93, 0.9315))):
        tune("adamw", theirs, warmup_steps=steps, conditions=f"warmup {steps}")
        tune("lion", ours, warmup_steps=steps, conditions=f"warmup {steps}")
    assert judge("longer_warmup_gains", share=0.25) == word
    assert judge("longer_warmup_gains", share=0.5) == "not run"


@pytest.mark.parametrize(("rsqrt", "word"), [(0.91, "supported"), (0.99, "contradicted"), (0.95, "not shown")])
def test_what_a_schedule_gains(tune, judge, rsqrt, word):
    for schedule, ours in (("cosine", (0.95, 0.951)), ("rsqrt", (rsqrt, rsqrt + 0.001))):
        tune("adamw", (0.9, 0.9012), schedule=schedule)
        tune("lion", ours, schedule=schedule)
    assert judge("schedule_gains", more="cosine", less="rsqrt") == word
    assert judge("schedule_gains", more="cosine", less="linear") == "not run"


@pytest.mark.parametrize(("small", "large", "word"), [(0, 5, "supported"), (5, 0, "contradicted"), (2, 4, "not shown")])
def test_fewer_trials_diverge(tune, judge, outputs, small, large, word):
    """Of nine trials each: 0 against 5 has p = 0.03 by Fisher's test, 2 against 4 has 0.62."""
    for betas, diverged in (("0.95 0.98", small), ("0.9 0.99", large)):
        tune("lion", (0.9, 0.902), optim_args={"betas": [float(beta) for beta in betas.split()]})
        trials = []
        for place in outputs.glob("*/lion/*/summary.json"):
            summary = json.loads(place.read_text())
            if (
                summary["seed"] >= 1000
                and summary["final"] == 0.5
                and summary["optim_args"]["betas"][0] == float(betas[:4])
            ):
                trials.append((place, summary))
        for place, summary in trials[:diverged]:
            place.write_text(json.dumps(summary | {"status": "diverged", "final": None, "test": None}))
    assert judge("fewer_diverge", kind="betas 0.95 0.98", than=["betas 0.9 0.99"]) == word


def test_margins_between_kinds_of_a_perplexity_are_shares(tune, judge):
    for dtype, value in (("bfloat16", 50.0), ("float32", 50.2)):
        given = {"goal": "min", "metric": "perplexity", "trial_finals": (10.0, 90.0)}
        tune("lion", (value, value + 0.01), optim_args={"momentum_dtype": dtype}, **given)
    tune("adamw", (50.0, 50.01), **given)
    kinds = ["momentum_dtype bfloat16", "momentum_dtype float32"]
    assert judge("kinds_alike", kinds=kinds, within=0.01) == "supported"
    assert judge("kinds_alike", kinds=kinds, within=0.001) == "contradicted"


def test_small_batches(tune, judge):
    for batch in (16, 64):
        tune("adamw", (0.9, 0.902), batch_size=batch, steps=6400 // batch)
        tune("lion", (0.8, 0.803), batch_size=batch, steps=6400 // batch)
    assert judge("no_gain_below", batch=64, within=0.01) == "supported"
    assert judge("worse_at_smallest") == "supported"


def test_a_gain_at_a_small_batch(tune, judge):
    for batch in (16, 64):
        tune("adamw", (0.8, 0.802), batch_size=batch, steps=6400 // batch)
        tune("lion", (0.9, 0.903), batch_size=batch, steps=6400 // batch)
    assert judge("no_gain_below", batch=64, within=0.01) == "contradicted"
    assert judge("worse_at_smallest") == "contradicted"


def test_wide_intervals_at_a_small_batch_show_nothing(tune, judge):
    for batch in (16, 64):
        tune("adamw", (0.8, 0.802), batch_size=batch, steps=6400 // batch)
        tune("lion", (0.75, 0.85), batch_size=batch, steps=6400 // batch)
    assert judge("no_gain_below", batch=64, within=0.01) == "not shown"
    assert judge("no_gain_below", batch=16, within=0.01) == "not run"
    assert judge("worse_at_smallest") == "not shown"


@pytest.mark.parametrize(
    ("ours", "word"), [((0.7, 0.71), "supported"), ((0.1, 0.12), "contradicted"), ((0.3, 0.9), "not shown")]
)
def test_higher_train_loss(tune, judge, ours, word):
    for optim, losses in (("adamw", (0.5, 0.5)), ("lion", ours)):
        losses = (*losses, sum(losses) / 2)
        for folder, loss in zip(tune(optim, (0.9, 0.9, 0.9)), losses, strict=True):
            lines = [
                {"step": step, "split": "train", "name": "loss", "value": v, "seconds": 1}
                for step, v in ((50, 9.0), (95, loss), (100, loss))
            ]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judge("higher_train_loss") == word


@pytest.mark.parametrize(("ours", "word"), [(50, "supported"), (25, "supported"), (60, "contradicted")])
def test_half_state(tune, judge, ours, word):
    tune("adamw", (0.9, 0.91), optimizer_state_bytes=100)
    tune("lion", (0.9, 0.91), optimizer_state_bytes=ours)
    assert judge("half_state") == word


@pytest.mark.parametrize(
    ("low", "high", "word"), [(1.03, 1.1, "supported"), (0.9, 0.95, "contradicted"), (1.0, 1.1, "not shown")]
)
def test_faster(judge, low, high, word):
    row = {"task": "a", "optim": "lion", "reference": "adamw", "ratio": (low + high) / 2, "low": low, "high": high}
    row |= {"scale": "embedded", "model": "vit", "batch_size": 64, "step": "fused", "rounds": 31}
    assert judge("faster", speeds=pd.DataFrame([row]), between=[1.02, 1.15]) == word


@pytest.mark.parametrize(
    ("other", "better", "alike"),
    [
        ((0.8, 0.801), "supported", "contradicted"),
        ((0.95, 0.951), "contradicted", "contradicted"),
        ((0.9001, 0.9012), "not shown", "supported"),
    ],
)
def test_kinds(tune, judge, other, better, alike):
    tune("lion", (0.9, 0.9013), optim_args={"betas": [0.9, 0.99], "momentum_dtype": "bfloat16"})
    tune("lion", other, optim_args={"betas": [0.9, 0.9], "momentum_dtype": "bfloat16"})
    kinds = ["betas 0.9 0.99", "betas 0.9 0.9"]
    for another in (True, False):
        assert judge("kind_better", kind=kinds[0], than=kinds[1:]) == better
        assert judge("kinds_alike", kinds=kinds, within=0.01) == alike
        assert judge("kinds_alike", kinds=["betas 0.9 0.99", "betas 0.9 0.5"], within=0.01) == "not run"
        if another:  # a kind that differs in a further argument: it lengthens all names, and is no partner of these
            tune("lion", (0.1, 0.2), optim_args={"betas": [0.9, 0.99], "momentum_dtype": "float32"})


@pytest.mark.parametrize(("reference", "betas"), [((0.9, 0.999), [0.9, 0.99]), ((0.9, 0.99), [0.95, 0.98])])
def test_of_several_kinds_the_papers_is_judged(tune, judge, reference, betas):
    tune("adamw", (0.8, 0.801), optim_args={"betas": list(reference)})
    for other in ([0.9, 0.9], [0.9, 0.99], [0.95, 0.98]):
        values = (0.9, 0.9011) if other == betas else (0.7, 0.7011)
        tune("lion", values, optim_args={"betas": other, "momentum_dtype": "bfloat16"})
    tune("lion", (0.1, 0.1011), optim_args={"betas": betas, "momentum_dtype": "float32"})
    assert judge("better") == "supported"


@pytest.mark.parametrize(
    ("ours", "bound", "flat", "kept"),
    [
        ((0.6, 0.62, 0.61), 0.9, "supported", "supported"),
        ((5.0, 5.1, 4.9), 1.2, "contradicted", "contradicted"),
        ((0.1, 2.0, 1.0), 1.0, "not shown", "supported"),
        ((0.6, 0.61), 1.0, "not run", "not run"),
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


@pytest.mark.parametrize(
    ("early", "late", "word"),
    [
        ((0.60, 0.61, 0.60), (0.90, 0.89, 0.91), "supported"),  # ahead of 0.5, then level
        ((0.60, 0.61, 0.60), (0.95, 0.953, 0.95), "not shown"),  # ahead to the end
        ((0.40, 0.41, 0.40), (0.90, 0.89, 0.91), "contradicted"),
    ],
)
def test_an_early_lead_that_is_lost(tune, judge, early, late, word):
    tune("adamw", (0.90, 0.901, 0.90), curves=[[(25, 1.0, 0.50), (100, 4.0, 0.9)]] * 3)
    tune("lion", late, curves=[[(25, 1.0, start), (100, 4.0, end)] for start, end in zip(early, late, strict=True)])
    assert judge("early_lead", share=0.25) == word


def test_an_early_lead_allows_for_the_choice_of_settings(tune, judge):
    """By hand: leads of 0.06, 0.10 and 0.14; t(2) times 0.04 times the root of 1/3 is 0.099, of 1/3 + 0.2 is 0.126."""
    tune("adamw", (0.90, 0.90, 0.90), curves=[[(25, 1.0, 0.50), (100, 4.0, 0.9)]] * 3)
    tune("lion", (0.8, 0.9, 1.0), curves=[[(25, 1.0, 0.5 + lead), (100, 4.0, 0.9)] for lead in (0.06, 0.10, 0.14)])
    assert judge("early_lead", share=0.25) == "not shown"


def test_a_reference_that_is_not_enclosed_judges_nothing(tune, outputs, judge):
    tune("lion", (0.95, 0.951))
    tune("adamw", (0.90, 0.901))
    assert judge("better") == "supported"
    for place in outputs.glob("*/adamw/*/summary.json"):
        summary = json.loads(place.read_text())
        if summary["seed"] >= 1000 and summary["lr"] > 1e-3:
            place.write_text(json.dumps(summary | {"lr": 1e-3 / 9}))
    assert judge("better") == "not run"


@pytest.mark.parametrize(
    ("who", "ours", "word"),
    [
        ("lion", (0.95, 0.9512), "not run"),
        ("lion", (0.85, 0.8512), "contradicted"),
        ("adamw", (0.95, 0.9512), "supported"),
        ("adamw", (0.85, 0.8512), "not run"),
    ],
)
def test_whose_seeds_diverged_is_not_called_better(tune, write_run, judge, who, ours, word):
    tune("adamw", (0.90, 0.901))
    tune("lion", ours)
    for seed in (5, 6):
        write_run(optim=who, lr=1e-3, weight_decay=0.1, seed=seed, status="diverged", diverged_step=12)
    assert judge("better") == word
    if word == "not run":
        assert judge("alike", within=0.5) == "not run"


def test_those_named_are_worse(tune, judge):
    tune("adamw", (0.90, 0.901))
    tune("powersign", (0.80, 0.801))
    tune("lion", (0.95, 0.951))
    assert judge("all_worse", optims=["powersign", "addsign"]) == "supported"
    assert judge("all_worse", optims=["lion"]) == "contradicted"


def test_evidence_is_in_points_and_in_the_digits_of_its_interval(tune, outputs):
    tune("adamw", (0.900, 0.910, 0.900))
    tune("lion", (0.970, 0.981, 0.970))
    tables = build_tables(read_records([outputs]).runs, "adamw")
    found = evidence.Evidence(tables, tables, NO_SPEEDS, pd.DataFrame())
    assert criteria.better(found) == ("supported", "digits +7.03 points [+6.82, +7.25]")
    assert criteria.half_state(found) == ("contradicted", "digits 100%")


@pytest.mark.parametrize(
    ("speedup", "words"),
    [
        ((1.234, 1.052, 1.396), "1.23 times [1.05, 1.40]"),
        ((0.0, 0.0, 1.08), "not reached [not reached, 1.1]"),
        ((0.0, 0.0, 0.0), "not reached [not reached]"),
        ((1.1, 0.0, 1.2), "1.1 times [not reached, 1.2]"),
    ],
)
def test_a_speed_up_of_0_is_said_in_words(speedup, words):
    assert criteria._speedup_in_words(*speedup) == words

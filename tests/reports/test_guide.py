"""The figures in the sentences of docs/guide.md and docs/language.md are those of the committed records."""

import itertools
import math
import re
from pathlib import Path

import pytest

from recipes.runs.run_id import conditions
from reports.protocol import REFERENCE, SUBJECT, TRIAL_SEEDS_FROM
from reports.records.reader import read_records
from reports.records.speeds import read_speeds
from reports.results import Results, compared, read_results
from reports.statistics.families import difference as setting_difference
from reports.statistics.families import variance_of_choices
from reports.statistics.intervals import NO_DIFFERENCE, Difference, paired_difference
from reports.statistics.learning_curves import seed_curves, values_at
from reports.statistics.selection import Contender
from reports.tables.comparison import VARIANTS, Row, Table
from reports.tables.setting_transfer import chosen_setting
from reports.tables.units import difference
from tests.recipes.conftest import composed

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "reports" / "published"


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results(PUBLISHED)


@pytest.fixture(scope="module")
def archived() -> Results:
    """An earlier measurement, with a warm-up of a tenth of the run."""
    return compared(read_records([PUBLISHED / "archive"]).runs, read_speeds([]), "adamw")


def text(name: str) -> str:
    return re.sub(r"\s+", " ", (ROOT / "docs" / name).read_text(encoding="utf-8"))


def row(table: Table, optim: str) -> Row:
    return next(row for row in table.rows if row.optim == optim)


def of(results: Results, task: str, batch_size: int, part: str = "") -> Table:
    return next(
        table
        for table in results.tables
        if (table.comparison.task, table.comparison.batch_size, table.part) == (task, batch_size, part)
    )


def points(row: Row) -> str:
    ends = (100 * row.difference, 100 * row.difference_low, 100 * row.difference_high)
    return "{:+.1f}{} [{:+.1f}, {:+.1f}]".format(ends[0], " points" if ends[0] > 0 else "", *ends[1:])


def test_the_ratios_of_rates_and_decays(results: Results) -> None:
    pairs = {table.comparison.task: (row(table, "adamw"), row(table, "lion")) for table in results.main}
    rates = {task: adamw.lr / lion.lr for task, (adamw, lion) in pairs.items()}
    decays = [lion.weight_decay / adamw.weight_decay for adamw, lion in pairs.values()]
    others = {task: rate for task, rate in rates.items() if not 2.99 <= rate <= 10.01}
    assert others == {"vit_b16": pytest.approx(1), "resnet50": pytest.approx(0.3, rel=0.1)}
    names = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    small, large = names[len(rates) - len(others)], names[sum(decay >= 9.99 for decay in decays)]
    assert (
        f"On the {names[len(pairs)]} tasks here the best learning rate was 3 to 10 times smaller on {small}, the same "
        "on the digits ViT and 3 times larger on the ResNet, and the best weight decay "
        f"{min(decays):.0f} to {max(decays):,.0f} times larger, at least 10 on {large}."
    ) in text("guide.md")


def in_points(gap: Difference) -> str:
    return "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*(100 * value for value in (gap.value, gap.low, gap.high)))


def without_unit(shown: str) -> str:
    return shown.replace(" points", "")


def contender(table: Table, label: str) -> Contender:
    return next(each for each in table.comparison.contenders if each.label == label)


def test_betas_and_momentum(archived: Results) -> None:
    """Each variant of Lion against Lion itself, on one trial seed."""
    digits, characters = (of(archived, task, 64, VARIANTS) for task in ("vit_b16", "vit_s16"))

    def minus_lion(table: Table, variant: str) -> str:
        lion, varied = contender(table, "lion"), contender(table, f"lion ({variant})")
        return in_points(setting_difference(varied, lion, "test"))

    guide = text("guide.md")
    assert f"(0.9, 0.99) comes to {100 * row(digits, 'lion').test_mean:.1f}%." in guide
    short, long = (minus_lion(digits, f"betas {betas}") for betas in ("0.9 0.9", "0.99 0.99"))
    assert f"is worse: of 0.9 by {short}, of 0.99 by {without_unit(long)}." in guide
    stable, longest = (minus_lion(digits, f"betas {betas}") for betas in ("0.95 0.98", "0.9 0.99822"))
    assert f"for (0.95, 0.98), {without_unit(stable)}, and for the 0.998 instead of 0.99 of the program" in guide
    assert f"that the search found, {without_unit(longest)}." in guide
    here, there = (minus_lion(table, "momentum_dtype int8") for table in (digits, characters))
    assert f"{here} on the digits ViT and {without_unit(there)} on the characters ViT" in guide
    assert f"({here}, 5 seeds)" in text("lion.md")
    assert f"more, {without_unit(there)}. Beside" in text("lion.md")


def test_what_the_allowance_for_the_choice_decides(results: Results) -> None:
    said = []
    for table in results.main:
        lion, adamw = (contender(table, label) for label in (SUBJECT, REFERENCE))
        by_seeds = paired_difference(lion.by_seed("test"), adamw.by_seed("test"))
        if by_seeds.verdict(table.comparison.goal or "max") != row(table, SUBJECT).verdict:
            said.append(in_points(by_seeds))
            assert by_seeds.verdict("max") == "better"
    digits, characters = said
    assert f"be ahead, {digits} on the digits and {characters} on the characters." in text("guide.md")


@pytest.mark.parametrize("task", ["vit_s16", "lit_b16_b"])
def test_the_field_against_adamw_with_the_eps_of_most_of_it(results: Results, task: str) -> None:
    """AdamW has the paper's eps of 1e-6. Tuned anew with 1e-8 it is no better, and no verdict on the field is lost."""
    of_task = results.runs[results.runs["task"] == task]
    again = compared(of_task, read_speeds([]), "adamw (eps 1e-08)")
    (variants,) = (table for table in again.tables if table.part == VARIANTS)
    of_paper = row(variants, "adamw (eps 1e-06)")
    assert of_paper.verdict == NO_DIFFERENCE
    before = next(table for table in results.field if table.comparison.task == task)
    after = {each.optim: each for each in again.field[0].rows}
    for each in (each for each in before.rows if each.verdict in ("better", "worse")):
        assert after[each.optim].verdict == each.verdict
    guide = text("guide.md")
    main, place = again.main[0], {"vit_s16": "on the characters ViT", "lit_b16_b": "on LiT"}[task]
    start, end = guide.index("AdamW has the paper's eps of 1e-6 there"), guide.index("On LiT SOAP is better")
    assert f"{100 * after['adamw (eps 1e-08)'].test_mean:.1f}% {place}" in guide[start:end]
    assert difference(of_paper, variants) in guide[start:end]
    lion = row(main, SUBJECT)
    assert (lion.verdict == "better") == (task == "lit_b16_b")
    assert (difference(lion, main) in guide[start:end]) == (task == "lit_b16_b")
    assert f"{difference(row(main, 'nadam'), main)} {place}" in guide


def test_no_run_diverged(results: Results) -> None:
    pending = read_records([ROOT / "reports" / "pending"]).runs
    archived = read_records([PUBLISHED / "archive"]).runs
    for runs in (results.runs, pending, archived):
        assert "diverged" not in set(runs["status"])
    tried = [
        contender(table, optim).settings["lr"].max() / row(table, optim).lr
        for table in results.main
        for optim in (SUBJECT, REFERENCE)
    ]
    assert f"none diverged, at up to {max(tried):.0f} times the chosen rate." in text("guide.md")


def test_speeds_on_the_small_models(results: Results) -> None:
    fused = results.speeds[results.speeds["step"] == "fused"]
    lion, adamw = (fused[fused["optim"] == optim].set_index("task") for optim in (SUBJECT, REFERENCE))
    steps = lion["optimizer_step_ms"] / adamw["optimizer_step_ms"]
    guide = text("guide.md")
    assert f"on one core for the small models here {steps.min():.2f} to {steps.max():.2f};" in guide
    gains = 100 * (lion["ratio"] - 1)
    assert f"{gains.min():z.1f} to {gains.max():.1f}% more a second on four small models" in guide
    assert len(gains) == 4
    assert (lion["low"] < 1).all()
    assert (lion["high"] > 1).all()


def test_the_papers_other_optimizers_on_the_digits_against_an_adamw_with_their_eps(results: Results) -> None:
    of_task = results.runs[results.runs["task"] == "vit_b16"]
    table = of(compared(of_task, read_speeds([]), "adamw (eps 1e-08)"), "vit_b16", 64)
    others = {each.optim: each for each in table.rows if not each.is_reference}
    assert others.keys() == {"lion", "nadam", "radam", "amsgrad", "adabelief", "adafactor"}
    assert {each.verdict for each in others.values()} == {NO_DIFFERENCE}
    nadam, amsgrad = (difference(others[optim], table) for optim in ("nadam", "amsgrad"))
    guide = text("guide.md")
    assert f"any of the six on the digits ViT, where NAdam's is {nadam} and AMSGrad's {amsgrad}." in guide
    tuned = {table.comparison.task for table in results.tables if "adamw (eps 1e-08)" in {r.optim for r in table.rows}}
    assert tuned == {"vit_b16", "vit_s16", "lit_b16_b"}  # "On the other tasks AdamW was not tuned with 1e-8"


FIELD_NAMES = {
    "soap": "SOAP",
    "muon": "Muon",
    "muon_lion": "Muon with Lion",
    "schedule_free_adamw": "schedule-free AdamW",
    "mars": "MARS",
    "adamw": "AdamW",
}


def test_the_field_of_2026_on_the_characters_vit(results: Results) -> None:
    table = next(table for table in results.field if table.comparison.task == "vit_s16")
    verdicts = {each.optim: each.verdict for each in table.rows if each.family == "field"}
    better = {optim for optim, verdict in verdicts.items() if verdict == "better"}
    assert better == FIELD_NAMES.keys() - {"adamw"}
    assert verdicts.keys() - better == {"ademamix", "cautious_lion"}
    assert {verdicts["ademamix"], verdicts["cautious_lion"]} == {"no difference shown"}
    guide = text("guide.md")
    start, end = guide.index("On the characters ViT five of the seven"), guide.index("No run was tuned for that")
    for optim in better:
        assert f"{FIELD_NAMES[optim]}, {difference(row(table, optim), table)}" in guide[start:end]
    in_time = {optim: row(table, optim).in_time_mean for optim in FIELD_NAMES}
    ranked = sorted(in_time, key=lambda optim: -in_time[optim])
    shown = ", ".join(f"{FIELD_NAMES[optim]} {100 * in_time[optim]:.1f}%" for optim in ranked)
    assert f"the validation figures are {shown}:" in guide[start:end]
    for optim, name in (("schedule_free_adamw", "schedule-free AdamW"), ("mars", "MARS")):
        gap = in_time_difference(table, optim)
        assert f"for {name} {in_points(gap)}" in guide[start:end]


def in_time_difference(table: Table, optim: str) -> Difference:
    """On validation where the reference's time ends, simultaneous over the field; allows for the choice of settings."""
    ours, theirs = (contender(table, label) for label in (optim, REFERENCE))
    metric = table.comparison.metric or ""
    values = [values_at(seed_curves(each, metric), row(table, each.label).in_time_step) for each in (ours, theirs)]
    number = sum(each.family == "field" for each in table.rows)
    return paired_difference(*values, comparisons=number, choice_variance=variance_of_choices(ours, theirs))


def test_the_field_of_2026_on_gpt2(results: Results) -> None:
    table = next(table for table in results.field if table.comparison.task == "gpt2_small")
    guide = text("guide.md")
    start, end = guide.index("On the small GPT-2 four of the seven"), guide.index("AdamW was not tuned with an eps")
    shown = guide[start:end]
    assert f"test perplexity, AdamW's being {row(table, REFERENCE).test_mean:.1f}:" in shown
    verdicts = {}
    for each in (each for each in table.rows if each.family == "field"):
        verdicts[each.optim] = each.verdict
        name = {"cautious_lion": "Cautious Lion", "ademamix": "AdEMAMix"}.get(each.optim) or FIELD_NAMES[each.optim]
        assert f"{name} {each.test_mean:.1f}, {difference(each, table)}" in shown
    better = {optim for optim, verdict in verdicts.items() if verdict == "better"}
    assert better == {"muon", "muon_lion", "schedule_free_adamw", "soap"}
    assert verdicts["mars"] == "no difference shown"
    assert (verdicts["cautious_lion"], verdicts["ademamix"]) == ("worse", "worse")
    assert len(verdicts) == 7


def test_where_the_field_of_2026_is_better(results: Results) -> None:
    tables = [table for table in results.field if len(table.rows) == 2 + 7]  # AdamW, Lion and all of the field
    assert {table.comparison.task for table in tables} == {"lit_b16_b", "vit_s16", "gpt2_small"}
    counts = {
        optim: sum(row(table, optim).verdict == "better" for table in tables)
        for optim in FIELD_NAMES.keys() - {"adamw"}
    }
    assert counts == {"soap": 3, "muon": 2, "muon_lion": 2, "schedule_free_adamw": 2, "mars": 1}
    sentence = (
        "of three small tasks that all were tuned on, SOAP is better than AdamW on all, Muon, Muon with Lion and "
        "schedule-free AdamW are on two, and MARS is on one, at equal steps."
    )
    assert sentence in text("guide.md")


def test_the_field_at_equal_time(results: Results) -> None:
    """Of those that are better at equal steps on some task."""
    verdicts = {
        (table.comparison.task, optim): in_time_difference(table, optim).verdict(table.comparison.goal or "max")
        for table in results.field
        for optim in (FIELD_NAMES.keys() - {REFERENCE}) & {each.optim for each in table.rows}
    }
    assert len(verdicts) == 3 * (len(FIELD_NAMES) - 1)
    better = {each for each, verdict in verdicts.items() if verdict == "better"}
    assert better == {("gpt2_small", "schedule_free_adamw")}
    worse = {each for each, verdict in verdicts.items() if verdict == "worse"}
    assert worse == {("gpt2_small", optim) for optim in ("soap", "muon", "muon_lion", "mars")}
    sentence = (
        "In the time of AdamW's run only schedule-free AdamW is better, on GPT-2, where the other four are worse; "
        "elsewhere no difference is shown for any of these"
    )
    assert sentence in text("guide.md")


def test_the_field_of_2026_on_gpt2_at_equal_time(results: Results) -> None:
    table = next(table for table in results.field if table.comparison.task == "gpt2_small")
    rows = sorted((row(table, optim) for optim in FIELD_NAMES), key=lambda each: each.in_time_mean)
    guide = text("guide.md")
    figures = ", ".join(f"{FIELD_NAMES[each.optim]} {each.in_time_mean:.1f}" for each in rows)
    assert f"AdamW's run ends, the validation perplexities are {figures}: at equal time" in guide

    def shown(optim: str) -> str:
        gap = in_time_difference(table, optim)
        return f"{gap.value:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"

    assert f"schedule-free AdamW is better, {shown('schedule_free_adamw')}, and the others are worse" in guide
    others = [each.optim for each in rows if each.optim not in (REFERENCE, "schedule_free_adamw")]
    assert f"worse, {', '.join(f'{FIELD_NAMES[optim]} {shown(optim)}' for optim in others)}." in guide
    steps = row(table, "soap").in_time_step
    assert f"SOAP has made {steps:.0f} of its {table.comparison.steps:,} steps." in guide


def test_the_field_of_2026(results: Results) -> None:
    table = next(table for table in results.field if table.comparison.task == "lit_b16_b")
    verdicts = {each.optim: each.verdict for each in table.rows if each.family == "field"}
    assert {optim for optim, verdict in verdicts.items() if verdict != "no difference shown"} == {"soap", "ademamix"}
    assert len(verdicts) == 2 + 5
    adamw, soap, ademamix = (row(table, optim) for optim in ("adamw", "soap", "ademamix"))
    assert (soap.verdict, ademamix.verdict) == ("better", "worse")
    guide = text("guide.md")
    state = soap.optimizer_state_bytes / adamw.optimizer_state_bytes
    assert (
        f"SOAP is better than AdamW, {difference(soap, table)}, at {soap.speed_ratio:.2f} of its steps per second with "
        f"{state:.0f} times its optimizer state; where the time of AdamW's run ends, its validation figure is "
        f"{100 * soap.in_time_mean:.1f}% and AdamW's {100 * adamw.in_time_mean:.1f}%."
    ) in guide
    assert f"AdEMAMix is worse there, {difference(ademamix, table)}: the factor 0.9999" in guide
    assert "betas 0.9 0.999 0.9999" in ademamix.variant
    assert f"spans 10,000 steps, and the run has {table.comparison.steps:,}." in guide


def test_batch_sizes(archived: Results) -> None:
    small, large = (row(of(archived, "vit_b16", size), "lion") for size in (16, 1024))
    assert f"difference is {points(small)} at 16 (8,400 steps) and {points(large)} at 1,024" in text("guide.md")


def test_what_width_steps_and_batch_size_change(results: Results) -> None:
    guide = text("guide.md")
    ladders = {(each.studies[0].table.comparison.task, each.factor): each.studies for each in results.transfer}
    moves: dict[tuple[str, str], list[float]] = {}
    for (_, factor), studies in ladders.items():
        for smaller, study in itertools.pairwise(studies):
            for optim in (REFERENCE, SUBJECT):
                before, after = (chosen_setting(each, optim)[0] for each in (smaller, study))
                moves.setdefault((factor, optim), []).append(round(math.log10(after / before), 2))
    spans = {key: f"{min(values):+.2f} to {max(values):+.2f}" for key, values in moves.items()}
    of_adamw, of_lion = (spans["width", optim] for optim in (REFERENCE, SUBJECT))
    assert f"AdamW's best rate moved by {of_adamw} decades and Lion's by {of_lion} at twice the width" in guide
    assert spans["steps", REFERENCE] == spans["steps", SUBJECT]
    assert f"both by {spans['steps', SUBJECT]} at three times the steps" in guide
    assert f"AdamW's by {spans['batch size', REFERENCE]} and Lion's by {spans['batch size', SUBJECT]}" in guide

    def gap(task: str, factor: str, place: int) -> str:
        table = ladders[task, factor][place].table
        return difference(row(table, SUBJECT), table)

    language, digits = "gpt2_small", "vit_b16"
    assert (
        f"{gap(language, 'batch size', 0)} perplexity at a batch of 4 and {gap(language, 'batch size', 1)} at 16"
        in guide
    )
    assert f"{gap(digits, 'batch size', 0)} at 16 and {gap(digits, 'batch size', 1)} at 64" in guide
    assert f"{gap(language, 'steps', 0)} perplexity after 667 steps, {gap(language, 'steps', 1)} after 2,000" in guide
    assert f"{gap(digits, 'steps', 0)} after 700 and {gap(digits, 'steps', 1)} after 2,100" in guide


def test_warm_up(results: Results) -> None:
    steps_of = {
        (task, conditions(composed(f"task={task}", f"schedule.warmup_steps={steps}"))): steps
        for task in ("gpt2_small", "bert_small")
        for steps in (0, 100, 500, 1000)
    }
    runs = read_records([ROOT / "reports" / "pending" / "warmup"]).runs
    runs = runs[(runs["status"] == "completed") & (runs["seed"] == TRIAL_SEEDS_FROM)]
    runs = runs[runs["weight_decay"] == runs["optim"].map({"adamw": 0.1, "lion": 1.0})]  # the sweep's, of rates alone
    steps = [steps_of[task, hashed] for task, hashed in zip(runs["task"], runs["conditions"], strict=True)]
    best = runs.assign(warmup=steps).groupby(["task", "optim", "warmup"])["final"].min()
    guide, language = text("guide.md"), text("language.md")
    for task in ("gpt2_small", "bert_small"):
        for optim in ("adamw", "lion"):
            figures = [f"{best[task, optim, steps]:.1f}" for steps in (0, 100, 500, 1000)]
            assert f"{', '.join(figures[:3])} and {figures[3]}" in language
            assert f"{', '.join(figures[:3])} and {figures[3]}" in guide


def test_nothing_is_judged_by_what_no_longer_compares() -> None:
    archived = read_records([PUBLISHED / "archive"]).runs
    published = read_records([PUBLISHED / "records"]).runs
    assert not set(archived["run_id"]) & set(published["run_id"])
    assert len(archived)

import json
import math
import shutil

import pytest
from scipy import stats

from reports.protocol import TRIAL_SEEDS_FROM, choice_variance
from reports.records.reader import read_records
from reports.tables.comparison import build_tables, to_frame


@pytest.fixture
def rows(outputs):
    def build(reference="adamw"):
        (table,) = build_tables(read_records([outputs]).runs, reference)
        return {row.optim: row for row in table.rows}

    return build


def test_a_table_made_by_hand(write_run, tune, rows):
    ours, theirs = (0.92, 0.94, 0.96), (0.90, 0.91, 0.93)
    tune("adamw", theirs, final=0.9)
    tune("lion", ours, final=0.92, lr=1e-4, weight_decay=1.0)
    at_edge = {"lr": 1e-3, "weight_decay": 1.0, "seed": TRIAL_SEEDS_FROM}
    write_run(optim="lion", status="diverged", diverged_step=12, **at_edge)
    table_rows = rows()
    assert list(table_rows) == ["adamw", "lion"]  # the reference first, whatever the alphabet
    lion, adamw = table_rows["lion"], table_rows["adamw"]
    assert (lion.lr, lion.weight_decay, lion.seeds, lion.trials, lion.runs) == (1e-4, 1.0, 3, 10, 13)
    assert (lion.completed, lion.diverged, lion.failed, lion.interrupted) == (12, 1, 0, 0)
    assert (lion.test_mean, lion.test_sd) == (pytest.approx(0.94), pytest.approx(0.02))
    assert lion.val_sd == pytest.approx(0, abs=1e-12)
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    wider = math.sqrt(1 + 3 * choice_variance(1))  # three fresh seeds, settings chosen on one trial seed
    ends = [0.02 + 1 / 150 + wider * (end - 0.02 - 1 / 150) for end in (interval.low, interval.high)]
    assert (lion.difference_low, lion.difference_high) == pytest.approx(tuple(ends))
    assert (lion.verdict, lion.common_seeds, lion.untuned) == ("better", 3, False)
    assert adamw.is_reference
    assert math.isnan(adamw.difference)
    assert adamw.trials < adamw.most_trials == 10
    assert (lion.lr_on_border, lion.weight_decay_on_border) == (False, False)
    assert adamw.optimizer_state_bytes == 3_200_000


def test_every_optimizer_has_its_row(write_run, rows):
    write_run()
    write_run(optim="lion", status="diverged", steps_per_second=None)
    write_run(optim="sgd", status="failed", tuned=None)
    write_run(optim="radam", status="interrupted")
    table_rows = rows()
    assert sorted(table_rows) == ["adamw", "lion", "radam", "sgd"]
    assert [table_rows[name].runs for name in ("lion", "sgd", "radam")] == [1, 1, 1]
    assert (table_rows["lion"].diverged, table_rows["sgd"].failed, table_rows["radam"].interrupted) == (1, 1, 1)
    assert math.isnan(table_rows["lion"].lr)
    assert math.isnan(table_rows["lion"].steps_per_second)
    assert table_rows["lion"].seeds == table_rows["sgd"].trials == 0


@pytest.mark.parametrize(("best", "marked"), [(1e-4, True), (1e-3, False), (1e-2, True)])
def test_the_border_of_what_was_tried(write_run, rows, best, marked):
    for lr in (1e-4, 1e-3, 1e-2):
        write_run(lr=lr, final=0.9 if lr == best else 0.5)
    assert rows()["adamw"].lr_on_border is marked
    assert rows()["adamw"].weight_decay_on_border is False  # one value tried


def test_a_diverged_value_was_tried(write_run, rows):
    write_run(lr=1e-4, final=0.5)
    write_run(lr=1e-3, final=0.9)
    write_run(lr=1e-2, status="diverged")
    assert rows()["adamw"].lr_on_border is False


@pytest.mark.parametrize(("seeds", "trials", "followed"), [(3, 9, True), (2, 9, False), (3, 8, False)])
def test_below_the_protocol_a_row_is_untuned_and_has_no_verdict(tune, rows, seeds, trials, followed):
    tune("adamw", (0.8, 0.81, 0.82, 0.83))
    folders = tune("lion", (0.9, 0.912, 0.923, 0.934)[:seeds] if seeds > 2 else (0.9, 0.912, 0.923))
    if seeds < 3:
        shutil.rmtree(folders[-1])
    if trials < 9:
        others = (
            p for p in folders[0].parent.iterdir() if json.loads((p / "summary.json").read_text())["final"] == 0.5
        )
        shutil.rmtree(next(others))
    row = rows()["lion"]
    assert (row.seeds, row.trials, row.untuned) == (seeds, trials, not followed)
    assert not math.isnan(row.difference_low)
    assert row.verdict == ("better" if followed else "")


def test_of_an_untuned_reference_nothing_is_said(write_run, tune, rows):
    for seed in range(5):
        write_run(seed=seed, test=0.5 + seed / 1000)
    tune("lion", (0.9, 0.912, 0.923))
    table_rows = rows()
    assert (table_rows["adamw"].untuned, table_rows["lion"].untuned, table_rows["lion"].verdict) == (True, False, "")


def test_a_row_says_what_ran_and_not_what_its_file_says(write_run, rows):
    text = "torch.optim.AdamW, eps 1e-6 (Lion paper, appendix)"
    write_run(variant=text, optim_args={"betas": [0.9, 0.999], "eps": 1e-8})
    write_run(optim="lion", variant="lion.Lion, bfloat16 momentum", optim_args={"momentum_dtype": None})
    write_run(optim="sgd", optim_class="baselines.SGDW", variant="another text", optim_args={})
    table_rows = rows()
    assert table_rows["adamw"].variant == "torch.optim.AdamW, betas 0.9 0.999, eps 1e-08"
    assert table_rows["lion"].variant == "lion.Lion, momentum_dtype none"
    assert table_rows["sgd"].variant == "baselines.SGDW"


def test_a_seed_that_was_run_twice_counts_as_one(write_run, rows):
    write_run(final=0.8, run_id="a")
    write_run(final=0.9, run_id="b")
    write_run(final=0.95, seed=1)
    row = rows()["adamw"]
    assert (row.seeds, row.repeated) == (2, True)
    assert row.val_mean == pytest.approx((0.85 + 0.95) / 2)


def test_without_test_values_validation_is_compared(write_run, outputs):
    for seed in range(2):
        write_run(seed=seed, test=None, final=0.5)
        write_run(seed=seed, test=None, final=0.6 + seed / 1000, optim="lion")
    (table,) = build_tables(read_records([outputs]).runs, "adamw")
    assert table.split == "val"
    assert table.rows[1].difference == pytest.approx(0.1005)


def test_one_common_seed_gives_no_interval(write_run, rows):
    write_run(test=0.5)
    write_run(test=0.7, optim="lion")
    row = rows()["lion"]
    assert row.difference == pytest.approx(0.2)
    assert math.isnan(row.difference_low)
    assert row.verdict == ""


def test_another_reference_and_none(write_run, rows):
    write_run()
    write_run(optim="sgd")
    assert rows("sgd")["sgd"].is_reference
    assert list(rows("sgd")) == ["sgd", "adamw"]
    assert math.isnan(rows("muon")["sgd"].difference)


def test_numbers_of_all_tables_in_one_frame(write_run, outputs):
    write_run()
    write_run(steps=200)
    frame = to_frame(build_tables(read_records([outputs]).runs, "adamw"))
    assert frame[["task", "steps", "val_mean"]].to_numpy().tolist() == [
        ["digits", 100, 0.9],
        ["digits", 200, 0.9],
    ]


def test_costs_are_of_runs_that_ended_and_times_of_turns(write_run, rows):
    write_run(optimizer_state_bytes=100, steps_per_second=10.0)
    write_run(seed=1, status="failed", optimizer_state_bytes=0, steps_per_second=1.0)
    row = rows()["adamw"]
    assert row.optimizer_state_bytes == 100
    assert math.isnan(row.steps_per_second)
    assert math.isnan(row.optimizer_step_ms)


def test_a_difference_has_one_interval_in_all_tables(tune, outputs):
    """Two rivals and a variant of one of them: its own row is in the main table and in that of the variants."""
    tune("adamw", (0.90, 0.92))
    for optim, eps in (("nadam", 1e-8), ("nadam", 1e-6), ("radam", 1e-8)):
        tune(optim, (0.93, 0.96), optim_class=f"library.{optim}", optim_args={"eps": eps})
    tune("nadam", (0.93, 0.96), optim_class="library.nadam", optim_args={"eps": 1e-8}, task="letters")  # the usual kind
    tables = [t for t in build_tables(read_records([outputs]).runs, "adamw") if t.comparison.task == "digits"]
    found = [row for table in tables for row in table.rows if row.optim == "nadam"]
    assert len(found) == len(tables) == 2
    assert {(row.comparisons, row.family) for row in found} == {(2, "rivals")}
    assert len({(row.difference_low, row.difference_high) for row in found}) == 1

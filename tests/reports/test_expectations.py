import math
from pathlib import Path

import pytest
import yaml

from reports import expectations
from reports.records.reader import read_records
from reports.results import compared
from reports.tables.comparison import build_tables

T2, T3 = 4.302653, 3.182446  # 97.5% points of Student's t


@pytest.fixture
def described():
    return {"conditions": "1" * 12, "optim_class": "lion.Lion", "optim_args": {"betas": [0.9, 0.99]}}


def of(outputs):
    return expectations.expected(build_tables(read_records([outputs]).runs, "adamw"))


def test_one_more_seed_is_expected_in_student_s_prediction_interval(tune, outputs, described):
    tune("lion", (0.80, 0.81, 0.82, 0.85), **described)
    (entry,) = of(outputs)["digits"].values()
    assert {key: entry[key] for key in ("metric", "goal", "split")} == {
        "metric": "accuracy",
        "goal": "max",
        "split": "test",
    }
    row = entry["optimizers"]["lion"]
    half = T3 * math.sqrt(0.0014 / 3) * math.sqrt(1 + 1 / 4)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.82, 0.82 - half, 0.82 + half), abs=1e-5)
    assert (row["lr"], row["weight_decay"], row["seeds"]) == (1e-3, 0.1, 4)
    assert {key: row[key] for key in ("optim_class", "optim_args")} == {
        key: described[key] for key in ("optim_class", "optim_args")
    }


def test_what_is_not_in_the_paper_is_expected_beside_the_others(tune, outputs, described):
    tune("adamw", (0.80, 0.81, 0.82), **described)
    tune("muon", (0.90, 0.91, 0.92), **described)
    (entry,) = of(outputs)["digits"].values()
    assert {optim: row["mean"] for optim, row in entry["optimizers"].items()} == {"adamw": 0.81, "muon": 0.91}


def test_a_share_ends_at_one_and_a_loss_at_zero(tune, outputs, described):
    tune("lion", (0.99, 1.0, 0.98), **described)
    tune("lion", (0.1, 2.0, 3.0), **described, task="text", metric="perplexity", goal="min")
    expected = of(outputs)
    share, loss = (expected[task]["1" * 12]["optimizers"]["lion"] for task in ("digits", "text"))
    assert (share["low"], share["high"]) == (pytest.approx(0.99 - T2 * 0.01 * math.sqrt(4 / 3), abs=1e-5), 1.0)
    assert loss["low"] == 0
    assert loss["high"] > 3


def test_nothing_is_expected_below_the_protocol_or_of_other_scales(tune, write_run, outputs, described):
    tune("lion", (0.9, 0.91, 0.92), **described, task="other", scale="gpu")
    tune("lion", (0.9,), **described)
    write_run(optim="adamw", **described)
    assert of(outputs) == {}


def test_conditions_are_kept_apart_and_read_back_as_texts(tune, outputs, described):
    for conditions in ("1e2345678901", "012345678901", "abcdef012345"):
        tune("lion", (0.9, 0.91, 0.92), **described | {"conditions": conditions, "steps": int(conditions[-2:], 16)})
    written = expectations.files(
        Path("/checkout"), compared(read_records([outputs]).runs, build_speeds(outputs), "adamw")
    )
    text = written[Path("/checkout/conf/expected/embedded.yaml")]
    assert set(yaml.safe_load(text)["digits"]) == {"1e2345678901", "012345678901", "abcdef012345"}
    assert max(map(len, text.splitlines()[4:])) > 80  # an optimizer's row is one line


def build_speeds(folder):
    from reports.records.speeds import read_speeds

    return read_speeds([folder])

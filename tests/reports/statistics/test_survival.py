import math

import pandas as pd
import pytest

from reports.records.reader import read_records
from reports.statistics.survival import survival


def frame(*rows):
    columns = ["optim", "lr", "status", "diverged_step", "cause"]
    types = {"optim": "string", "lr": "float64", "status": "string", "diverged_step": "Int64", "cause": "string"}
    return pd.DataFrame(rows, columns=columns).astype(types)


def test_shares_by_hand():
    result = survival(
        frame(
            ("lion", 1e-3, "diverged", 40, "loss is nan"),
            ("lion", 1e-3, "completed", None, None),
            ("lion", 1e-3, "diverged", 7, "loss  is\nnan"),
            ("lion", 1e-3, "diverged", None, "loss above 10"),
            ("lion", 1e-4, "completed", None, None),
            ("adamw", 1e-3, "completed", None, None),
        )
    )
    assert result[["optim", "lr"]].to_numpy().tolist() == [["adamw", 1e-3], ["lion", 1e-4], ["lion", 1e-3]]
    assert result["runs"].tolist() == [1, 1, 4]
    assert result["completed"].tolist() == [1, 1, 1]
    assert result["diverged"].tolist() == [0, 0, 3]
    assert result["survived"].tolist() == [1, 1, 0.25]
    assert result["first_step"].isna().tolist() == [True, True, False]
    assert result["first_step"].iloc[2] == 7
    assert result["causes"].tolist() == ["", "", "loss above 10; loss is nan"]


def test_failed_and_interrupted_runs_count_but_not_as_diverged():
    result = survival(
        frame(
            ("lion", 1e-3, "failed", 3, "OSError: no space left"),
            ("lion", 1e-3, "interrupted", None, "killed"),
            ("lion", 1e-3, "completed", None, None),
            ("lion", 1e-2, "failed", None, "OSError: no space left"),
        )
    )
    counts = result[["runs", "completed", "diverged", "failed", "interrupted"]].to_numpy().tolist()
    assert counts == [[3, 1, 0, 1, 1], [1, 0, 0, 1, 0]]
    assert result["survived"].iloc[0] == 1
    assert math.isnan(result["survived"].iloc[1])  # nothing is known of this learning rate
    assert result["first_step"].isna().all()
    assert result["causes"].tolist() == ["", ""]


def test_a_run_without_a_learning_rate_keeps_its_row():
    result = survival(frame(("lion", math.nan, "failed", None, None), ("lion", 1e-3, "completed", None, None)))
    assert result["runs"].tolist() == [1, 1]
    assert math.isnan(result["lr"].iloc[1])


@pytest.mark.parametrize("written", [True, False])
def test_records_as_they_are_read(write_run, outputs, written):
    if written:
        write_run(lr=1e-2, status="diverged", diverged_step=12, cause="loss is nan")
        write_run(lr=1e-2, seed=1)
    records = survival(read_records([outputs]).runs)
    columns = ["optim", "lr", "runs", "completed", "diverged", "failed", "interrupted", "survived", "first_step"]
    assert list(records) == [*columns, "causes"]
    expected = [["adamw", 1e-2, 2, 1, 1, 0, 0, 0.5, 12, "loss is nan"]] if written else []
    assert records.to_numpy().tolist() == expected

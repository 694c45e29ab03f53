"""The ledger's schema: what is read, and what a fault says."""

import csv
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recipes.errors import ConfigError
from reports.evidence import ledger, schema

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "reports" / "evidence"
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        ledger.read(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_committed_is_what_was_collected() -> None:
    read = ledger.read()
    rows = {study.name: len(study.runs) for study in read.studies}
    assert rows.pop("lion-paper") == 50
    assert rows["marin-fantastic-optimizers"] == 519
    assert rows["lion-muon"] == 926
    assert sum(rows.values()) == 1506
    assert (len(read.speed_run), len(read.algoperf)) == (46, 21)


def test_the_papers_rows_are_those_of_its_table() -> None:
    """reports/paper/hyperparameters.csv was typed from the paper by itself."""
    table = pd.read_csv(ROOT / "reports" / "paper" / "hyperparameters.csv", comment="#")
    (paper,) = [study for study in ledger.read().studies if study.name == "lion-paper"]
    ours = [(r.task, r.variant, r.optimizer, r.lr, r.weight_decay, r.beta1, r.beta2) for r in paper.runs]
    columns = ["task", "augmentation", "optimizer", "lr", "weight_decay", "beta1", "beta2"]
    theirs = table[columns].astype(object).where(table[columns].notna(), None).to_numpy().tolist()
    assert ours == [(task, variant or "", *rest) for task, variant, *rest in theirs]
    accuracy = pd.read_csv(ROOT / "reports" / "paper" / "imagenet.csv", comment="#")
    printed = accuracy[accuracy["section"] == "scratch"].set_index(["model", "optimizer", "randaug_mixup"])["imagenet"]
    valued = [run for run in paper.runs if run.value is not None]
    assert len(valued) == 18
    for run in valued:
        model = run.task.removeprefix("ImageNet ")
        assert run.value == printed[model, run.optimizer, "yes" if run.variant else "no"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"study": "b"}, "row 3: study 'b' is unknown; known: a"),
        ({"study": ""}, "row 3: study is empty; expected a text"),
        ({"batch_unit": ""}, "row 3: batch is 64, but batch_unit is empty"),
        ({"batch_unit": "pounds"}, "row 3: batch_unit is 'pounds'; expected tokens, examples, or sequences"),
        ({"lr": "0"}, "row 3: lr is '0'; expected a number above 0"),
        ({"lr": "-1e-3"}, "row 3: lr is '-1e-3'"),
        ({"lr": "nan"}, "row 3: lr is 'nan'"),
        ({"weight_decay": "-0.1"}, "row 3: weight_decay is '-0.1'; expected a number of at least 0"),
        ({"beta2": "1"}, "row 3: beta2 is '1'; expected a number from 0 to below 1"),
        ({"goal": "up"}, "row 3: goal is 'up'; expected one of min, max"),
        ({"goal": ""}, "row 3: value is 3, but goal is empty"),
        ({"metric": ""}, "row 3: value is 3, but metric is empty"),
        ({"steps": "12.5"}, "row 3: steps is '12.5'; expected a whole number above 0"),
        ({"value": "1e999"}, "row 3: value is '1e999'; expected a finite number"),
        ({"date": "yesterday"}, "row 3: date is 'yesterday'"),
        ({"role": "best"}, "row 3: role is 'best'; expected one of best of sweep"),
        ({"domain": "games"}, "row 3: domain is 'games'"),
    ],
)
def test_a_fault_is_one_line_with_file_and_row(write_ledger, row: dict[str, str], says: str) -> None:
    folder = write_ledger([{}, row])
    assert f"{folder / 'studies' / 'a.csv'}, {says}" in refusal(folder)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"tuned": ["momentum"]}, "a: tuned has momentum; known: lr, weight_decay, betas"),
        ({"independent": "yes"}, "a: independent is 'yes'; expected true or false"),
        ({"noise": True}, "a: noise is True; expected a number"),
        ({"author": "me"}, "a: author is unknown"),
        ({"compare": {"colour": "red"}}, "a: compare has colour"),
        ({"stated": [{"kind": "praise"}]}, "a, stated 1: expected a mapping with a kind of lowest, better, ratio"),
        ({"stated": [{"kind": "ratio", "says": "x", "source": "y", "axis": "lr"}]}, "a, stated 1: between is None"),
    ],
)
def test_a_fault_of_a_study_names_it(write_ledger, entry: dict[str, object], says: str) -> None:
    assert says in refusal(write_ledger(**entry))


def test_a_row_that_stands_twice_is_a_fault(write_ledger) -> None:
    assert "row 4: repeats row 2" in refusal(write_ledger([{}, {"lr": "0.1"}, {}]))


def test_a_table_without_a_study_and_a_study_without_a_table(write_ledger) -> None:
    folder = write_ledger()
    table = folder / "studies" / "a.csv"
    (folder / "studies" / "b.csv").write_text(table.read_text())
    assert "b.csv: a table of a study that" in refusal(folder)
    (folder / "studies" / "b.csv").unlink()
    table.unlink()
    assert "a.csv: no such file" in refusal(folder)


def test_a_header_that_differs_says_how(write_ledger) -> None:
    folder = write_ledger()
    table = folder / "studies" / "a.csv"
    table.write_text(table.read_text().replace("weight_decay", "decay", 1))
    assert "row 1: the header lacks weight_decay and has unknown decay" in refusal(folder)


NUMBERS = {
    "lr": lambda value: value > 0,
    "weight_decay": lambda value: value >= 0,
    "beta1": lambda value: 0 <= value < 1,
    "value": lambda value: True,
}


@shared_folder
@given(st.sampled_from(sorted(NUMBERS)), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
@example("lr", "0x10")
@example("lr", "1_0")
@example("value", "inf")
def test_a_cell_is_an_allowed_number_or_a_fault(write_ledger, name: str, cell: str) -> None:
    folder = write_ledger([{name: cell}])
    refused = ""
    try:
        (run,) = ledger.read(folder).runs
    except ConfigError as error:
        refused = str(error)
    if refused:
        assert re.search(rf"a\.csv, row 2: {name} is ", refused)
        assert "\n" not in refused
        return
    value = getattr(run, name)
    if cell.strip():
        assert value == float(cell)
        assert math.isfinite(value)
        assert NUMBERS[name](value)
    else:
        assert value is None


@shared_folder
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe")
@example(b'"')
def test_any_bytes_for_a_table_are_a_fault_in_one_line(write_ledger, content: bytes) -> None:
    folder = write_ledger()
    (folder / "studies" / "a.csv").write_bytes(content)
    assert str(folder / "studies" / "a.csv") in refusal(folder)


@shared_folder
@given(st.text(max_size=60))
@example("a: [")
@example("a: {title: 1}")
@example("2001-99-99")
def test_any_text_for_the_studies_is_a_fault_in_one_line(write_ledger, content: str) -> None:
    folder = write_ledger()
    (folder / "studies.yaml").write_text(content, encoding="utf-8", errors="replace")
    with pytest.raises(ConfigError):
        ledger.read(folder)


def test_every_committed_row_has_an_address_and_what_a_pair_needs() -> None:
    for study in ledger.read().studies:
        with (FOLDER / "studies" / f"{study.name}.csv").open(newline="") as file:
            raw = list(csv.DictReader(file))
        assert [row["source"] for row in raw] == [run.source for run in study.runs]
        assert list(raw[0]) == list(schema.RUNS)


def test_tables_of_a_small_ledger_have_no_empty_corner_that_fails(write_ledger, tune, tmp_path) -> None:
    """No statement, no claim, no leaderboard: the page says so; the rules have this study and the suite's records."""
    from reports.evidence import tables

    kinds = {"optim_args": {"betas": [0.9, 0.99]}, "task": "vit_b16", "root": tmp_path / "outputs"}
    tune("adamw", [0.9, 0.91], lr=1e-2, weight_decay=0.1, **kinds)
    tune("lion", [0.9, 0.91], lr=1e-3, weight_decay=1.0, **kinds)
    results = tables.read_results(write_ledger(), tmp_path / "outputs")
    texts = tables.files(results)
    assert "2 rows of 1 studies, 1 pairs" in texts["README.md"]
    assert texts["claims.csv"] == "none\n"
    assert "| rate | rate over 10, decay times 10 | rule of thumb | yes | 2 of 2 (100%)" in texts["README.md"]
    assert tables.summary(results)

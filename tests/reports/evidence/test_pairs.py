"""Pairs, their differences and margins, and what a study's text says against its own figures."""

from pathlib import Path

import pandas as pd
import pytest

from recipes.errors import ConfigError
from reports.evidence import ledger
from reports.evidence.pairs import BASELINE, LION, NO_MARGIN, NO_VALUE, TIE, pairs, spread
from reports.evidence.statements import AGREES, CONTRADICTED, IN_PART, check_all

STUDIES = Path(__file__).resolve().parents[3] / "reports" / "evidence" / "studies"
MARIN, MUON = "marin-fantastic-optimizers", "lion-muon"


@pytest.fixture(scope="module")
def found():
    return pairs(ledger.read())


def test_there_are_as_many_pairs_as_were_collected(found) -> None:
    counts = pd.Series([pair.study.name for pair in found]).value_counts().to_dict()
    assert counts == {
        "lion-paper": 25,
        MARIN: 12,
        MUON: 7,
        "epfml-llm-optimizer-benchmark": 4,
        "sinpcw-showcase-optimizer": 3,
        "open_clip-432": 2,
        "optim-bench": 2,
    }


def test_differences_of_sweeps_are_those_that_pandas_finds(found) -> None:
    table = pd.read_csv(STUDIES / f"{MARIN}.csv")
    lowest = table.groupby(["parameters", "variant", "optimizer"])["value"].min().unstack()
    expected = (lowest["Lion"] - lowest["AdamW"]).dropna()
    ours = {(p.lion.parameters, p.lion.variant): p.difference for p in found if p.study.name == MARIN}
    assert ours == pytest.approx(expected.to_dict(), abs=1e-12)
    assert len(ours) == 12


@pytest.mark.parametrize(
    ("study", "model", "variant", "difference"),
    [  # by hand, from the sources' figures
        (MARIN, "Llama-style 130M", "1x Chinchilla", 3.5491807 - 3.5291429),
        (MARIN, "Llama-style 130M", "8x Chinchilla", 3.2508106 - 3.2605636),
        (MUON, "GPT-base 24L 1024d", "exps_355m", 3.1659589 - 3.1068983),
        ("optim-bench", "ResNet-20", "full, default settings", 0.8849 - 0.8924),
        ("sinpcw-showcase-optimizer", "tf_efficientnet_b0", "", 0.746 - 0.758),
        ("open_clip-432", "CLIP g/14", "", 66.25 - 65.62),
    ],
)
def test_differences_by_hand(found, study: str, model: str, variant: str, difference: float) -> None:
    key = (study, model, variant)
    (pair,) = [p for p in found if (p.study.name, p.lion.model, p.lion.variant) == key]
    assert pair.difference == pytest.approx(difference, abs=2e-7)


def values(optimizer: str, *losses: float | None, **more: str) -> list[dict[str, str]]:
    return [
        {"optimizer": optimizer, "lr": f"{place + 1}e-3", "value": "" if loss is None else str(loss)} | more
        for place, loss in enumerate(losses)
    ]


def pair_of(write_ledger, ours, theirs, goal="min", **entry):
    rows = values("Lion", *ours, goal=goal) + values("AdamW", *theirs, goal=goal)
    (pair,) = pairs(ledger.read(write_ledger(rows, **entry)))
    return pair


NINE = [3.00, 3.01, 3.04, 3.1, 3.1, 3.1, 3.1, 3.1, 3.1]


def test_the_margin_of_full_sweeps_is_the_larger_spread(write_ledger) -> None:
    pair = pair_of(write_ledger, [loss - 0.03 for loss in NINE], [2 * loss - 3 for loss in NINE])
    assert pair.difference == pytest.approx(-0.03)
    assert pair.margin == pytest.approx(0.08)
    assert pair.reading == TIE
    apart = pair_of(write_ledger, [loss - 0.09 for loss in NINE], [2 * loss - 3 for loss in NINE])
    assert apart.reading == LION


def test_eight_rows_are_no_full_sweep_and_single_runs_have_no_margin(write_ledger) -> None:
    pair = pair_of(write_ledger, NINE[:8], [4.0])
    assert pair.margin is None
    assert pair.reading == LION + NO_MARGIN
    assert pair.basis == "best of 1 and 8 single runs"
    assert pair_of(write_ledger, [3.0], [2.0]).basis == "single runs"
    assert pair_of(write_ledger, [3.0], [2.0]).reading == BASELINE + NO_MARGIN


def test_what_the_source_counts_as_equal_is_a_margin(write_ledger) -> None:
    assert pair_of(write_ledger, [3.0], [3.002], noise=0.003).reading == TIE
    assert pair_of(write_ledger, [3.0], [3.004], noise=0.003).reading == LION
    assert pair_of(write_ledger, [3.0], [3.004], goal="max", noise=0.003).reading == BASELINE


def test_a_diverged_row_is_never_the_best_and_no_figure_gives_settings_only(write_ledger) -> None:
    pair = pair_of(write_ledger, [None, 3.0], [4.0])
    assert pair.lion.lr == 2e-3
    assert pair_of(write_ledger, [None], [None]).reading == NO_VALUE


def test_a_best_value_at_the_end_of_those_published_is_on_the_edge(write_ledger) -> None:
    pair = pair_of(write_ledger, [3.2, 3.0, 3.1], [3.0, 3.1, 3.2])
    assert pair.on_edge("lr") == ["baseline"]
    assert pair.on_edge("weight_decay") == [], "one value is no sweep"


def test_spread_of_a_goal_of_max_is_from_the_top(write_ledger) -> None:
    pair = pair_of(write_ledger, NINE, NINE, goal="max")
    assert spread(pair.lion_rows) == pytest.approx(0.0)
    assert pair.lion.value == 3.1


def test_contradictions_that_are_known() -> None:
    held = {(one.study, one.says): one for one in check_all(ledger.read())}
    best_row = held[MARIN, "AdamW's lowest loss at 520M, 1x"]
    assert best_row.verdict == CONTRADICTED
    assert "best row 3.1096, stated 3.1041" in best_row.computed
    assert "-0.0019 by the rows, +0.0035 by the statement" in best_row.computed
    muon = held[MUON, "LionMuon is better than Muon on every data set"]
    table = pd.read_csv(STUDIES / f"{MUON}.csv")
    table = table[(table["variant"] == "exps") & table["optimizer"].isin(["LionMuon P=2", "Muon (in lion_muon)"])]
    wide = table.pivot(index=["dataset", "model"], columns="optimizer", values=["value", "lowest"]).dropna()
    behind = wide["value"]["LionMuon P=2"] > wide["value"]["Muon (in lion_muon)"]
    assert {dataset for dataset, _ in behind[behind].index} == {"wikitext"}
    assert muon.computed.startswith(f"behind on {behind.sum()} of {len(wide)} by the last value")
    assert (wide["lowest"]["LionMuon P=2"] < wide["lowest"]["Muon (in lion_muon)"]).all()
    assert muon.verdict == IN_PART


def test_a_statement_that_the_rows_bear_out_agrees_and_one_about_nothing_is_a_fault(write_ledger) -> None:
    stated = {"says": "x", "source": "y", "kind": "lowest", "value": 3.0, "within": 1e-6}
    rows = values("AdamW", 3.0, 3.1) + values("Lion", 2.0)
    folder = write_ledger(rows, stated=[stated | {"rows": {"optimizer": "AdamW"}}])
    assert [one.verdict for one in check_all(ledger.read(folder))] == [AGREES]
    folder = write_ledger(rows, stated=[stated | {"rows": {"optimizer": "SGD"}}])
    with pytest.raises(ConfigError, match="a: no row has"):
        check_all(ledger.read(folder))
    ratio = {"says": "x", "source": "y", "kind": "ratio", "axis": "lr", "between": [3, 10]}
    folder = write_ledger(stated=[ratio])  # 0.01 and 0.001
    assert [(one.verdict, one.computed) for one in check_all(ledger.read(folder))] == [
        (AGREES, "1 of 1 of its own pairs lie within; 10 to 10")
    ]

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from recipes.language.glue_metrics import METRICS, average

PAPER = Path(__file__).resolve().parents[3] / "reports/paper/glue.csv"
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)
scores = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=3, max_size=60)


@given(answers)
def test_binary_metrics_are_scikit_learn_s(pairs: list[tuple[bool, bool]]) -> None:
    predicted, label = np.array(pairs, np.float64).T
    assert METRICS["accuracy"](predicted, label) == pytest.approx(metrics.accuracy_score(label, predicted))
    assert METRICS["f1"](predicted, label) == pytest.approx(metrics.f1_score(label, predicted, zero_division=0))
    assert METRICS["matthews"](predicted, label) == pytest.approx(metrics.matthews_corrcoef(label, predicted), abs=1e-9)


@given(scores)
def test_correlations_are_scipy_s(pairs: list[tuple[int, int]]) -> None:
    predicted, label = np.array(pairs, np.float64).T / 5
    constant = len(set(predicted)) == 1 or len(set(label)) == 1
    pearson = 0.0 if constant else stats.pearsonr(predicted, label).statistic
    spearman = 0.0 if constant else stats.spearmanr(predicted, label).statistic
    assert METRICS["pearson"](predicted, label) == pytest.approx(pearson, abs=1e-9)
    assert METRICS["spearman"](predicted, label) == pytest.approx(spearman, abs=1e-9)


def test_the_average_is_that_of_table_6() -> None:
    lines = [line for line in PAPER.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 6
    for row in rows:
        printed = float(row.pop("avg"))
        figures = {name: float(value) for name, value in row.items() if name not in ("model", "optimizer")}
        assert len(figures) == 12
        assert average(figures) == pytest.approx(printed, abs=0.0051)

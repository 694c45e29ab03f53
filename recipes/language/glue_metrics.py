"""GLUE's metrics (Wang et al. 2019, arXiv:1804.07461, Table 1) and their average (Lion paper, Table 6).

A figure that is 0/0 counts as 0, as for a model that gives every example the same answer.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats


def accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Share of labels that are right."""
    return float((predicted == label).mean())


def f1(predicted: np.ndarray, label: np.ndarray) -> float:
    """Harmonic mean of precision and recall of label 1."""
    true_positives = float(((predicted == 1) & (label == 1)).sum())
    positives = float((predicted == 1).sum() + (label == 1).sum())
    return 2 * true_positives / positives if positives else 0.0


def pearson(predicted: np.ndarray, label: np.ndarray) -> float:
    """Pearson's correlation."""
    if np.ptp(predicted) == 0 or np.ptp(label) == 0:
        return 0.0
    return float(stats.pearsonr(predicted, label).statistic)


def spearman(predicted: np.ndarray, label: np.ndarray) -> float:
    """Spearman's correlation: Pearson's of the ranks, ties sharing theirs."""
    return pearson(stats.rankdata(predicted), stats.rankdata(label))


# Matthews' correlation is Pearson's of two binary variables.
METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "matthews": pearson,
    "f1": f1,
    "accuracy": accuracy,
    "pearson": pearson,
    "spearman": spearman,
}


def average(figures: Mapping[str, float]) -> float:
    """The mean of all figures: GLUE's 12 (two each for MRPC, STS-B, QQP and MNLI) in the paper's Table 6."""
    return sum(figures.values()) / len(figures)

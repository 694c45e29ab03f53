"""Families of comparisons, over which intervals are simultaneous (docs/comparison.md).

The primary comparison is Lion against the reference, one on each task. The paper's other optimizers are a second
family. The optimizers of the field of 2026 are a third, and variants of an optimizer, such as Lion with other betas, a
fourth, each with a table of its own: the number of other optimizers says nothing about a figure, so it must not
widen its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from reports.protocol import SUBJECT, choice_variance
from reports.statistics.intervals import Difference, paired_difference
from reports.statistics.selection import Contender

Family = Literal["", "primary", "rivals", "field", "variants"]  # empty: the reference itself
# Optimizers in use in 2026, variants of Lion among them; none of them is in the paper.
FIELD = (
    "muon",
    "muon_lion",
    "lion_muon",
    "soap",
    "schedule_free_adamw",
    "ademamix",
    "mars",
    "adopt",
    "kron",
    "prodigy",
    "cautious_lion",
    "lion_cautious_decay",
    "lion_corrected_decay",
)


def families(labels: Sequence[str], reference: str) -> dict[str, Family]:
    """Return the family of each label's difference to the reference in a comparison.

    A label with arguments in brackets is a variant if its optimizer, or the reference's, also has a row without.
    """
    named: dict[str, Family] = {}
    for label in labels:
        optimizer, _, arguments = label.partition(" (")
        if label == reference:
            named[label] = ""
        elif arguments and (optimizer in labels or reference.partition(" (")[0] == optimizer):
            named[label] = "variants"
        elif optimizer in FIELD:
            named[label] = "field"
        else:
            named[label] = "primary" if optimizer == SUBJECT else "rivals"
    return named


def difference(ours: Contender, theirs: Contender, column: str, comparisons: int = 1) -> Difference:
    """Compare two contenders over common seeds; the interval allows for the choice of settings."""
    variance = variance_of_choices(ours, theirs)
    return paired_difference(ours.by_seed(column), theirs.by_seed(column), 0.95, max(comparisons, 1), variance)


def variance_of_choices(ours: Contender, theirs: Contender) -> float:
    """The variance that both choices of settings add to the mean difference, as a share of one seed's difference's."""
    return (_choice_variance(ours) + _choice_variance(theirs)) / 2


def _choice_variance(contender: Contender) -> float:
    if not contender.fresh or contender.chosen is None or len(contender.settings) < 2:
        return 0.0  # nothing was chosen
    return choice_variance(int(contender.chosen["seeds"]))

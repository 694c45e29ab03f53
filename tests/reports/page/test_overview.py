"""The first screen and the folds below it say whose figures they show, which way is better, and the chosen settings."""

import pytest

from reports.page import sections
from reports.page.content import HeatmapBlock
from reports.records.reader import read_records
from reports.records.speeds import read_speeds
from reports.results import compared


@pytest.fixture
def page(tune, outputs):
    tune("adamw", (0.900, 0.910, 0.900))
    tune("lion", (0.970, 0.981, 0.970), lr=3e-4)
    text = {"task": "text", "metric": "perplexity", "goal": "min"}
    tune("adamw", (40.0, 41.0, 42.0), **text)
    tune("lion", (41.0, 40.0, 43.5), **text)
    return sections.build(compared(read_records([outputs]).runs, read_speeds([outputs]), "adamw"))


def test_a_line_of_the_forest_plot_names_both_optimizers_and_the_direction(page):
    digits, text = page.overview.forest.lines
    assert (digits.figures, digits.metric) == ("Lion 97.4 ± 1.6% vs AdamW 90.3 ± 1.4%", "accuracy")
    assert text.metric == "perplexity, lower is better"


def test_one_has_no_label_beside_0_on_a_long_axis(page):
    labels = [label for _, label in page.overview.forest.ticks if label]
    assert labels == ["-10", "0", "+10"]


def test_a_fold_has_the_chosen_settings_and_its_map_is_in_percent(page):
    (fold, _) = [block for section in page.sections[:1] for block in section.blocks]
    assert fold.note == (
        "digits · accuracy: Lion 97.4 ± 1.6% (lr 0.0003, weight decay 0.1), AdamW 90.3 ± 1.4% (lr 0.001, weight decay "
        "0.1); difference +7.03 points [+6.82, +7.25]"
    )
    (maps,) = [block for block in fold.blocks if isinstance(block, HeatmapBlock)]
    assert maps.panels[0].values[1][1] == pytest.approx(90.0)
    assert "validation accuracy in %" in maps.caption

"""A scientific check: fine-tuning from the span-corruption run beats fine-tuning from random weights."""

import statistics
from pathlib import Path

import pytest

from recipes.runs import experiment
from recipes.runs.record import folder_of, read_summary
from tests.recipes.language.test_text_to_text import composed


@pytest.mark.slow
def test_pretraining_raises_the_average_of_the_tasks(tmp_path: Path) -> None:
    """About eight minutes on one core: the pre-training, and three seeds of each fine-tuning."""
    averages: dict[str, list[float]] = {"with": [], "without": []}
    for seed in (0, 1, 2):
        for start, override in (("with", []), ("without", ["init_from=null"])):
            cfg = composed(
                "task=t5_glue", "optim=adamw", "tracker=none", f"seed={seed}", f"output_dir={tmp_path}", *override
            )
            assert experiment.run(cfg) == "completed"
            summary = read_summary(folder_of(cfg))
            assert summary is not None
            averages[start].append(summary["best"])
    assert statistics.mean(averages["with"]) > statistics.mean(averages["without"]) + 0.02, averages

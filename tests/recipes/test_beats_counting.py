"""A scientific check: the embedded GPT-2 learns more of a text than counting pairs of tokens gives."""

from pathlib import Path

import pytest

from recipes.runs import experiment
from recipes.runs.record import folder_of, read_metrics, read_summary
from tests.recipes.language.test_text_to_text import composed


@pytest.mark.slow
@pytest.mark.parametrize("optim", ["adamw", "lion"])
def test_a_tuned_gpt2_is_far_below_the_bigram(tmp_path: Path, optim: str) -> None:
    """About a minute on one core for each; the bigram's k is chosen on a part of the training tokens."""
    cfg = composed("task=gpt2_small", f"optim={optim}", "tracker=none", "seed=0", f"output_dir={tmp_path}")
    assert experiment.run(cfg) == "completed"
    folder = folder_of(cfg)
    figures = {line["name"]: line["value"] for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "val"}
    assert figures["perplexity"] <= 0.75 * figures["bigram_perplexity"]
    assert figures["bigram_perplexity"] < 0.25 * figures["unigram_perplexity"]
    summary = read_summary(folder)
    assert summary is not None
    seconds = summary["seconds"]
    training = sum(seconds[part] for part in ("data", "forward", "backward", "optimizer"))
    assert seconds["data"] <= 0.02 * training

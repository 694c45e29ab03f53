"""Texts of one's own, `data=text`, by the command that the documentation gives."""

from pathlib import Path
from typing import Any

import pytest

from recipes import protocol
from recipes.errors import ConfigError
from recipes.language import ngram
from recipes.runs import experiment
from recipes.runs.record import folder_of, read_metrics
from tests.recipes.conftest import composed

LINES = [f"the number after {number} is {number + 1}\n" for number in range(800)]
SHORT = ["tracker=none", "steps=4", "eval_every=2", "batch_size=8", "schedule.warmup_steps=1", "eval_batch_size=64"]


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("task", ["gpt2_small", "bert_small", "t5_pretrain"])
def test_a_file_trains_every_embedded_task(tmp_path: Path, task: str) -> None:
    (tmp_path / "mine.txt").write_text("".join(LINES))
    place = [f"data.path={tmp_path / 'mine.txt'}", "+data.options.holdout=0.2", f"output_dir={tmp_path}"]
    cfg = composed(f"task={task}", "optim=lion", "data=text", *place, *SHORT)
    assert experiment.run(cfg) == "completed"
    names = {line["name"] for line in read_metrics(folder_of(cfg) / "metrics.jsonl") if line["split"] == "val"}
    assert ("bigram_perplexity" in names) == (task == "gpt2_small")


def in_folder(folder: Path, **texts: str) -> list[str]:
    """The overrides for a folder with these splits."""
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return ["data=text", f"data.path={folder}"]


def test_a_text_too_short_for_pairs_has_no_bigram(tmp_path: Path) -> None:
    for length, models in ((ngram.SHORTEST - 1, {"unigram"}), (ngram.SHORTEST, {"unigram", "bigram"})):
        texts = in_folder(tmp_path, train="a" * (length - 1), val="0123", test="4567")  # the end of text is a token
        cfg = composed("task=gpt2_small", *texts, "data.options.context=4", "data.options.vocab_size=258")
        made: Any = protocol.make(cfg)
        assert len(made.examples()["train"].windows.tokens.ids) == length
        assert set(made.ngrams) == models


@pytest.mark.parametrize("short", ["val", "test"])
def test_a_split_shorter_than_a_window_is_refused(tmp_path: Path, short: str) -> None:
    texts = in_folder(tmp_path, **{"train": "".join(LINES), "val": LINES[0] * 9, "test": LINES[0] * 9, short: "x"})
    made = protocol.make(composed("task=t5_pretrain", *texts))
    with pytest.raises(ConfigError, match=rf"context=24 is longer than the split {short} of 2 tokens"):
        made.examples()


def test_a_split_that_nothing_was_held_out_for_says_how_to_get_one(tmp_path: Path) -> None:
    made = protocol.make(composed("task=gpt2_small", *in_folder(tmp_path, a="one", b="two")))
    with pytest.raises(ConfigError, match=r"with \+data\.options\.holdout=0\.1: there is no text in .* raise") as error:
        made.examples()
    assert "\n" not in str(error.value)


OPTIONS = {
    "task=vit_b16 data=stdlib": r"data=stdlib holds text; task=vit_b16 learns from images with labels$",
    "task=t5_glue data=stdlib": r"data=stdlib holds text; task=t5_glue learns from texts with answers$",
    "task=gpt2_small ~data.options.context": r"data=stdlib needs data\.options\.context, which .* context, vocab_size",
    "task=gpt2_small data.options.context=abc": r"data=stdlib: data\.options\.context=abc must be a whole number$",
    "task=t5_pretrain data.options.context=abc": r"context=abc must be a whole number$",
    "task=t5_pretrain data.options.context=null": r"context=None must be a whole number$",
    "task=gpt2_small data.options.eval_documents=1.5": r"eval_documents=1.5 must be a whole number or null$",
    "task=gpt2_small +data.options.word_level=2": r"word_level=2 must be true or false$",
    "task=gpt2_small data=text +data.options.holdout=x": r"holdout=x must be a number or null$",
    "task=gpt2_small +data.options.contxt=8": r"data\.options\.contxt is unknown; known: context, vocab_size",
    "task=gpt2_small data.path=/mine": r"data=stdlib takes no data\.path; data=text reads texts of your own",
    "task=vit_b16 +data.options.foo=1": r"data=mnist5k: data\.options\.foo is unknown; known: size$",
    "task=gpt2_small data=text": r"data=text needs data\.path=, a file or folder, or data\.hub=",
}


@pytest.mark.parametrize("overrides", OPTIONS)
def test_options_that_the_data_do_not_take_are_refused(overrides: str) -> None:
    with pytest.raises(ConfigError, match=OPTIONS[overrides]) as error:
        protocol.make(composed(*overrides.split())).examples()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("overrides", ["+data.options.holdout=0", "+data.options.holdout=1"])
def test_numbers_may_be_whole_where_they_need_not(tmp_path: Path, overrides: str) -> None:
    made = protocol.make(composed("task=gpt2_small", *in_folder(tmp_path, a="a"), overrides))
    with pytest.raises(
        ConfigError, match=r"\+data\.options\.holdout=[01] must lie between 0 and 1: .* has no val split"
    ):
        made.examples()

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import stdlib, text
from recipes.data.text import PADDING, Tokens, TokenWindows
from recipes.errors import ConfigError

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def stream(length):
    return Tokens(np.arange(length, dtype=np.uint16), 1, 2 * length, "print", 70_000, 0)


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """40 small documents, by split."""
    for name, numbers in (("train", range(36)), ("val", range(36, 38)), ("test", range(38, 40))):
        lines = [json.dumps({"text": f"{WORDS[n % 8]} {WORDS[n // 8]} {n} " * 9}) + "\n" for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    return tmp_path


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 1))
@settings(deadline=None)
def test_every_token_is_in_one_window_and_padding_is_marked(length, context, overlap):
    windows = TokenWindows(stream(length), context, overlap)
    seen = [windows.__getitems__([(0, index)])["tokens"][0] for index in range(len(windows))]
    targets = [token for window in seen for token in window[overlap:].tolist() if token != PADDING]
    assert targets == list(range(overlap, length))
    assert all(len(window) == context + overlap for window in seen)
    whole = TokenWindows(stream(length), context, overlap, partial=False)
    assert all((whole.__getitems__([(0, index)])["tokens"] != PADDING).all() for index in range(len(whole)))


def test_words_are_shared_out_over_all_windows():
    windows = TokenWindows(stream(23), 5, 1, word_level=True)
    words = windows.__getitems__([(0, index) for index in range(len(windows))])["words"]
    assert words.sum().item() == pytest.approx(46)


def test_a_folder_of_rows_is_tokenised_once(folder, monkeypatch):
    splits = text.load(context=8, path=str(folder), vocab_size=300)
    tokens = splits["train"].tokens
    assert tokens.documents == 36
    assert (np.asarray(tokens.ids) == tokens.end).sum() == 36
    words = sum(len(json.loads(line)["text"].split()) for line in (folder / "train.jsonl").read_text().splitlines())
    assert tokens.words == words
    monkeypatch.setattr(text, "_write", None)  # a second time nothing may be tokenised
    again = text.load(context=8, path=str(folder), vocab_size=300)
    assert again["train"].fingerprint() == splits["train"].fingerprint()
    assert torch.equal(again["val"].__getitems__([(0, 0)])["tokens"], splits["val"].__getitems__([(0, 0)])["tokens"])
    assert isinstance(again["train"].tokens.ids, np.memmap)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda folder: (folder / "train.jsonl").write_bytes(b"\xff\xfe{"), "train.jsonl"),
        (lambda folder: (folder / "train.jsonl").write_text('{"body": "x"}\n'), "text"),
        (lambda folder: (folder / "train.jsonl").write_text(""), "train"),
    ],
    ids=["not UTF-8", "no column", "empty"],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(folder, spoil, line):
    spoil(folder)
    with pytest.raises(ConfigError, match=line) as error:
        text.load(context=8, path=str(folder), vocab_size=300)
    assert "\n" not in str(error.value)


def test_what_is_missing_or_too_long(folder):
    with pytest.raises(ConfigError, match="does not exist"):
        text.load(context=8, path=str(folder / "nowhere"))
    with pytest.raises(ConfigError, match=r"needs data\.path=.* or data\.hub="):
        text.load(context=8)
    with pytest.raises(ConfigError, match="longer than the training split"):
        text.load(context=10**6, path=str(folder), vocab_size=300)
    with pytest.raises(ConfigError, match="at least 1 token"):
        text.load(context=0, path=str(folder), vocab_size=300)


def test_the_standard_library_splits_by_file_and_trains_its_tokenizer_on_training_files():
    splits, skipped = stdlib.sources(120)
    paths = {name: {source.path for source in files} for name, files in splits.items()}
    assert sum(map(len, paths.values())) + skipped == 120
    assert not paths["train"] & paths["val"] | paths["train"] & paths["test"] | paths["val"] & paths["test"]
    assert all(stdlib.split_of(path) == name for name, of_split in paths.items() for path in of_split)
    assert len(paths["train"]) > 90
    maker = stdlib.tokenizer(400, (), 120)
    assert maker.get_vocab_size() == 400
    source = splits["val"][0].content
    assert maker.decode(maker.encode(source).ids) == source  # byte-level: nothing is lost

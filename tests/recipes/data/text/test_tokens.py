import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from recipes.data import cache
from recipes.data.text import tokens as text
from recipes.data.text.tokens import PADDING, Tokens, TokenWindows
from recipes.errors import ConfigError
from tests.recipes.data.text.test_token_cache import by_character

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def stream(length):
    return Tokens(np.arange(length, dtype=np.uint16), 1, 2 * length, "print", 70_000, 0)


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


def test_a_folder_of_rows_is_tokenised_once(folder):
    splits = text.load(context=8, path=str(folder), vocab_size=300)
    tokens = splits["train"].tokens
    assert tokens.documents == 36
    assert (np.asarray(tokens.ids) == tokens.end).sum() == 36
    words = sum(len(json.loads(line)["text"].split()) for line in (folder / "train.jsonl").read_text().splitlines())
    assert tokens.words == words
    written = {file: file.stat().st_mtime_ns for file in cache.folder("tokens").rglob("ids.bin")}
    again = text.load(context=8, path=str(folder), vocab_size=300)
    assert {file: file.stat().st_mtime_ns for file in cache.folder("tokens").rglob("ids.bin")} == written
    assert again["train"].fingerprint() == splits["train"].fingerprint()
    assert torch.equal(again["val"].__getitems__([(0, 0)])["tokens"], splits["val"].__getitems__([(0, 0)])["tokens"])
    assert isinstance(again["train"].tokens.ids, np.memmap)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda folder: (folder / "train.jsonl").write_bytes(b"\xff{"), r"train.jsonl is not UTF-8 \(line 1\)"),
        (
            lambda folder: (folder / "train.jsonl").write_text('{"body": "x"}\n'),
            "line 1: no JSON object with a column t",
        ),
        (lambda folder: (folder / "train.jsonl").write_text(""), "there is no text in the split train"),
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


def test_a_split_of_one_token_has_nothing_to_predict(folder):
    maker = folder / "tokenizer.json"
    by_character().save(str(maker))
    (folder / "val.jsonl").write_text('{"text": "a"}\n')
    assert len(text.load(context=2, path=str(folder), tokenizer=str(maker))["val"]) == 1
    made = by_character()
    made.normalizer = normalizers.Strip()
    made.save(str(maker))
    (folder / "val.jsonl").write_text('{"text": " "}\n')
    with pytest.raises(ConfigError, match="the split val has one token, and nothing to predict"):
        text.load(context=2, path=str(folder), tokenizer=str(maker))


@pytest.mark.parametrize("option", ["tokenizer_documents", "eval_documents"])
def test_no_documents_at_all_are_refused(folder, option):
    with pytest.raises(ConfigError, match=rf"data\.options\.{option}=-1 must be at least 1"):
        text.load(context=8, path=str(folder), vocab_size=300, **{option: -1})

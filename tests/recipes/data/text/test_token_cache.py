"""Tokenising into the cache: once, interrupted, killed, on a full disk, in pieces."""

import errno
import json
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from recipes.data import cache
from recipes.data.text import bpe, token_cache
from recipes.data.text.documents import Documents
from recipes.data.text.tokens import Tokens
from recipes.errors import ConfigError

TEXTS = ["ab", "", "b", "aa", "bab", "a", "bb", "ba"]
STREAM = [0, 1, 2, 0, 2, 0, 1, 1, 0, 2, 1, 2, 0, 1, 0, 2, 2, 0, 2, 1]


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))


def by_character() -> Tokenizer:
    """A tokenizer whose tokens can be told by hand: end of text is 0, `a` is 1, `b` is 2."""
    made = Tokenizer(models.WordLevel({bpe.END: 0, "a": 1, "b": 2}, bpe.END))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return made


class RecordingTokenizer:
    """A tokenizer that records the texts that it tokenises, and is interrupted at one of them.

    Args:
        interrupt_at: the number of texts after which the next one is interrupted.
    """

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.tokenizer, self.interrupt_at = by_character(), interrupt_at
        self.texts: list[str] = []

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def encode_batch_fast(self, texts, **options):
        for document in texts:
            if len(self.texts) == self.interrupt_at:
                raise KeyboardInterrupt
            self.texts.append(document)
            yield self.tokenizer.encode_batch_fast([document], **options)[0]


def tokens_of(texts, tokenizer=None, **limits) -> Tokens:
    split = Documents("print", texts, "the texts")
    return token_cache.tokenised({"train": split}, tokenizer or by_character(), **limits)["train"]


@pytest.fixture
def small_batches(monkeypatch):
    """Every document is a batch of its own."""
    monkeypatch.setattr(token_cache, "BATCH_CHARACTERS", 1)


@pytest.mark.parametrize(("most", "length"), [(None, 20), (9, 12), (12, 12)])
@pytest.mark.parametrize("breaks_at", [0, 1, 2, 4, 7])
def test_a_source_that_breaks_loses_nothing(small_batches, monkeypatch, breaks_at, most, length):
    documents = [each for each in TEXTS if each][: STREAM[:length].count(0)]
    tokenizer = RecordingTokenizer()

    def broken():
        yield from TEXTS[:breaks_at]
        raise ConfigError("the other side went away")

    if most is None or breaks_at < 7:
        with pytest.raises(ConfigError, match="the other side went away"):
            tokens_of(broken, tokenizer, train_tokens=most)
    tokens = tokens_of(lambda: TEXTS, tokenizer, train_tokens=most)
    assert tokens.ids.tolist() == STREAM[:length]
    assert (tokens.documents, tokens.words) == (len(documents), len(documents))
    assert tokenizer.texts == documents  # each of them once
    monkeypatch.setenv(cache.VARIABLE, str(cache.folder("elsewhere")))
    assert tokens_of(lambda: TEXTS, train_tokens=most).fingerprint == tokens.fingerprint


@pytest.mark.parametrize("spoil", [b"", b"torn", None], ids=["as it was", "written further", "damaged"])
def test_a_killed_process_loses_what_it_had_not_saved(tmp_path, small_batches, monkeypatch, spoil):
    monkeypatch.setattr(token_cache, "SAVE_INTERVAL", 4)

    def killed():
        yield from TEXTS[:6]
        (hidden,) = cache.folder("tokens").glob(".*.tmp")  # as a killed process leaves it
        shutil.copytree(hidden, tmp_path / "left" / hidden.name)
        yield from TEXTS[6:]

    whole = tokens_of(killed).ids.tolist()
    assert whole == STREAM
    shutil.rmtree(cache.folder("tokens"))
    shutil.copytree(tmp_path / "left", cache.folder("tokens"), dirs_exist_ok=True)
    (ids,) = cache.folder("tokens").glob(".*.tmp/ids.bin")
    saved = json.loads((ids.parent / "about.json").read_text())["documents"]
    assert saved >= 3
    ids.write_bytes(b"\1" * ids.stat().st_size if spoil is None else ids.read_bytes() + spoil)
    tokenizer = RecordingTokenizer()
    assert tokens_of(lambda: TEXTS, tokenizer).ids.tolist() == STREAM
    assert tokenizer.texts == [each for each in TEXTS if each][0 if spoil is None else saved :]
    assert [path.name for path in cache.folder("tokens").glob(".*.tmp")] == []


def test_what_was_complete_when_the_process_was_killed_is_taken_as_it_is(small_batches):
    tokens = tokens_of(lambda: TEXTS, train_tokens=9)
    (folder,) = cache.folder("tokens").glob("[!.]*")
    folder.rename(folder.with_name(f".{folder.name}.tmp"))
    tokenizer = RecordingTokenizer()
    assert tokens_of(lambda: TEXTS, tokenizer, train_tokens=9).ids.tolist() == tokens.ids.tolist()
    assert tokenizer.texts == []


def test_a_full_disk_is_told_from_a_broken_source(monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ConfigError, match=r"tokens could not be written to .*No space left on device.*LION_BENCH_CACHE="
    ):
        tokens_of(lambda: TEXTS)


@pytest.mark.parametrize("at", range(7))
def test_an_interrupt_inside_a_batch_leaves_what_was_complete(monkeypatch, at):
    monkeypatch.setattr(token_cache, "BATCH_CHARACTERS", 3)
    with pytest.raises(KeyboardInterrupt):
        tokens_of(lambda: TEXTS, RecordingTokenizer(interrupt_at=at))
    tokenizer = RecordingTokenizer()
    tokens = tokens_of(lambda: TEXTS, tokenizer)
    assert (tokens.ids.tolist(), tokens.documents) == (STREAM, 7)
    assert len(tokenizer.texts) <= 7 - at + 2  # the batch that was cut, of up to three documents, and those behind it


@given(st.lists(st.tuples(st.text("abc'1.", min_size=1, max_size=6), st.sampled_from([" ", "\n"])), max_size=40))
@settings(deadline=None)
def test_a_long_text_in_pieces_has_the_tokens_of_the_whole(words):
    """Byte-level BPE takes a space with the word behind it, and a line end alone."""
    given = "".join(word + after for word, after in words)
    parts = list(token_cache.pieces(given, 16))
    assert "".join(parts) == given
    assert all(len(part) <= 16 for part in parts)
    maker = Tokenizer(
        models.BPE({each: number for number, each in enumerate(["a", "b", "c", "'", "1", ".", "Ġ", "Ċ"])}, [])
    )
    maker.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = [maker.pre_tokenizer.pre_tokenize_str(each) for each in (given, *parts)]
    assert [word for word, _ in split[0]] == [word for part in split[1:] for word, _ in part]


def test_a_text_without_seams_is_cut_all_the_same():
    assert list(token_cache.pieces("x" * 25, 10)) == ["x" * 10, "x" * 10, "x" * 5]


def test_a_long_document_goes_through_the_tokenizer_in_pieces(small_batches, monkeypatch):
    tokenizer = RecordingTokenizer()
    monkeypatch.setattr(token_cache, "MAX_CHARACTERS", 2)
    tokens = tokens_of(lambda: ["a", "abba", "b"], tokenizer)
    assert tokens.ids.tolist() == [0, 1, 0, 1, 2, 2, 1, 0, 2]
    assert tokenizer.texts == ["a", "ab", "ba", "b"]

"""Texts as one long array of tokens, made once and mapped into memory, and the windows that models see.

A split's documents are tokenised and written one after another, each with an end-of-text token before it, so that
the first token of a document is predicted from that one. The array lies in the cache under a hash of the texts and
the tokenizer; it appears there when it is whole. What was tokenised before a source, the disk or the process broke is
kept beside it, and the next call goes on behind that. Windows are packed: they cross the borders of documents, as
GPT-2's.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tokenizers import Tokenizer

from recipes.data import cache
from recipes.data.text import bpe, documents
from recipes.data.text.documents import Documents
from recipes.errors import ConfigError
from recipes.files import sync_folder, write_json
from recipes.training.sampler import Batch, Key

HOLDS = "text"  # which recipes learn from it

PADDING = -100  # fills the last window; what torch's cross-entropy ignores
BATCH_CHARACTERS = 1 << 22  # tokenised at a time
LONGEST = 1 << 22  # characters of a text in one piece; the tokenizer takes some 128 bytes of memory for each
SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")  # no tokenizer that splits at whitespace joins what it parts
SAVED_EVERY = 1 << 26  # tokens that a killed process may lose


@dataclass(frozen=True)
class Tokens:
    """One split of a tokenised corpus.

    Attributes:
        ids: uint16 or uint32 [N], in memory or mapped into it.
        words: what whitespace separates in the same texts.
        fingerprint: over the ids and the tokenizer.
        vocab_size: of the tokenizer.
        end: index of the end-of-text token.
        mask: index of the mask token, where the tokenizer has one.
        tokenizer: that made them.
    """

    ids: np.ndarray
    documents: int
    words: int
    fingerprint: str
    vocab_size: int
    end: int
    mask: int | None = None
    tokenizer: Tokenizer | None = field(default=None, compare=False, repr=False)


def load(
    *,
    context: int,
    path: str | None = None,
    hub: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    column: str = "text",
    holdout: float | None = None,
    tokenizer: str | None = None,
    vocab_size: int = 32_000,
    extra_tokens: Sequence[str] = (bpe.MASK,),
    tokenizer_documents: int = 100_000,
    train_tokens: int | None = None,
    eval_documents: int | None = None,
    word_level: bool = False,
) -> "dict[str, TokenWindows]":
    """The splits `train`, `val` and `test` of a local file or folder, or of a data set on the hub.

    Args:
        context: tokens a window.
        path: see `recipes.data.text.documents`.
        hub: a name on the hub.
        subset: its configuration, such as `en`.
        revision: a branch or commit of it.
        streaming: read over the network as needed, without a copy.
        column: of the text, in files of rows.
        holdout: share of the documents for `val` and `test` together, where the data do not tell them apart; None is
            1%, and of a small text more (`recipes.data.text.documents.local`).
        tokenizer: a tokenizer.json or a name on the hub; None trains a byte-level BPE on the training split.
        vocab_size: of the tokenizer that is trained.
        extra_tokens: its special tokens beside the end of text.
        tokenizer_documents: it is trained on the first so many.
        train_tokens: stop reading the training split after about so many.
        eval_documents: validate and test on no more than so many each.
        word_level: perplexity by the word instead of the token.

    Raises:
        ConfigError: the data or an option are not what they have to be.
    """
    for name, most in (("tokenizer_documents", tokenizer_documents), ("eval_documents", eval_documents)):
        if most is not None and most < 1:
            raise ConfigError(f"data.options.{name}={most} must be at least 1")
    if path is not None:
        splits = documents.local(path, column, holdout)
    elif hub is not None:
        splits = documents.hub(hub, subset, revision, column, streaming, holdout)
    else:
        raise ConfigError("data=text needs data.path=, a file or folder, or data.hub=, a name on the Hugging Face hub")
    if tokenizer is not None:
        maker = bpe.published(tokenizer)
    else:
        train = splits["train"]
        maker = bpe.trained(
            lambda: (
                piece
                for text in itertools.islice(train.texts(), tokenizer_documents)
                for piece in pieces(text, LONGEST)
            ),
            cache.key(train.fingerprint, tokenizer_documents),
            vocab_size,
            extra_tokens,
        )
    tokens = tokenised(splits, maker, train_tokens=train_tokens, eval_documents=eval_documents)
    return windows(tokens, context, word_level)


def tokenised(
    splits: Mapping[str, Documents],
    tokenizer: Tokenizer,
    *,
    train_tokens: int | None = None,
    eval_documents: int | None = None,
) -> dict[str, Tokens]:
    """The tokens of each split, from the cache after the first time.

    Args:
        splits: `train` and splits to evaluate on.
        tokenizer: must have an end-of-text token.
        train_tokens: stop reading the training split after about so many.
        eval_documents: read no more than so many of each other split.

    Raises:
        ConfigError: a split is empty or breaks while it is read, the tokenizer has no end-of-text token, or the cache
            cannot be written.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    end = bpe.special(tokenizer, bpe.ENDS)
    if end is None:
        raise ConfigError(f"the tokenizer has no end-of-text token; expected one of {', '.join(bpe.ENDS)}")
    mask, vocab_size = bpe.special(tokenizer, bpe.MASKS), tokenizer.get_vocab_size()
    made_by = cache.key(tokenizer.to_str(), end)
    root, found = cache.folder("tokens"), {}
    for name, split in splits.items():
        limits = (train_tokens, None) if name == "train" else (None, eval_documents)
        folder = root / cache.key(split.fingerprint, made_by, *limits)
        with cache.alone(folder):
            about = _whole(folder)
            if about is None:
                about = _write(folder, split, tokenizer, end, *limits)
        if about["documents"] == 0:
            raise ConfigError(
                f"{split.place}: there is no text in the split {name}: give more text, raise +data.options.holdout, or "
                "name files train, val and test"
            )
        ids = np.memmap(folder / "ids.bin", _dtype(vocab_size), "r")
        fingerprint = cache.key(made_by, about["sha256"])
        found[name] = Tokens(ids, about["documents"], about["words"], fingerprint, vocab_size, end, mask, tokenizer)
    return found


def _dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _whole(folder: Path) -> dict[str, Any] | None:
    """What the cache says about a split, where it has it whole."""
    try:
        about = json.loads((folder / "about.json").read_text())
        return about if (folder / "ids.bin").stat().st_size == about["bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def _write(
    folder: Path,
    split: Documents,
    tokenizer: Tokenizer,
    end: int,
    most_tokens: int | None,
    most_documents: int | None,
) -> dict[str, Any]:
    """Tokenise into a hidden folder of the cache, which takes its name when it is whole.

    Whatever breaks leaves the hidden folder; the next call reads over the documents that it holds and goes on.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said, so that later forks do not warn about it
    dtype = _dtype(tokenizer.get_vocab_size())
    begun = folder.with_name(f".{folder.name}.tmp")  # the lock is held: nobody else writes it
    try:
        begun.mkdir(parents=True, exist_ok=True)
        with (begun / "ids.bin").open("a+b") as file:
            done = _begun(begun / "about.json", file)

            def save() -> dict[str, Any]:
                file.flush()
                os.fsync(file.fileno())
                size = done.tokens * dtype.itemsize
                counts = {"documents": done.documents, "words": done.words, "tokens": done.tokens}
                about = {**counts, "bytes": size, "sha256": done.digest.hexdigest()}
                write_json(begun / "about.json", about)
                return about

            texts = itertools.islice((text for text in split.texts() if text), done.documents, most_documents)
            batches, saved = _batches(texts), done.tokens
            try:
                while (most_tokens is None or done.tokens < most_tokens) and (batch := next(batches, None)):
                    more = _Done(done.documents, done.words, done.tokens, done.digest.copy())
                    for ids, words in _encoded(tokenizer, batch):
                        for part in (np.array([end], dtype), ids.astype(dtype)):
                            more.digest.update(part.tobytes())
                            file.write(part.tobytes())
                        more.documents += 1
                        more.words += words
                        more.tokens += 1 + len(ids)
                        if most_tokens is not None and more.tokens >= most_tokens:
                            break
                    done = more  # at once: whatever interrupts finds the counts of whole batches
                    if done.tokens - saved >= SAVED_EVERY:
                        save()
                        saved = done.tokens
            finally:
                about = save()
        shutil.rmtree(folder, ignore_errors=True)
        begun.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ConfigError(
            f"tokens could not be written to {folder.parent} ({error.strerror}); make room, or name another folder "
            f"in the environment: {cache.VARIABLE}="
        ) from None
    return about


@dataclass
class _Done:
    """What has been tokenised, and the running hash of it."""

    documents: int
    words: int
    tokens: int
    digest: Any


def _begun(about: Path, file: BinaryIO) -> _Done:
    """What an earlier call has saved; the file is cut to that, or to nothing."""
    try:
        saved = json.loads(about.read_text())
        file.truncate(saved["bytes"])
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
        if digest.hexdigest() == saved["sha256"]:
            return _Done(saved["documents"], saved["words"], saved["tokens"], digest)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    file.truncate(0)
    return _Done(0, 0, 0, hashlib.sha256())


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, int]]:
    """The ids of each text and its words; a long text goes through the tokenizer in pieces."""
    whole = [text for text in texts if len(text) <= LONGEST]
    encodings = iter(tokenizer.encode_batch_fast(whole, add_special_tokens=False))
    for text in texts:
        if len(text) <= LONGEST:
            yield np.array(next(encodings).ids, np.uint32), len(text.split())
            continue
        ids, words = [], 0
        for piece in pieces(text, LONGEST):
            (encoding,) = tokenizer.encode_batch_fast([piece], add_special_tokens=False)
            ids.append(np.array(encoding.ids, np.uint32))
            words += len(piece.split())
        yield np.concatenate(ids), words


def pieces(text: str, most: int) -> Iterator[str]:
    """A text in parts of at most so many characters, cut between words or lines where it has any."""
    start = 0
    while len(text) - start > most:
        near = start + most - min(most - 1, 1 << 16)  # words are shorter than that
        seams = [
            found.start() for found in SEAM.finditer(text, near, start + most + 2) if found.start() <= start + most
        ]
        end = seams[-1] if seams else start + most
        yield text[start:end]
        start = end
    yield text[start:]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Documents by the few megabytes."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class TokenWindows:
    """A split cut into windows of `context` tokens, one after another: the loop's Examples.

    Attributes:
        overlap: tokens of the next window that a window ends with. A model that predicts each token from those before
            it needs one: `context` inputs and, one further on, `context` targets.
        partial: the last window counts too, filled up with `PADDING`.
        word_level: give the words that stand behind each window's tokens.
    """

    tokens: Tokens
    context: int
    overlap: int = 0
    partial: bool = True
    word_level: bool = False

    def __len__(self) -> int:
        further = len(self.tokens.ids) - self.overlap
        return max(0, -(-further // self.context) if self.partial else further // self.context)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """`tokens`, int64 [B, context + overlap].

        With `word_level` also `words`, float32 [B]: the split's words, shared out by tokens after the overlap.
        """
        first = np.array([index for _, index in keys], np.int64)[:, None] * self.context
        place = first + np.arange(self.context + self.overlap)
        length = len(self.tokens.ids)
        inside = place < length
        ids = self.tokens.ids[np.minimum(place, length - 1)].astype(np.int64)
        batch = {"tokens": torch.from_numpy(np.where(inside, ids, PADDING))}
        if self.word_level:
            share = self.tokens.words / (length - self.overlap)
            batch["words"] = torch.from_numpy(inside[:, self.overlap :].sum(1) * share).float()
        return batch

    def fingerprint(self) -> str:
        """A hash of tokens, tokenizer and shape."""
        return cache.key(self.tokens.fingerprint, self.context, self.overlap, self.partial)


def windows(tokens: Mapping[str, Tokens], context: int, word_level: bool = False) -> dict[str, TokenWindows]:
    """Windows of each split: whole ones of `train`, and of the others every token.

    Raises:
        ConfigError: the context is none or longer than the training split, or another split has nothing to predict.
    """
    if context < 1:
        raise ConfigError(f"data.options.context={context} must be at least 1 token")
    if len(tokens["train"].ids) <= context:
        raise ConfigError(
            f"data.options.context={context} is longer than the training split of {len(tokens['train'].ids)} tokens"
        )
    for name, split in tokens.items():
        if len(split.ids) < 2:
            raise ConfigError(f"the split {name} has one token, and nothing to predict: give it more text")
    return {
        name: TokenWindows(split, context, partial=name != "train", word_level=word_level and name != "train")
        for name, split in tokens.items()
    }

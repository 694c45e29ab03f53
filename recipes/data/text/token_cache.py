"""Texts as one long array of tokens, made once and mapped into memory.

A split's documents are tokenised and written one after another, each with an end-of-text token before it, so that
the first token of a document is predicted from that one. The array is cached under a hash of the texts and the
tokenizer when it is complete. After a failure of the source, the disk or the process, tokens so far are kept, and the
next call continues after them.
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
from tokenizers import Tokenizer

from recipes.data import cache
from recipes.data.text import bpe
from recipes.data.text.documents import Documents
from recipes.errors import ConfigError
from recipes.files import sync_folder, write_json

BATCH_CHARACTERS = 1 << 22  # tokenised at a time
# Longer texts are tokenised in pieces: the tokenizer takes some 128 bytes of memory a character.
MAX_CHARACTERS = 1 << 22
# Where a text may be cut: tokenizers that split at whitespace have no token across such a place.
CUT = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
SAVE_INTERVAL = 1 << 26  # tokens between saves: the most that a killed process loses


@dataclass(frozen=True)
class Tokens:
    """One split of a tokenised corpus.

    Attributes:
        ids: uint16 or uint32 [N], in memory or mapped into it.
        words: the number of words, separated by whitespace, in the same texts.
        fingerprint: over the ids and the tokenizer.
        vocab_size: of the tokenizer.
        end: index of the end-of-text token.
        mask: index of the mask token, where the tokenizer has one.
        tokenizer: that produced them.
    """

    ids: np.ndarray
    documents: int
    words: int
    fingerprint: str
    vocab_size: int
    end: int
    mask: int | None = None
    tokenizer: Tokenizer | None = field(default=None, compare=False, repr=False)


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
        eval_documents: maximum number of documents of each other split.

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
    tokenizer_key = cache.key(tokenizer.to_str(), end)
    root, tokens = cache.folder("tokens"), {}
    for name, split in splits.items():
        limits = (train_tokens, None) if name == "train" else (None, eval_documents)
        folder = root / cache.key(split.fingerprint, tokenizer_key, *limits)
        with cache.locked(folder):
            metadata = _load_complete(folder)
            if metadata is None:
                metadata = _write_tokens(folder, split, tokenizer, end, *limits)
        if metadata["documents"] == 0:
            raise ConfigError(
                f"{split.location}: there is no text in the split {name}: give more text, raise "
                "+data.options.holdout, or "
                "name files train, val and test"
            )
        ids = np.memmap(folder / "ids.bin", _dtype(vocab_size), "r")
        fingerprint = cache.key(tokenizer_key, metadata["sha256"])
        counts = metadata["documents"], metadata["words"]
        tokens[name] = Tokens(ids, *counts, fingerprint, vocab_size, end, mask, tokenizer)
    return tokens


def _dtype(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _load_complete(folder: Path) -> dict[str, Any] | None:
    """The metadata of a split whose tokens are complete in the cache, or None."""
    try:
        metadata = json.loads((folder / "about.json").read_text())
        return metadata if (folder / "ids.bin").stat().st_size == metadata["bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def _write_tokens(
    folder: Path,
    split: Documents,
    tokenizer: Tokenizer,
    end: int,
    max_tokens: int | None,
    max_documents: int | None,
) -> dict[str, Any]:
    """Tokenise into a hidden folder of the cache, which is renamed when it is complete.

    An interruption leaves the hidden folder; the next call skips the documents that it contains and continues.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # set, so that later forks do not warn
    dtype = _dtype(tokenizer.get_vocab_size())
    partial = folder.with_name(f".{folder.name}.tmp")  # the lock is held: no other process writes it
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with (partial / "ids.bin").open("a+b") as file:
            progress = _resume(partial / "about.json", file)

            def save() -> dict[str, Any]:
                file.flush()
                os.fsync(file.fileno())
                size = progress.tokens * dtype.itemsize
                counts = {"documents": progress.documents, "words": progress.words, "tokens": progress.tokens}
                metadata = {**counts, "bytes": size, "sha256": progress.digest.hexdigest()}
                write_json(partial / "about.json", metadata)
                return metadata

            texts = itertools.islice((text for text in split.texts() if text), progress.documents, max_documents)
            batches, saved = _batches(texts), progress.tokens
            try:
                while (max_tokens is None or progress.tokens < max_tokens) and (batch := next(batches, None)):
                    advanced = _Progress(progress.documents, progress.words, progress.tokens, progress.digest.copy())
                    for ids, words in _encoded(tokenizer, batch):
                        for part in (np.array([end], dtype), ids.astype(dtype)):
                            advanced.digest.update(part.tobytes())
                            file.write(part.tobytes())
                        advanced.documents += 1
                        advanced.words += words
                        advanced.tokens += 1 + len(ids)
                        if max_tokens is not None and advanced.tokens >= max_tokens:
                            break
                    progress = advanced  # a single assignment: an interruption finds the counts of complete batches
                    if progress.tokens - saved >= SAVE_INTERVAL:
                        save()
                        saved = progress.tokens
            finally:
                metadata = save()
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ConfigError(
            f"tokens could not be written to {folder.parent} ({error.strerror}); make room, or name another folder "
            f"in the environment: {cache.VARIABLE}="
        ) from None
    return metadata


@dataclass
class _Progress:
    """Counts of what has been tokenised, and the running hash of the tokens."""

    documents: int
    words: int
    tokens: int
    digest: Any


def _resume(metadata: Path, file: BinaryIO) -> _Progress:
    """The progress of an interrupted call; the file is truncated to that, or to nothing."""
    try:
        saved = json.loads(metadata.read_text())
        file.truncate(saved["bytes"])
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
        if digest.hexdigest() == saved["sha256"]:
            return _Progress(saved["documents"], saved["words"], saved["tokens"], digest)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    file.truncate(0)
    return _Progress(0, 0, 0, hashlib.sha256())


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, int]]:
    """The ids of each text and its words; a long text goes through the tokenizer in pieces."""
    short = [text for text in texts if len(text) <= MAX_CHARACTERS]
    encodings = iter(tokenizer.encode_batch_fast(short, add_special_tokens=False))
    for text in texts:
        if len(text) <= MAX_CHARACTERS:
            yield np.array(next(encodings).ids, np.uint32), len(text.split())
            continue
        ids, words = [], 0
        for piece in pieces(text, MAX_CHARACTERS):
            (encoding,) = tokenizer.encode_batch_fast([piece], add_special_tokens=False)
            ids.append(np.array(encoding.ids, np.uint32))
            words += len(piece.split())
        yield np.concatenate(ids), words


def pieces(text: str, max_characters: int) -> Iterator[str]:
    """A text in pieces of at most `max_characters`, cut between words or lines where that is possible."""
    start = 0
    while len(text) - start > max_characters:
        near = start + max_characters - min(max_characters - 1, 1 << 16)  # words are shorter than that
        limit = start + max_characters
        cuts = [match.start() for match in CUT.finditer(text, near, limit + 2) if match.start() <= limit]
        end = cuts[-1] if cuts else limit
        yield text[start:end]
        start = end
    yield text[start:]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Documents in batches of about `BATCH_CHARACTERS`."""
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

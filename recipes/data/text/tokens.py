"""Texts as windows of tokens: a local file or folder, or a data set on the Hugging Face hub.

Windows are packed: they cross the boundaries of documents, as in GPT-2's training.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recipes.data import cache
from recipes.data.text import bpe, documents
from recipes.data.text.token_cache import MAX_CHARACTERS, Tokens, pieces, tokenised
from recipes.errors import ConfigError
from recipes.training.sampler import Batch, Key

HOLDS = "text"  # matched with `learns_from` of recipes
PADDING = -100  # fills the last window; what torch's cross-entropy ignores


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
        extra_tokens: its special tokens other than the end of text.
        tokenizer_documents: it is trained on the first so many.
        train_tokens: stop reading the training split after about so many.
        eval_documents: maximum number of documents of val and of test.
        word_level: perplexity by the word instead of the token.

    Raises:
        ConfigError: the data or an option are invalid.
    """
    for name, limit in (("tokenizer_documents", tokenizer_documents), ("eval_documents", eval_documents)):
        if limit is not None and limit < 1:
            raise ConfigError(f"data.options.{name}={limit} must be at least 1")
    if path is not None:
        splits = documents.local(path, column, holdout)
    elif hub is not None:
        splits = documents.hub(hub, subset, revision, column, streaming, holdout)
    else:
        raise ConfigError("data=text needs data.path=, a file or folder, or data.hub=, a name on the Hugging Face hub")
    if tokenizer is not None:
        text_tokenizer = bpe.published(tokenizer)
    else:
        train = splits["train"]
        text_tokenizer = bpe.trained(
            lambda: (
                piece
                for text in itertools.islice(train.texts(), tokenizer_documents)
                for piece in pieces(text, MAX_CHARACTERS)
            ),
            cache.key(train.fingerprint, tokenizer_documents),
            vocab_size,
            extra_tokens,
        )
    tokens = tokenised(splits, text_tokenizer, train_tokens=train_tokens, eval_documents=eval_documents)
    return windows(tokens, context, word_level)


@dataclass(frozen=True)
class TokenWindows:
    """A split cut into windows of `context` tokens, one after another: the loop's Examples.

    Attributes:
        overlap: tokens of the next window that a window ends with. A model that predicts each token from those before
            it needs one: `context` inputs and, one further on, `context` targets.
        partial: the last window counts too, filled up with `PADDING`.
        word_level: batches also have the number of words of each window.
    """

    tokens: Tokens
    context: int
    overlap: int = 0
    partial: bool = True
    word_level: bool = False

    def __len__(self) -> int:
        length = len(self.tokens.ids) - self.overlap
        return max(0, -(-length // self.context) if self.partial else length // self.context)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """`tokens`, int64 [B, context + overlap].

        With `word_level` also `words`, float32 [B]: the split's words, shared out by tokens after the overlap.
        """
        first = np.array([index for _, index in keys], np.int64)[:, None] * self.context
        position = first + np.arange(self.context + self.overlap)
        length = len(self.tokens.ids)
        inside = position < length
        ids = self.tokens.ids[np.minimum(position, length - 1)].astype(np.int64)
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
        ConfigError: the context is below 1 or longer than the training split, or another split has nothing to predict.
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

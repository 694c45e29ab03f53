"""Texts and their answers as tokens, padded batch by batch: what an encoder-decoder is fine-tuned on."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from recipes.data import bpe, cache
from recipes.data.text_tasks import TaskExamples, TextTask
from recipes.errors import ConfigError
from recipes.loading import Batch, Key

PADS = ("<pad>", "[PAD]")


class TextPairs:
    """One split of one or more tasks, one task after another: the loop's Examples.

    Args:
        parts: the tasks' examples.
        length: tokens that an input is cut to, its end included.

    Attributes:
        tasks: in the order of the numbers that batches name them by.
        answers: the label words of each task as tokens, each closed by `end`.

    Raises:
        ConfigError: the tokenizer has no padding or end token.
    """

    def __init__(self, parts: Sequence[TaskExamples], tokenizer: Tokenizer, length: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        pad, end = bpe.special(tokenizer, PADS), bpe.special(tokenizer, bpe.ENDS)
        if pad is None or end is None:
            raise ConfigError(f"the tokenizer needs a padding token ({', '.join(PADS)}) and an end ({bpe.ENDS})")
        self.pad, self.end, self.vocab_size = pad, end, tokenizer.get_vocab_size()
        self.tasks: tuple[TextTask, ...] = tuple(part.task for part in parts)

        def encoded(texts: Sequence[str]) -> list[np.ndarray]:
            found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array([*encoding.ids[: length - 1], end], np.int64) for encoding in found]

        self.answers = [encoded(part.task.words) for part in parts]
        self.inputs = [tokens for part in parts for tokens in encoded(part.texts)]
        self.task = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.word = np.concatenate([part.words() for part in parts])
        self.label = np.concatenate([part.labels for part in parts])
        self._fingerprint = cache.key(tokenizer.to_str(), length, [part.fingerprint() for part in parts])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """`input` and `target`, int64 [B, the longest of them]; `task`, int64 [B]; `label`, float32 [B]."""
        rows = np.array([index for _, index in keys])
        targets = [self.answers[self.task[row]][self.word[row]] for row in rows]
        return {
            "input": self._padded([self.inputs[row] for row in rows]),
            "target": self._padded(targets),
            "task": torch.from_numpy(self.task[rows]),
            "label": torch.from_numpy(self.label[rows]).float(),
        }

    def _padded(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        table = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        return torch.from_numpy(table)

    def fingerprint(self) -> str:
        """A hash of texts, labels and tokenizer."""
        return self._fingerprint


def paired(splits: Mapping[str, Sequence[TaskExamples]], tokenizer: Tokenizer, length: int) -> dict[str, TextPairs]:
    """Every split as tokens; those to evaluate on with inputs in rising length, so that little is padding."""
    found = {}
    for name, parts in splits.items():
        if name != "train":
            parts = [part.taken(np.argsort([len(text) for text in part.texts], kind="stable")) for part in parts]
        found[name] = TextPairs(parts, tokenizer, length)
    return found

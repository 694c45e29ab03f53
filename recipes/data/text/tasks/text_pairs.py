"""Texts and their answers as tokens, padded batch by batch: what an encoder-decoder is fine-tuned on."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from recipes.data import cache
from recipes.data.text import bpe
from recipes.data.text.tasks.text_tasks import TaskExamples, TextTask
from recipes.errors import ConfigError
from recipes.training.sampler import Batch, Key

PADS = ("<pad>", "[PAD]")
SHORTEST = 8  # tokens of an input, end included: fewer hold little more than the name of the task


class TextPairs:
    """One split of one or more tasks, one task after another: the loop's Examples.

    Args:
        parts: the tasks' examples.
        length: maximum number of tokens of an input, end included.

    Attributes:
        tokenizer: that produced the tokens.
        tasks: batches refer to them by their index here.
        answers: the label words of each task as tokens, never cut, each closed by `end`.

    Raises:
        ConfigError: the tokenizer has no padding or end token or does not tell a task's words apart, or inputs would
            be cut to less than `SHORTEST`.
    """

    def __init__(self, parts: Sequence[TaskExamples], tokenizer: Tokenizer, length: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        pad, end = bpe.special(tokenizer, PADS), bpe.special(tokenizer, bpe.ENDS)
        if pad is None or end is None:
            raise ConfigError(f"the tokenizer needs a padding token ({', '.join(PADS)}) and an end ({bpe.ENDS})")
        if length < SHORTEST:
            raise ConfigError(f"data.options.length={length} must be at least {SHORTEST} tokens")
        self.pad, self.end, self.vocab_size = pad, end, tokenizer.get_vocab_size()
        self.tokenizer = tokenizer
        self.tasks: tuple[TextTask, ...] = tuple(part.task for part in parts)

        def encoded(texts: Sequence[str], max_tokens: int | None) -> list[np.ndarray]:
            encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array([*encoding.ids[:max_tokens], end], np.int64) for encoding in encodings]

        self.answers = [encoded(task.words, None) for task in self.tasks]
        for task, answers in zip(self.tasks, self.answers, strict=True):
            _refuse_equal(task, answers, tokenizer)
        self.inputs = [tokens for part in parts for tokens in encoded(part.texts, length - 1)]
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


def _refuse_equal(task: TextTask, answers: Sequence[np.ndarray], tokenizer: Tokenizer) -> None:
    word_of_tokens: dict[tuple[int, ...], str] = {}
    for word, answer in zip(task.words, answers, strict=True):
        tokens = tuple(answer.tolist())
        if (other := word_of_tokens.setdefault(tokens, word)) != word:
            names = " ".join(str(tokenizer.id_to_token(token)) for token in tokens)
            raise ConfigError(
                f"the tokenizer makes the same tokens ({names}) of {task.name}'s answers {other} and {word}; choose "
                "one that knows these words, such as the one that the model was pre-trained with"
            )


def token_pairs(
    splits: Mapping[str, Sequence[TaskExamples]], tokenizer: Tokenizer, length: int
) -> dict[str, TextPairs]:
    """Every split as tokens; evaluation splits sorted by input length, so that little is padding."""
    pairs_of_split = {}
    for name, parts in splits.items():
        if name != "train":
            parts = [part.subset(np.argsort([len(text) for text in part.texts], kind="stable")) for part in parts]
        pairs_of_split[name] = TextPairs(parts, tokenizer, length)
    return pairs_of_split

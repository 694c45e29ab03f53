"""Span corruption, T5's pre-training objective (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4).

    window   a b c d e f g h i
    input    a b <0> e f g <1> </s>      every noise span has become one sentinel
    target   <0> c d <1> h i </s>        the spans themselves, each after its sentinel

Number and total length of the spans are fixed by the window's length, as in T5: all inputs are of one length, all
targets too, and nothing is padded. Windows begin with kept tokens and end with a span.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recipes.data import cache
from recipes.training.sampler import Batch, Key

NOISE = 0.15  # share of the tokens
MEAN_SPAN = 3  # tokens
PAD = "<pad>"
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(32))  # T5's names


def spans_in(length: int) -> tuple[int, int]:
    """The number of noise tokens of a window and of their spans, both at least 1.

    Raises:
        ValueError: a window of fewer than two tokens.
    """
    if length < 2:
        raise ValueError(f"a window of {length} tokens is too short for a span and another token")
    noise = min(max(round(length * NOISE), 1), length - 1)
    return noise, min(max(round(noise / MEAN_SPAN), 1), length - noise)


def lengths(window: int) -> tuple[int, int]:
    """The lengths of input and target of a window, end tokens included."""
    noise, spans = spans_in(window)
    return window - noise + spans + 1, noise + spans + 1


def corrupt(
    windows: np.ndarray, sentinels: np.ndarray, end: int, rngs: Iterable[np.random.Generator]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of windows of tokens.

    Args:
        windows: int64 [B, L].
        sentinels: int64, at least as many as there are spans, in the order of their use.
        end: the token that closes input and target.
        rngs: one for each window, to draw its spans; not used if a single span fills the window's end.

    Returns:
        int64 [B, the two `lengths`].
    """
    noise, spans = spans_in(windows.shape[1])
    pieces = np.empty((len(windows), 2 * spans), np.int64)  # alternately kept and hidden
    if spans == 1:
        pieces[:] = windows.shape[1] - noise, noise
    else:
        for row, rng in zip(pieces, rngs, strict=True):
            row[0::2] = segments(windows.shape[1] - noise, spans, rng)
            row[1::2] = segments(noise, spans, rng)
    piece = (np.arange(windows.shape[1])[:, None] >= pieces.cumsum(1)[:, None, :-1]).sum(2)
    lost, sentinel = piece % 2 == 1, sentinels[piece // 2]
    first = lost & np.diff(piece, axis=1, prepend=0).astype(bool)
    source = np.where(first, sentinel, windows)[~lost | first].reshape(len(windows), -1)
    target = np.stack([sentinel, windows], axis=2)[np.stack([first, lost], axis=2)].reshape(len(windows), -1)
    ends = np.full((len(windows), 1), end)
    return np.concatenate([source, ends], axis=1), np.concatenate([target, ends], axis=1)


def segments(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Random positive whole numbers with this sum, uniform over all possibilities."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


@dataclass(frozen=True)
class SpanWindows:
    """One split of a tokenised corpus, cut into windows that are corrupted on access: the loop's Examples.

    Attributes:
        ids: the corpus, unsigned integers [N]; what does not fill a window at its end is left out.
        context: tokens a window.
        sentinels: int64, see `corrupt`.
        end: the token that closes input and target.
        corpus: fingerprint of ids and tokenizer.
        seed: training draws new spans at each position of a run; with None the spans only depend on the window.
    """

    ids: np.ndarray
    context: int
    sentinels: np.ndarray
    end: int
    corpus: str
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.ids) // self.context

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """`input` and `target`, int64 [B, the two `lengths`]."""
        first = np.array([index for _, index in keys], np.int64)[:, None] * self.context
        windows = self.ids[first + np.arange(self.context)].astype(np.int64)
        roots = [[index] if self.seed is None else [self.seed, position] for position, index in keys]
        rngs = (np.random.default_rng(root) for root in roots)
        source, target = corrupt(windows, self.sentinels, self.end, rngs)
        return {"input": torch.from_numpy(source), "target": torch.from_numpy(target)}

    def fingerprint(self) -> str:
        """A hash of the corpus and of how it is corrupted."""
        return cache.key(self.corpus, self.context, self.sentinels.tolist(), NOISE, MEAN_SPAN)

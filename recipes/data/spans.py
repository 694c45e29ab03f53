"""Span corruption, T5's pre-training objective (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4).

    window   a b c d e f g h i
    input    a b <0> e f g <1> </s>      every noise span has become one sentinel
    target   <0> c d <1> h i </s>        the spans themselves, each after its sentinel

Number and total length of the spans are fixed by the window's length, as in T5: all inputs are of one length, all
targets too, and nothing is padded. Windows begin with kept tokens and end with a span.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recipes.data import cache
from recipes.loading import Batch, Key

NOISE = 0.15  # share of the tokens
MEAN_SPAN = 3  # tokens
PAD = "<pad>"
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(32))  # T5's names


def spans_in(length: int) -> tuple[int, int]:
    """How many tokens of a window are noise, and how many spans they make; both at least 1, or the window is too short.

    Raises:
        ValueError: a window of fewer than two tokens.
    """
    if length < 2:
        raise ValueError(f"a window of {length} tokens holds no span and something beside it")
    noise = min(max(round(length * NOISE), 1), length - 1)
    return noise, min(max(round(noise / MEAN_SPAN), 1), length - noise)


def lengths(window: int) -> tuple[int, int]:
    """Tokens of the input and of the target that a window becomes, each with its end."""
    noise, spans = spans_in(window)
    return window - noise + spans + 1, noise + spans + 1


def corrupt(
    window: np.ndarray, sentinels: np.ndarray, end: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of a window of tokens.

    Args:
        window: int64 [L].
        sentinels: int64, at least as many as there are spans, in the order of their use.
        end: the token that closes input and target.
        rng: draws where the spans lie.

    Returns:
        int64 arrays of the two `lengths`.
    """
    noise, spans = spans_in(len(window))
    kept, lost = segments(len(window) - noise, spans, rng), segments(noise, spans, rng)
    pieces = np.split(window, np.stack([kept, lost], axis=1).ravel().cumsum()[:-1])
    source, target = [], []
    for sentinel, before, span in zip(sentinels[:spans, None], pieces[0::2], pieces[1::2], strict=True):
        source += [before, sentinel]
        target += [sentinel, span]
    return np.concatenate([*source, [end]]), np.concatenate([*target, [end]])


def segments(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """So many positive whole numbers with this sum, every way to choose them as likely as every other."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


@dataclass(frozen=True)
class SpanWindows:
    """One split of a tokenised corpus, cut into windows and corrupted as they are asked for: the loop's Examples.

    Attributes:
        ids: the corpus, unsigned integers [N]; what does not fill a window at its end is left out.
        context: tokens a window.
        sentinels: int64, see `corrupt`.
        end: the token that closes input and target.
        corpus: fingerprint of ids and tokenizer.
        seed: training draws anew at each position of a run; None draws by the window alone, the same at every look.
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
        pairs = [self._pair(position, index) for position, index in keys]
        return {
            "input": torch.from_numpy(np.stack([source for source, _ in pairs])),
            "target": torch.from_numpy(np.stack([target for _, target in pairs])),
        }

    def _pair(self, position: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        window = self.ids[index * self.context : (index + 1) * self.context].astype(np.int64)
        key = [index] if self.seed is None else [self.seed, position]
        return corrupt(window, self.sentinels, self.end, np.random.default_rng(key))

    def fingerprint(self) -> str:
        """A hash of the corpus and of how it is corrupted."""
        return cache.key(self.corpus, self.context, self.sentinels.tolist(), NOISE, MEAN_SPAN)

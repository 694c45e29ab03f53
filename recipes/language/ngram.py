"""Unigram and bigram models of a token stream: the baseline that a language model has to beat.

Both add k to every count: p(b | a) = (count(a b) + k) / (count(a) + k V). The k is chosen on the last twentieth of
the training stream, and the counts are then of the whole of it. No validation or test token is seen.
"""

from collections.abc import Iterator

import numpy as np

K_GRID = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
HELD_OUT = 20  # 1/20 of the stream is used to choose k
SHORTEST = 2 * HELD_OUT  # tokens of a stream that leave a pair to choose k on
LARGEST = 4096  # tokens; a table of their pairs takes 64 MiB

BLOCK = 1 << 24  # tokens counted at a time

Array = np.ndarray


def unigram(ids: Array, vocab_size: int, k: float = 1.0) -> Array:
    """Natural log of p(b), float32 [V], from the stream `ids` [N] of token indices."""
    counts = sum(np.bincount(block, minlength=vocab_size) for block in _blocks(ids, 0))
    return _log_shares(np.asarray(counts), k)


def bigram(ids: Array, vocab_size: int, k: float | None = None) -> Array:
    """Natural log of p(b | a), float32 [V, V], rows a, from the stream `ids` [N].

    Args:
        ids: token indices below `vocab_size`.
        vocab_size: V.
        k: added to every count; None chooses from `K_GRID`.

    Raises:
        ValueError: the table would be too large, or the stream is too short to hold some of it out.
    """
    if vocab_size > LARGEST:
        raise ValueError(f"a table of all pairs of {vocab_size} tokens is too large; at most {LARGEST}")
    if k is None:
        k = _best_k(ids, vocab_size)
    return _log_shares(_pairs(ids, vocab_size), k)


def perplexity(log_shares: Array, ids: Array) -> float:
    """Perplexity of a stream: the exponential of the mean negative log probability of its tokens but the first."""
    ids = ids.astype(np.int64)
    logs = log_shares[ids[1:]] if log_shares.ndim == 1 else log_shares[ids[:-1], ids[1:]]
    return float(np.exp(-logs.mean(dtype=np.float64)))


def _best_k(ids: Array, vocab_size: int) -> float:
    cut = len(ids) - len(ids) // HELD_OUT
    if len(ids) < SHORTEST:
        raise ValueError(f"a stream of {len(ids)} tokens is too short to choose k on a part of it")
    counts, held_out = _pairs(ids[:cut], vocab_size), ids[cut:].astype(np.int64)
    context_counts, pair_counts = counts.sum(1)[held_out[:-1]], counts[held_out[:-1], held_out[1:]]
    return min(K_GRID, key=lambda k: -np.log((pair_counts + k) / (context_counts + k * vocab_size)).mean())


def _pairs(ids: Array, vocab_size: int) -> Array:
    """Counts of pairs of consecutive tokens, int64 [V, V], rows the first token."""
    counts = np.zeros(vocab_size**2, np.int64)
    for block in _blocks(ids, 1):
        counts += np.bincount(block[:-1].astype(np.int64) * vocab_size + block[1:], minlength=vocab_size**2)
    return counts.reshape(vocab_size, vocab_size)


def _blocks(ids: Array, overlap: int) -> Iterator[Array]:
    """The blocks of a stream that may exceed memory, each with the first `overlap` tokens of the next one appended."""
    return (ids[start : start + BLOCK + overlap] for start in range(0, max(len(ids) - overlap, 1), BLOCK))


def _log_shares(counts: Array, k: float) -> Array:
    total = counts.sum(-1, keepdims=True) + k * counts.shape[-1]
    return (np.log(counts + k) - np.log(total)).astype(np.float32)

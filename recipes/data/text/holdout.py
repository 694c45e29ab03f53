"""Validation and test texts that are held out of training: by a hash of each text, or the end of a small text."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator

from recipes.data import listing

# Default share held out for val and test together: 1% of a large text, more of a small one.
SHARE, MAX_SHARE = 0.01, 0.1
MIN_BYTES = 400_000  # bytes wanted for both
SMALL_TEXT = int(MIN_BYTES / SHARE)  # bytes: a smaller text is read whole before it is split
FEW_DOCUMENTS = 20  # fewer documents are each cut, instead of being assigned whole


def holdout_share(holdout: float | None, size: int | None) -> float:
    """The share to hold out: the user's, or by the size in bytes."""
    if holdout is not None:
        return holdout
    return SHARE if size is None else max(SHARE, min(MAX_SHARE, MIN_BYTES / max(size, 1)))


def select_part(texts: Callable[[], Iterable[str]], parts: int, holdout: float, part: int) -> Iterator[str]:
    """The documents that are not held out (part 0), or those of one of the held-out parts (from 1)."""
    return (text for text in texts() if _part_of(text, parts, holdout) == part)


def _part_of(text: str, parts: int, holdout: float) -> int:
    position = _hash_fraction(text) * parts / holdout
    return int(position) + 1 if position < parts else 0


def _hash_fraction(text: str) -> float:
    """A number in [0, 1) from a hash of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def select_part_of_small_text(
    texts: Callable[[], Iterable[str]], missing: list[str], holdout: float, part: int, location: str
) -> Iterator[str]:
    """One part of a small corpus, in which no part is empty: see `split_documents`."""
    parts, description = split_documents([text for text in texts() if text], len(missing), holdout)
    listing.say(f"{location}: {description} for {' and '.join(missing)}")
    yield from parts[part]


def split_documents(documents: list[str], parts: int, holdout: float) -> tuple[list[list[str]], str]:
    """Assign documents to training and to held-out parts, none of which is empty if that is possible.

    Args:
        documents: none of them empty.
        parts: how many are held out.
        holdout: their share together.

    Returns:
        The documents of training and of each part, and a description for the user.
    """
    count = len(documents)
    if count < FEW_DOCUMENTS:
        cut = [split_text(text, parts, holdout) for text in documents]
        split = [[piece for pieces in cut for piece in pieces[part : part + 1] if piece] for part in range(parts + 1)]
        if all(split):
            ends = "its end is" if count == 1 else f"the end of each of its {count} documents is"
            return split, f"{ends} held out"
    assigned = [_part_of(text, parts, holdout) for text in documents]
    if len(set(assigned)) <= parts < count:
        each = min(max(1, round(count * holdout / parts)), (count - 1) // parts)
        order = sorted(range(count), key=lambda index: (_hash_fraction(documents[index]), index))
        assigned = [0] * count
        for rank, index in enumerate(order[: each * parts]):
            assigned[index] = 1 + rank // each
    split = [[text for text, to in zip(documents, assigned, strict=True) if to == part] for part in range(parts + 1)]
    held_out = count - len(split[0])
    return split, f"{held_out} of its {count} documents {'is' if held_out == 1 else 'are'} held out"


def split_text(text: str, parts: int, holdout: float) -> list[str]:
    """A text cut into its beginning and its last parts, at line ends, or between words where it has too few lines.

    Returns:
        The pieces that are not empty, 1 + `parts` of them; or the whole text alone.
    """
    cuts = [len(text) * (1 - holdout * part / parts) for part in range(parts, 0, -1)]
    for units in (lambda: text.splitlines(keepends=True), lambda: re.findall(r"\s*\S+\s*", text)):
        pieces: list[list[str]] = [[] for _ in range(parts + 1)]
        position = 0
        for unit in units():
            pieces[sum(position >= cut for cut in cuts)].append(unit)
            position += len(unit)
        if all(pieces):
            return ["".join(part) for part in pieces]
    return [text]

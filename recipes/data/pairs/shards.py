"""WebDataset shards: tar files in which an image and its caption have the same name, read in place.

An index of a shard's members is made once and cached, so that any pair is one read away and nothing is unpacked.
"""

import hashlib
import os
import tarfile
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np

from recipes.data import cache, listing
from recipes.data.hub import first_line
from recipes.data.listing import PICTURES, printable
from recipes.data.pairs.caption_files import CAPTION_SUFFIXES, caption
from recipes.errors import ConfigError

INDEX_VERSION = 2  # to be raised where the format of the cached index changes


class Shards:
    """The pairs in tar files, by number; members are read in place.

    Raises:
        ConfigError: a file is not a complete tar file, or none of them contains a pair.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [str(file) for file in files]
        indices = [_index(file) for file in files]
        self.shard = np.repeat(np.arange(len(files)), [len(rows) for rows in indices])
        # Where image and caption begin and how long they are, and whether the caption is JSON.
        self.members = np.concatenate(indices)
        if not len(self.members):
            raise ConfigError(
                f"{files[0].parent} holds no images with captions: expected 0001.jpg with 0001.txt in .tar"
            )

    def __len__(self) -> int:
        return len(self.members)

    def open(self, row: int) -> BytesIO:
        """The encoded image."""
        return BytesIO(self._read(row, *self.members[row, :2]))

    def name(self, row: int) -> str:
        """The shard and the pair's number."""
        return f"{self.files[self.shard[row]]}, pair {row}"

    def names(self) -> list[str]:
        """The names of all."""
        return [self.name(row) for row in range(len(self))]

    @cached_property
    def fingerprint(self) -> str:
        """A hash over the shards' names and members."""
        names = repr([Path(file).name for file in self.files])
        return hashlib.sha256(names.encode() + self.members.tobytes()).hexdigest()

    def caption(self, row: int) -> str:
        """The caption of an image."""
        content = self._read(row, *self.members[row, 2:4])
        return caption(content, ".json" if self.members[row, 4] else ".txt") or ""

    def _read(self, row: int, start: int, size: int) -> bytes:
        with Path(self.files[self.shard[row]]).open("rb") as file:
            return os.pread(file.fileno(), int(size), int(start))


class ShardCaptions:
    """The texts of pairs in shards, by their numbers [N]."""

    def __init__(self, shards: Shards, rows: np.ndarray) -> None:
        self.shards, self.rows = shards, rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Sequence[int]) -> list[str]:
        """The captions at these numbers."""
        return [self.shards.caption(int(self.rows[i])) for i in index]

    def fingerprint(self) -> str:
        """The shards' own, with the rows where they are a part."""
        of_shards = self.shards.fingerprint
        return of_shards if len(self.rows) == len(self.shards) else cache.key(of_shards, self.rows.tobytes())


def _index(file: Path) -> np.ndarray:
    """The index of a shard, see `_members`, made once for a file of this size and time of change."""
    stat = file.stat()
    path = cache.folder("shards") / f"{cache.key(str(file), stat.st_size, stat.st_mtime_ns, INDEX_VERSION)}.npz"
    with cache.locked(path):
        if not path.exists():
            rows, total = _members(file)
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, rows=rows, total=total)
            temporary.replace(path)
    with np.load(path) as index:
        rows, total = index["rows"], int(index["total"])
    if len(rows) < total:
        listing.say(f"{printable(file)}: left out {total - len(rows)} of {total} that lack image or caption")
    return rows


def _members(file: Path) -> tuple[np.ndarray, int]:
    """The index of a shard, and how many names it has.

    Returns:
        int64 [pairs, 5]: offset and size of the image, offset and size of the caption, and whether that is JSON; and
        the number of names, of which some may lack image or caption.
    """
    parts: dict[str, dict[str, tuple[int, int, bool]]] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or any(map(listing.is_hidden, member.name.split("/"))):
                    continue
                key, dot, suffix = name.partition(".")
                kind = dot + suffix.lower()
                pair = parts.setdefault(f"{folder}/{key}", {})
                if kind in PICTURES:
                    pair["image"] = (member.offset_data, member.size, False)
                elif kind in CAPTION_SUFFIXES and not ("caption" in pair and kind == ".json"):
                    content = shard.extractfile(member)
                    if content is not None and caption(content.read(), kind) is not None:
                        pair["caption"] = (member.offset_data, member.size, kind == ".json")
    except (tarfile.TarError, OSError) as error:
        raise ConfigError(f"{printable(file)} is not a complete, uncompressed tar file ({first_line(error)})") from None
    pairs = [pair["image"][:2] + pair["caption"] for pair in parts.values() if len(pair) == 2]
    return np.array(pairs, np.int64).reshape(-1, 5), len(parts)

"""Images with captions of a data set on the hub, streamed once over the network into shards on this disk.

A run reads pairs in random order, in every epoch and from any step on, which a stream does not allow. So the streamed
pairs are written to WebDataset shards in the cache; the data set is not copied whole. An interrupted stream continues
after the last complete shard.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from recipes.data import cache
from recipes.data.hub import first_line, from_hub
from recipes.errors import ConfigError
from recipes.files import whole

SHARD = 10_000  # pairs


@dataclass(frozen=True)
class Source:
    """A split of a data set on the hub, and its columns. Where a row has several captions, the first counts."""

    name: str
    subset: str | None
    split: str
    image_column: str
    caption_column: str

    def table(self) -> Any:
        """The split as an iterable of rows, its images encoded."""
        from datasets import Image

        advice = "or get it whole on a machine with a network, and set data.path"
        tables = from_hub(self.name, self.subset, advice, streaming=True)
        if self.split not in tables:
            raise ConfigError(f"data.hub={self.name} has no split {self.split}; it has {', '.join(tables)}")
        table = tables[self.split]
        names = table.column_names or []  # None if only the rows tell
        if missing := [name for name in (self.image_column, self.caption_column) if names and name not in names]:
            raise ConfigError(f"data.hub={self.name} has no column {missing[0]}; it has {', '.join(names)}")
        return table.cast_column(self.image_column, Image(decode=False))

    def pair(self, row: dict[str, Any]) -> tuple[bytes, bytes] | None:
        """The encoded image and the caption of a row, or None where one is missing."""
        image, caption = (row.get(self.image_column) or {}).get("bytes"), row.get(self.caption_column)
        caption = caption[0] if isinstance(caption, list) and caption else caption
        return None if image is None or not isinstance(caption, str) else (image, caption.encode())


def shards(source: Source, pairs: int | None) -> list[Path]:
    """The shards of the first `pairs` pairs, or of all, streamed where they are not here yet.

    Raises:
        ConfigError: the data set, its split or a column is not available, the stream broke off, or the disk is full.
    """
    folder = cache.folder("streamed") / cache.key(*astuple(source), pairs)
    with cache.locked(folder):
        folder.mkdir(exist_ok=True)
        if not (folder / "whole").exists():
            _stream(folder, source, pairs)
            (folder / "whole").touch()
    return sorted(folder.glob("*.tar"))


def _stream(folder: Path, source: Source, pairs: int | None) -> None:
    location, table = f"data.hub={source.name} ({source.split})", source.table()
    complete = sorted(folder.glob("*.tar"))  # whole shards, each named by the rows that were read for it and before
    rows_read = int(complete[-1].stem) if complete else 0
    pairs_written = SHARD * len(complete)
    try:
        rows = enumerate(table.skip(rows_read), start=rows_read + 1)
        while pairs is None or pairs_written < pairs:
            shard_pairs = SHARD if pairs is None else min(SHARD, pairs - pairs_written)
            with whole(folder / "next") as temporary, tarfile.open(temporary, "w") as shard:
                written, rows_read = _fill(shard, source, rows, shard_pairs, pairs_written, rows_read)
            if written:
                (folder / "next").rename(folder / f"{rows_read:012d}.tar")
                pairs_written += written
                print(
                    f"{location}: {pairs_written} pairs streamed to {folder}, {rows_read - pairs_written} rows "
                    "without one",
                    flush=True,
                )
            if written < shard_pairs:
                break
    except Exception as error:  # a network's libraries have no common error
        reason = f"streaming stopped after {pairs_written} pairs ({first_line(error)})"
        raise ConfigError(f"{location}: {reason}; the same command continues") from None
    if not pairs_written:
        raise ConfigError(f"{location} holds no images with captions in {source.image_column}, {source.caption_column}")


def _fill(
    shard: tarfile.TarFile, source: Source, rows: Iterator[tuple[int, Any]], max_pairs: int, first: int, rows_read: int
) -> tuple[int, int]:
    """Write up to `most` pairs, the first as number `number`; returns how many, and the rows read of the split."""
    written = 0
    while written < max_pairs and (row := next(rows, None)) is not None:
        rows_read = row[0]
        if (pair := source.pair(row[1])) is None:
            continue
        for suffix, content in zip((".jpg", ".txt"), pair, strict=True):  # decoding looks at the bytes alone
            member = tarfile.TarInfo(f"{first + written:09d}{suffix}")
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
        written += 1
    return written, rows_read

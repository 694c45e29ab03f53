"""Images with captions of a data set on the hub, streamed once over the network into shards on this disk.

A run reads pairs in an order of its own, again in every epoch and from any step on, which a stream cannot do. So what
is streamed is written to WebDataset shards in the cache; the data set itself is never copied whole. A stream that broke
off goes on behind the last whole shard.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.data import cache
from recipes.data.hub import first_line, from_hub
from recipes.errors import ConfigError
from recipes.files import whole

SHARD = 10_000  # pairs


def shards(
    name: str, subset: str | None, split: str, image_column: str, caption_column: str, pairs: int | None
) -> list[Path]:
    """The shards of the first `pairs` pairs, or of all, streamed where they are not here yet.

    Rows without an image or a text are left out. Where a row has several captions, the first is kept.

    Raises:
        ConfigError: the data set, its split or a column is not to be had, the stream broke off, or the disk is full.
    """
    folder = cache.folder("streamed") / cache.key(name, subset, split, image_column, caption_column, pairs)
    with cache.alone(folder):
        folder.mkdir(exist_ok=True)
        if not (folder / "whole").exists():
            _stream(folder, name, subset, split, image_column, caption_column, pairs)
            (folder / "whole").touch()
    return sorted(folder.glob("*.tar"))


def _stream(
    folder: Path, name: str, subset: str | None, split: str, image_column: str, caption_column: str, pairs: int | None
) -> None:
    from datasets import Image

    given = f"data.hub={name} ({split})"
    tables = from_hub(name, subset, "or get it whole on a machine with a network, and set data.path", streaming=True)
    if split not in tables:
        raise ConfigError(f"data.hub={name} has no split {split}; it has {', '.join(tables)}")
    table = tables[split]
    names = table.column_names or []  # None where only the rows tell
    if lacking := [column for column in (image_column, caption_column) if names and column not in names]:
        raise ConfigError(f"{given} has no column {lacking[0]}; it has {', '.join(names)}")
    made = sorted(folder.glob("*.tar"))  # whole shards, each named by the rows that were read for it and before
    seen = int(made[-1].stem) if made else 0
    number = SHARD * len(made)
    rows = enumerate(table.cast_column(image_column, Image(decode=False)).skip(seen), start=seen + 1)
    try:
        while pairs is None or number < pairs:
            most = SHARD if pairs is None else min(SHARD, pairs - number)
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as shard:
                written, seen = _fill(shard, rows, most, number, image_column, caption_column, seen)
            if written:
                with whole(folder / f"{seen:012d}.tar") as temporary:
                    temporary.write_bytes(content.getbuffer())
                number += written
                print(f"{given}: {number} pairs streamed to {folder}", flush=True)
            if written < most:
                break
    except OSError as error:
        why = first_line(error)
        raise ConfigError(
            f"{given}: streaming stopped after {number} pairs ({why}); the same command goes on"
        ) from None
    if not number:
        raise ConfigError(f"{given} holds no images with captions in {image_column} and {caption_column}")


def _fill(
    shard: tarfile.TarFile,
    rows: Iterator[tuple[int, Any]],
    most: int,
    number: int,
    image_column: str,
    caption_column: str,
    seen: int,
) -> tuple[int, int]:
    """Write up to `most` pairs from number `number` on; returns how many, and the rows read of the whole split."""
    written = 0
    while written < most and (row := next(rows, None)) is not None:
        seen, values = row
        image = (values.get(image_column) or {}).get("bytes")
        caption = values.get(caption_column)
        caption = caption[0] if isinstance(caption, list) and caption else caption
        if image is None or not isinstance(caption, str):
            continue
        for suffix, content in ((".jpg", image), (".txt", caption.encode())):  # decoding looks at the bytes alone
            member = tarfile.TarInfo(f"{number + written:09d}{suffix}")
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
        written += 1
    return written, seen

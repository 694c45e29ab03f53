"""Texts in files: .txt in any Unicode encoding, and .jsonl and .parquet with a column of texts."""

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recipes.data import listing
from recipes.data.hub import first_line
from recipes.data.listing import printable
from recipes.errors import ConfigError

# Byte-order marks and the encodings that they stand for; longer marks first.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class UnreadableTextError(ValueError):
    """A file cannot be read as a text."""


def read_text(file: Path) -> str:
    """A text file's content: UTF-8, or the encoding of its byte-order mark, which is left out.

    Raises:
        UnreadableTextError: it is in another encoding, or cannot be read.
    """
    try:
        content = file.read_bytes()
        return content.decode(encoding(content))
    except UnicodeDecodeError as error:
        raise UnreadableTextError(
            f"{printable(file)} is not UTF-8 (byte {error.start}): convert it, or remove it"
        ) from None
    except OSError as error:
        raise UnreadableTextError(f"{printable(file)} cannot be read ({error.strerror})") from None


def encoding(start: bytes) -> str:
    """The encoding of a text that starts with these bytes."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")


def texts_of_files(files: list[Path], column: str) -> Iterator[str]:
    """The documents of files; a few unreadable texts are left out, as unreadable images are.

    Args:
        files: .txt, .jsonl and .parquet.
        column: of the text, in files of rows.

    Raises:
        ConfigError: too many texts cannot be read, or a file has no such column.
    """
    unreadable = 0
    for file in files:
        suffix = file.suffix.lower()
        if suffix != ".txt":
            rows = _json_rows(file, column) if suffix == ".jsonl" else _parquet_rows(file, column)
            yield from checked_texts(rows, column, printable(file))
            continue
        try:
            text = read_text(file)
        except UnreadableTextError as error:
            unreadable += 1
            if unreadable == len(files):
                raise ConfigError(str(error)) from None
            if not listing.tolerable(unreadable, len(files)):
                raise ConfigError(
                    f"{unreadable} texts cannot be read, and up to {listing.TOLERATED} are left out; the last: {error}"
                ) from None
            listing.say(f"left out a text: {error}")
            continue
        yield text


def checked_texts(rows: Iterable[Any], column: str, location: str, advice: str = "") -> Iterator[str]:
    """The texts of a column, without rows that have none.

    Raises:
        ConfigError: a row holds something else, or the source broke.
    """
    number = missing = 0
    try:
        for number, row in enumerate(rows, start=1):
            if row is None:
                missing += 1
                continue
            if not isinstance(row, str):
                raise ConfigError(
                    f"{location}, row {number}: column {column} holds {type(row).__name__}, expected text"
                )
            row.encode()
            yield row
    except ConfigError:
        raise
    except UnicodeEncodeError:
        raise ConfigError(
            f"{location}, row {number}: column {column} holds half of a surrogate pair, no text"
        ) from None
    except Exception as error:  # the libraries for files and networks have no common base class of errors
        raise ConfigError(f"{location}: reading stopped after {number} rows ({first_line(error)}){advice}") from None
    if missing:
        listing.say(f"{location}: left out {missing} of {number} rows, which have no text in column {column}")


def _json_rows(file: Path, column: str) -> Iterator[Any]:
    with file.open("rb") as content:
        name = encoding(content.read(4))
    lines: Any
    with file.open("rb") if name.startswith("utf-8") else file.open(encoding=name) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8") if isinstance(line, bytes) else line
                row = json.loads(text)
                yield row[column]
            except UnicodeDecodeError:
                raise ConfigError(f"{printable(file)} is not UTF-8 (line {number}): convert it, or remove it") from None
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ConfigError(
                    f"{printable(file)}, line {number}: no JSON object with a column {column}; set "
                    "+data.options.column="
                ) from None


def _parquet_rows(file: Path, column: str) -> Iterator[Any]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{file} is not a readable Parquet file ({first_line(error)})") from None
    if column not in table.schema_arrow.names:
        raise ConfigError(
            f"{file} has no column {column}: set +data.options.column to one of {', '.join(table.schema_arrow.names)}"
        )
    for batch in table.iter_batches(batch_size=1000, columns=[column]):
        yield from batch.column(0).to_pylist()

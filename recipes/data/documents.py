"""Texts from a local file or folder, or from the Hugging Face hub, as documents of the splits train, val and test.

    path/train*.jsonl, path/train/*.txt, ...    splits by the names of files or folders (train, val..., dev..., test)
    path/*.parquet                              no names: a share of the documents is held out by a hash of their text
    path.txt                                    one text: its last lines are held out
    a folder of Hugging Face's save_to_disk, or a name on the hub

A .txt file is a document; .jsonl and .parquet hold one in each row's column `text`. Where the data have no split of
that name, `test` is the official validation split and `val` is held out of training, as for images.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data import cache
from recipes.data.hub import commit, first_line, from_hub, saved
from recipes.errors import ConfigError
from recipes.files import write_json

SUFFIXES = (".txt", ".jsonl", ".parquet")
# What a split's file, folder or name on the hub begins with.
NAMES = {"train": "train", "val": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class Documents:
    """The texts of one split, read when they are needed.

    Attributes:
        fingerprint: changes where the texts do.
        texts: called for each reading, always in the same order; whatever breaks in it is a ConfigError.
        place: what errors call them.
    """

    fingerprint: str
    texts: Callable[[], Iterable[str]]
    place: str


def local(path: str, column: str, holdout: float) -> dict[str, Documents]:
    """The splits of a file or folder.

    Args:
        path: see the module.
        column: of the text, in files of rows.
        holdout: share of the documents for `val` and `test` together, where they are not told apart.

    Raises:
        ConfigError: there is nothing to read, or a file is not what it has to be.
    """
    place, given = Path(path).expanduser(), f"data.path={path}"
    if not place.exists():
        raise ConfigError(f"{given} does not exist: give a file or folder of {', '.join(SUFFIXES)}")
    if place.is_file() and place.suffix == ".txt":
        return _cut(place, holdout)
    if place.is_dir() and ((place / "dataset_dict.json").is_file() or (place / "state.json").is_file()):
        return _complete(_tables(saved(place, given), column, given), holdout, given)
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    files = [file for file in found if file.suffix in SUFFIXES and file.is_file()]
    if not files:
        raise ConfigError(f"{given} holds no texts: expected files that end in {', '.join(SUFFIXES)}")
    sorted_in: dict[str | None, list[Path]] = {}
    for file in files:
        parts = file.relative_to(place).parts if place.is_dir() else ()
        sorted_in.setdefault(next((split for part in parts if (split := _split(part))), None), []).append(file)
    if None in sorted_in and len(sorted_in) > 1:
        raise ConfigError(
            f"{given}: {sorted_in[None][0]} belongs to no split, while others do by name; rename it to train, val or "
            "test, or move it away"
        )
    splits = {name or "train": _read_files(of_split, place, column) for name, of_split in sorted_in.items()}
    return _complete(splits, holdout, given)


def hub(
    name: str, subset: str | None, revision: str | None, column: str, streaming: bool, holdout: float
) -> dict[str, Documents]:
    """The splits of a data set on the Hugging Face hub, or in its local cache.

    Args:
        name: such as `allenai/c4`.
        subset: its configuration, such as `en`.
        revision: a branch or commit.
        column: of the text.
        streaming: read over the network as needed, without a copy.
        holdout: as for `local`.

    Raises:
        ConfigError: the data set is not to be had.
    """
    given = f"data.hub={name}"
    if Path(name).is_dir():
        raise ConfigError(f"{given} is a folder here: set data.path={name}")
    instead = (
        "get it on a machine with a network (datasets.load_dataset, then save_to_disk) and set data.path to its folder"
    )
    # A stream has no fingerprint of its content: the commit that it is read at has to do. It is remembered, so that a
    # machine without a network finds what was tokenised.
    memory = cache.folder("streams") / f"{cache.key(name, subset, revision, column)}.json"
    seen = _remembered(memory) if streaming else {}
    if streaming:
        revision = commit(name, revision) or seen.get("commit") or revision
    try:
        tables = from_hub(name, subset, instead, revision=revision, streaming=streaming)
    except ConfigError as error:
        if not seen:
            raise
        absent = functools.partial(_absent, f"{error}; of its tokens the cache does not hold all")
        splits = {split: Documents(print_, absent, given) for split, print_ in seen["fingerprints"].items()}
        return _complete(splits, holdout, given)
    splits = _tables(tables, column, given, (name, subset, revision))
    if streaming:
        prints = {split: documents.fingerprint for split, documents in splits.items()}
        write_json(memory, {"commit": revision, "fingerprints": prints})
    return _complete(splits, holdout, given)


def _remembered(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def _absent(message: str) -> Iterator[str]:
    raise ConfigError(message)


def _split(name: str) -> str | None:
    """The split that a file's or folder's name begins with."""
    return next((split for start, split in NAMES.items() if name.lower().startswith(start)), None)


def _complete(splits: Mapping[str, Documents], holdout: float, given: str) -> dict[str, Documents]:
    """`train`, `val` and `test`; what is missing is held out of the training documents, by a hash of their text."""
    if "train" not in splits:
        raise ConfigError(f"{given} has no split to train on; found: {', '.join(splits)}")
    found = dict(splits)
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    missing = [name for name in ("val", "test") if name not in found]
    if not missing:
        return found
    if not 0 < holdout < 1:
        raise ConfigError(
            f"+data.options.holdout={holdout} must lie between 0 and 1: {given} has no {missing[0]} split"
        )
    whole = splits["train"]
    for number, name in enumerate(("train", *missing)):
        found[name] = Documents(
            cache.key(whole.fingerprint, holdout, missing, name),
            functools.partial(_share, whole.texts, len(missing), holdout, number),
            f"{given} with +data.options.holdout={holdout}",
        )
    return found


def _share(texts: Callable[[], Iterable[str]], parts: int, holdout: float, part: int) -> Iterator[str]:
    """The documents that are not held out (part 0), or those of one of the held-out parts (from 1)."""
    for text in texts():
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64 * parts / holdout
        if part == (int(drawn) + 1 if drawn < parts else 0):
            yield text


def _cut(file: Path, holdout: float) -> dict[str, Documents]:
    """One text, cut at line ends: the last lines validate and test."""
    text = _decoded(file)
    marks = [len(text) * (1 - holdout), len(text) * (1 - holdout / 2)]
    lines: list[list[str]] = [[], [], []]
    seen = 0
    for line in text.splitlines(keepends=True):
        lines[sum(seen >= mark for mark in marks)].append(line)
        seen += len(line)
    pieces = ["".join(part) for part in lines]
    if not all(pieces):
        raise ConfigError(
            f"data.path={file} has too few lines to hold some of them out for validation and test with a share of "
            f"{holdout}: give more text or line ends, or set +data.options.holdout="
        )
    return {
        name: Documents(cache.key(piece), functools.partial(list, [piece]), str(file))
        for name, piece in zip(("train", "val", "test"), pieces, strict=True)
    }


def _decoded(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start}): convert it, or take it away") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from None


def _read_files(files: list[Path], root: Path, column: str) -> Documents:
    """Documents of some files; other names, sizes or times of change, to the nanosecond, make another fingerprint."""
    stats = [(str(file.relative_to(root.parent)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Documents(cache.key(column, stats), functools.partial(_texts, files, column), f"data.path={root}")


def _texts(files: list[Path], column: str) -> Iterator[str]:
    for file in files:
        if file.suffix == ".txt":
            yield _decoded(file)
        else:
            rows = _json_rows(file, column) if file.suffix == ".jsonl" else _parquet_rows(file, column)
            yield from _checked(rows, column, str(file))


def _checked(rows: Iterable[Any], column: str, place: str, advice: str = "") -> Iterator[str]:
    """The texts of a column.

    Raises:
        ConfigError: a row holds something else, or the source broke.
    """
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, str):
                raise ConfigError(f"{place}, row {number}: column {column} holds {type(row).__name__}, expected text")
            row.encode()
            yield row
    except ConfigError:
        raise
    except UnicodeEncodeError:
        raise ConfigError(f"{place}, row {number}: column {column} holds half of a surrogate pair, no text") from None
    except Exception as error:  # neither files' nor networks' libraries have a common error
        raise ConfigError(f"{place}: reading stopped after {number} rows ({first_line(error)}){advice}") from None


def _json_rows(file: Path, column: str) -> Iterator[Any]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                yield row[column]
            except UnicodeDecodeError:
                raise ConfigError(f"{file} is not UTF-8 (line {number}): convert it, or take it away") from None
            except (ValueError, KeyError, TypeError):
                raise ConfigError(
                    f"{file}, line {number}: no JSON object with a column {column}; set +data.options.column="
                ) from None


def _parquet_rows(file: Path, column: str) -> Iterator[Any]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{file} is no readable Parquet file ({first_line(error)})") from None
    if column not in table.schema_arrow.names:
        raise ConfigError(
            f"{file} has no column {column}: set +data.options.column to one of {', '.join(table.schema_arrow.names)}"
        )
    for batch in table.iter_batches(batch_size=1000, columns=[column]):
        yield from batch.column(0).to_pylist()


def _tables(tables: Mapping[str, Any], column: str, given: str, origin: Any = None) -> dict[str, Documents]:
    """The column of texts of each split of a Hugging Face data set; `origin` is what tells one stream from another."""
    splits = {}
    for name, table in tables.items():
        if (split := _split(name)) is None or split in splits:
            continue
        columns = table.column_names
        if columns is not None and column not in columns:
            raise ConfigError(
                f"{given} has no column {column}: set +data.options.column to one of {', '.join(columns)}"
            )
        print_ = cache.key(getattr(table, "_fingerprint", None) or origin, column, name)
        place = f"{given}, {name}"
        splits[split] = Documents(print_, functools.partial(_column, table, column, place, origin is not None), place)
    return splits


def _column(table: Any, column: str, place: str, remote: bool) -> Iterator[str]:
    rows = (row[column] for row in table.select_columns([column]))
    return _checked(rows, column, place, "; the same command goes on" if remote else "")

"""Texts from a local file or folder, or from the Hugging Face hub, as documents of the splits train, val and test.

    path/train*.jsonl, path/train/*.txt, ...    splits by the names of files or folders (train, val, dev, test)
    path/*.parquet                              no names: a share of the documents is held out by a hash of their text
    path.txt                                    one text: its last lines are held out, as those of a few texts are
    a folder of Hugging Face's save_to_disk, or a name on the hub

A .txt file is a document; .jsonl and .parquet hold one in each row's column `text`. Where the data have no split of
that name, `test` is the official validation split and `val` is held out of training, as for images. docs/data.md has
the table of what is taken, converted, left out and refused.
"""

import codecs
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data import cache, listing
from recipes.data.hub import commit, first_line, from_hub, saved
from recipes.data.listing import TEXTS, shown
from recipes.errors import ConfigError
from recipes.files import write_json

# The word that a split's file, folder or name on the hub begins with; genesis, trainer, value and device are none.
NAME = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev(?:el(?:opment)?)?)|(?P<test>test(?:ing)?))"
    r"(?![^\W\d_]|[\s'’])",
    re.IGNORECASE,
)
# What a text in another Unicode encoding than UTF-8 begins with; the longer ones first.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# What is held out for val and test together, where the command does not say: 1% of a large text, more of a small one.
SHARE, MOST = 0.01, 0.1
LEAST = 400_000  # bytes that are wanted for both
SMALL = int(LEAST / SHARE)  # bytes: a smaller text is dealt out with every document in sight
FEW = 20  # fewer documents are each cut, instead of dealt out whole


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


def local(path: str, column: str, holdout: float | None = None) -> dict[str, Documents]:
    """The splits of a file or folder.

    Args:
        path: see the module.
        column: of the text, in files of rows.
        holdout: share of the documents for `val` and `test` together, where they are not told apart; None is 1%, of
            a text below 40 MB as much as makes 400 kB, and at most a tenth.

    Raises:
        ConfigError: there is nothing to read, or a file is not what it has to be.
    """
    place, given = Path(path).expanduser(), f"data.path={path}"
    if not place.exists():
        raise ConfigError(f"{given} does not exist: give a file or folder of {', '.join(TEXTS)}")
    if place.is_file() and place.suffix.lower() == ".txt":
        return _cut(place, holdout)
    if place.is_dir() and ((place / "dataset_dict.json").is_file() or (place / "state.json").is_file()):
        tables = saved(place, given)
        sizes = [table.data.nbytes for name, table in tables.items() if _split(name) == "train"]
        return _complete(_tables(tables, column, given), holdout, given, size=sum(sizes))
    if place.is_file():
        files, left_out = [place] if place.suffix.lower() in TEXTS else [], "this file"
    else:
        found = listing.listed(place, TEXTS)
        found.say(given)
        files, left_out = sorted(place / name for name in found.paths), found.summary() or "nothing"
    if not files:
        raise ConfigError(f"{given} holds no texts: expected files that end in {', '.join(TEXTS)} (found: {left_out})")
    sorted_in: dict[str | None, list[Path]] = {}
    for file in files:
        parts = file.relative_to(place).parts if place.is_dir() else ()
        sorted_in.setdefault(next((split for part in parts if (split := _split(part))), None), []).append(file)
    if None in sorted_in and len(sorted_in) > 1:
        split, taken = next((name, of_split[0]) for name, of_split in sorted_in.items() if name)
        raise ConfigError(
            f"{given}: {shown(taken)} is the split {split} by its name, and {shown(sorted_in[None][0])} belongs to no "
            "split; rename one of them (train, val and test begin the names of splits), or move it away"
        )
    splits = {name or "train": _read_files(of_split, place, column) for name, of_split in sorted_in.items()}
    if "train" not in splits:
        named = ", ".join(f"{name} ({shown(of_split[0].name)})" for name, of_split in sorted_in.items())
        raise ConfigError(f"{given} has no split to train on; found: {named}")
    learnt = sorted_in.get("train") or sorted_in[None]
    size = sum(file.stat().st_size for file in learnt)
    few = len(learnt) < FEW and all(file.suffix.lower() == ".txt" for file in learnt)
    return _complete(splits, holdout, given, size=min(size, SMALL - 1) if few else size)


def hub(
    name: str, subset: str | None, revision: str | None, column: str, streaming: bool, holdout: float | None = None
) -> dict[str, Documents]:
    """The splits of a data set on the Hugging Face hub, or in its local cache.

    Args:
        name: such as `allenai/c4`.
        subset: its configuration, such as `en`.
        revision: a branch or commit.
        column: of the text.
        streaming: read over the network as needed, without a copy.
        holdout: as for `local`; None is 1%.

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
    """The split that a file's or folder's name begins with, as a whole word."""
    match = NAME.match(name)
    return match.lastgroup if match else None


def _complete(
    splits: Mapping[str, Documents], holdout: float | None, given: str, size: int | None = None
) -> dict[str, Documents]:
    """`train`, `val` and `test`; what is missing is held out of the training documents, by a hash of their text.

    Args:
        splits: that there are.
        holdout: the share for what is missing, or None.
        given: what errors call the data.
        size: bytes of the training documents, where that is known.
    """
    if "train" not in splits:
        raise ConfigError(f"{given} has no split to train on; found: {', '.join(splits)}")
    found = dict(splits)
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    missing = [name for name in ("val", "test") if name not in found]
    if not missing:
        return found
    share = _share_of(holdout, size)
    if not 0 < share < 1:
        raise ConfigError(
            f"+data.options.holdout={holdout} must lie between 0 and 1: {given} has no {missing[0]} split"
        )
    whole, small = splits["train"], size is not None and size < SMALL
    if holdout is None and small:
        names = " and ".join(missing)
        listing.say(f"{given} has no {names} split: {share:.2g} of it is held out (+data.options.holdout)")
    for number, name in enumerate(("train", *missing)):
        known = (whole.fingerprint, share, missing, name)
        found[name] = Documents(
            cache.key(*known, "small") if small else cache.key(*known),
            functools.partial(_small_share, whole.texts, missing, share, number, given)
            if small
            else functools.partial(_share, whole.texts, len(missing), share, number),
            f"{given} with +data.options.holdout={share:.3g}",
        )
    return found


def _share_of(holdout: float | None, size: int | None) -> float:
    """The share that is held out: as the command says, or by the size in bytes."""
    if holdout is not None:
        return holdout
    return SHARE if size is None else max(SHARE, min(MOST, LEAST / max(size, 1)))


def _share(texts: Callable[[], Iterable[str]], parts: int, holdout: float, part: int) -> Iterator[str]:
    """The documents that are not held out (part 0), or those of one of the held-out parts (from 1)."""
    return (text for text in texts() if _part(text, parts, holdout) == part)


def _part(text: str, parts: int, holdout: float) -> int:
    drawn = _drawn(text) * parts / holdout
    return int(drawn) + 1 if drawn < parts else 0


def _drawn(text: str) -> float:
    """A number in [0, 1) from a hash of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _small_share(
    texts: Callable[[], Iterable[str]], missing: list[str], holdout: float, part: int, given: str
) -> Iterator[str]:
    """One part of a small text, of which every part gets something: see `dealt`."""
    parts, how = dealt([text for text in texts() if text], len(missing), holdout)
    listing.say(f"{given}: {how} for {' and '.join(missing)}")
    yield from parts[part]


def dealt(documents: list[str], parts: int, holdout: float) -> tuple[list[list[str]], str]:
    """Deal documents out to training and to held-out parts, none of which is empty if that can be.

    Args:
        documents: none of them empty.
        parts: how many are held out.
        holdout: their share together.

    Returns:
        The documents of training and of each part, and how that was done.
    """
    number = len(documents)
    if number < FEW:
        cut = [pieces_of(text, parts, holdout) for text in documents]
        found = [[piece for pieces in cut for piece in pieces[part : part + 1] if piece] for part in range(parts + 1)]
        if all(found):
            ends = "its end is" if number == 1 else f"the end of each of its {number} documents is"
            return found, f"{ends} held out"
    chosen = [_part(text, parts, holdout) for text in documents]
    if len(set(chosen)) <= parts < number:
        each = min(max(1, round(number * holdout / parts)), (number - 1) // parts)
        order = sorted(range(number), key=lambda index: (_drawn(documents[index]), index))
        chosen = [0] * number
        for rank, index in enumerate(order[: each * parts]):
            chosen[index] = 1 + rank // each
    found = [[text for text, own in zip(documents, chosen, strict=True) if own == part] for part in range(parts + 1)]
    held_out = number - len(found[0])
    return found, f"{held_out} of its {number} documents {'is' if held_out == 1 else 'are'} held out"


def pieces_of(text: str, parts: int, holdout: float) -> list[str]:
    """A text cut into its beginning and its last parts, at line ends, or between words where it has too few lines.

    Returns:
        The pieces that are not empty, 1 + `parts` of them; or the whole text alone.
    """
    marks = [len(text) * (1 - holdout * part / parts) for part in range(parts, 0, -1)]
    for split in (lambda: text.splitlines(keepends=True), lambda: re.findall(r"\s*\S+\s*", text)):
        pieces: list[list[str]] = [[] for _ in range(parts + 1)]
        seen = 0
        for unit in split():
            pieces[sum(seen >= mark for mark in marks)].append(unit)
            seen += len(unit)
        if all(pieces):
            return ["".join(part) for part in pieces]
    return [text]


def _cut(file: Path, holdout: float | None) -> dict[str, Documents]:
    """One text: its last lines validate and test."""
    try:
        text = decoded(file)
    except UnreadableTextError as error:
        raise ConfigError(str(error)) from None
    share = _share_of(holdout, len(text))
    if not 0 < share < 1:
        raise ConfigError(f"+data.options.holdout={holdout} must lie between 0 and 1: data.path={file} is one text")
    pieces = pieces_of(text, 2, share)
    if len(pieces) < 3:
        raise ConfigError(
            f"data.path={file} has too few lines to hold some of them out for validation and test with a share of "
            f"{share:.3g}: give more text or line ends, or set +data.options.holdout="
        )
    if share != SHARE:
        listing.say(
            f"data.path={file}: its end is held out for val and test: {share:.2g} of it (+data.options.holdout)"
        )
    return {
        name: Documents(cache.key(piece), functools.partial(list, [piece]), str(file))
        for name, piece in zip(("train", "val", "test"), pieces, strict=True)
    }


class UnreadableTextError(ValueError):
    """A file cannot be read as a text."""


def decoded(file: Path) -> str:
    """A text file's content: UTF-8, or what a byte-order mark says; the mark is no part of it.

    Raises:
        UnreadableTextError: it is in another encoding, or cannot be read.
    """
    try:
        content = file.read_bytes()
        return content.decode(encoding(content))
    except UnicodeDecodeError as error:
        raise UnreadableTextError(
            f"{shown(file)} is not UTF-8 (byte {error.start}): convert it, or take it away"
        ) from None
    except OSError as error:
        raise UnreadableTextError(f"{shown(file)} cannot be read ({error.strerror})") from None


def encoding(start: bytes) -> str:
    """The encoding of a text that begins so."""
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")


def _read_files(files: list[Path], root: Path, column: str) -> Documents:
    """Documents of some files; other names, sizes or times of change, to the nanosecond, make another fingerprint."""
    stats = [(str(file.relative_to(root.parent)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Documents(cache.key(column, stats), functools.partial(_texts, files, column), f"data.path={root}")


def _texts(files: list[Path], column: str) -> Iterator[str]:
    """The documents of files; texts that cannot be read are left out as unreadable pictures are."""
    unreadable = 0
    for file in files:
        suffix = file.suffix.lower()
        if suffix != ".txt":
            rows = _json_rows(file, column) if suffix == ".jsonl" else _parquet_rows(file, column)
            yield from _checked(rows, column, shown(file))
            continue
        try:
            text = decoded(file)
        except UnreadableTextError as error:
            unreadable += 1
            if unreadable == len(files):
                raise ConfigError(str(error)) from None
            if not listing.bearable(unreadable, len(files)):
                raise ConfigError(
                    f"{unreadable} texts cannot be read, and up to {listing.BORNE} or {listing.BORNE_SHARE:.0%} are "
                    f"left out; the last: {error}"
                ) from None
            listing.say(f"left out a text: {error}")
            continue
        yield text


def _checked(rows: Iterable[Any], column: str, place: str, advice: str = "") -> Iterator[str]:
    """The texts of a column, without rows that have none.

    Raises:
        ConfigError: a row holds something else, or the source broke.
    """
    number = without = 0
    try:
        for number, row in enumerate(rows, start=1):
            if row is None:
                without += 1
                continue
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
    if without:
        listing.say(f"{place}: left out {without} of {number} rows, which have no text in column {column}")


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
                raise ConfigError(f"{shown(file)} is not UTF-8 (line {number}): convert it, or take it away") from None
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ConfigError(
                    f"{shown(file)}, line {number}: no JSON object with a column {column}; set +data.options.column="
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

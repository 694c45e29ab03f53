"""Texts from a local file or folder, or from the Hugging Face hub, as documents of the splits train, val and test.

    path/train*.jsonl, path/train/*.txt, ...    splits by the names of files or folders (train, val, dev, test)
    path/*.parquet                              no names: a share of the documents is held out by a hash of their text
    path.txt                                    one text: its last lines are held out, as those of a few texts are
    a folder of Hugging Face's save_to_disk, or a name on the hub

A .txt file is a document; .jsonl and .parquet hold one in each row's column `text`. Where the data have no split of
that name, `test` is the official validation split and `val` is held out of training, as for images. docs/data.md has
the table of what is taken, converted, left out and refused.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data import cache, listing
from recipes.data.hub import commit, from_hub, load_saved
from recipes.data.listing import TEXTS, printable
from recipes.data.text import holdout as held_out
from recipes.data.text.text_files import UnreadableTextError, checked_texts, read_text, texts_of_files
from recipes.errors import ConfigError
from recipes.files import write_json

# A split's file, folder or name on the hub begins with this word; genesis, trainer, value and device do not count.
SPLIT_NAME = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev(?:el(?:opment)?)?)|(?P<test>test(?:ing)?))"
    r"(?![^\W\d_]|[\s'’])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Documents:
    """The texts of one split, read on demand.

    Attributes:
        fingerprint: changes with the texts.
        texts: iterates over them, always in the same order; its errors are ConfigErrors.
        location: how errors call them.
    """

    fingerprint: str
    texts: Callable[[], Iterable[str]]
    location: str


def local(path: str, column: str, holdout: float | None = None) -> dict[str, Documents]:
    """The splits of a file or folder.

    Args:
        path: see the module.
        column: of the text, in files of rows.
        holdout: share of the documents for `val` and `test` together, where they are not told apart; None is 1%, of
            a text below 40 MB as much as makes 400 kB, and at most a tenth.

    Raises:
        ConfigError: there is no text, or a file is invalid.
    """
    root, location = Path(path).expanduser(), f"data.path={path}"
    if not root.exists():
        raise ConfigError(f"{location} does not exist: give a file or folder of {', '.join(TEXTS)}")
    if root.is_file() and root.suffix.lower() == ".txt":
        return _single_text(root, holdout)
    if root.is_dir() and ((root / "dataset_dict.json").is_file() or (root / "state.json").is_file()):
        tables = load_saved(root, location)
        size = sum(table.data.nbytes for name, table in tables.items() if split_of_name(name) == "train")
        return _with_held_out_splits(_from_tables(tables, column, location), holdout, location, size=size)
    by_split = _files_by_split(root, location)
    splits = {name or "train": _read_files(files, root, column) for name, files in by_split.items()}
    if "train" not in splits:
        names = ", ".join(f"{name} ({printable(files[0].name)})" for name, files in by_split.items())
        raise ConfigError(f"{location} has no split to train on; found: {names}")
    train_files = by_split.get("train") or by_split[None]
    size = sum(file.stat().st_size for file in train_files)
    if len(train_files) < held_out.FEW_DOCUMENTS and all(file.suffix.lower() == ".txt" for file in train_files):
        size = min(size, held_out.SMALL_TEXT - 1)  # a few texts are each cut, whatever their length
    return _with_held_out_splits(splits, holdout, location, size=size)


def _files_by_split(root: Path, location: str) -> dict[str | None, list[Path]]:
    """The text files of each split, by the names of files and folders; None for names without a split."""
    if root.is_file():
        files, others = [root] if root.suffix.lower() in TEXTS else [], "this file"
    else:
        files_in_folder = listing.list_files(root, TEXTS)
        files_in_folder.say(location)
        files = sorted(root / name for name in files_in_folder.paths)
        others = files_in_folder.summary() or "nothing"
    if not files:
        raise ConfigError(f"{location} holds no texts: expected files that end in {', '.join(TEXTS)} (found: {others})")
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        parts = file.relative_to(root).parts if root.is_dir() else ()
        split = next((split for part in parts if (split := split_of_name(part))), None)
        by_split.setdefault(split, []).append(file)
    if None in by_split and len(by_split) > 1:
        split, example = next((name, files[0]) for name, files in by_split.items() if name)
        raise ConfigError(
            f"{location}: {printable(example)} is the split {split} by its name, and {printable(by_split[None][0])} "
            "belongs to "
            "no split; rename one of them (train, val and test begin the names of splits), or move it away"
        )
    return by_split


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
        ConfigError: the data set is not available.
    """
    location = f"data.hub={name}"
    if Path(name).is_dir():
        raise ConfigError(f"{location} is a folder here: set data.path={name}")
    advice = (
        "get it on a machine with a network (datasets.load_dataset, then save_to_disk) and set data.path to its folder"
    )
    # A stream has no fingerprint of its content; its commit serves instead. It is recorded, so that a machine without a
    # network finds what was tokenised.
    record = cache.folder("streams") / f"{cache.key(name, subset, revision, column)}.json"
    previous = _load_stream_record(record) if streaming else {}
    if streaming:
        revision = commit(name, revision) or previous.get("commit") or revision
    try:
        tables = from_hub(name, subset, advice, revision=revision, streaming=streaming)
    except ConfigError as error:
        if not previous:
            raise
        unavailable = functools.partial(_raise, f"{error}; of its tokens the cache does not hold all")
        fingerprints = previous["fingerprints"]
        splits = {split: Documents(fingerprint, unavailable, location) for split, fingerprint in fingerprints.items()}
        return _with_held_out_splits(splits, holdout, location)
    splits = _from_tables(tables, column, location, (name, subset, revision))
    if streaming:
        fingerprints = {split: documents.fingerprint for split, documents in splits.items()}
        write_json(record, {"commit": revision, "fingerprints": fingerprints})
    return _with_held_out_splits(splits, holdout, location)


def _load_stream_record(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def _raise(message: str) -> Iterator[str]:
    raise ConfigError(message)


def split_of_name(name: str) -> str | None:
    """The split that a file's or folder's name begins with, as a whole word."""
    match = SPLIT_NAME.match(name)
    return match.lastgroup if match else None


def _with_held_out_splits(
    splits: Mapping[str, Documents], holdout: float | None, location: str, size: int | None = None
) -> dict[str, Documents]:
    """`train`, `val` and `test`; missing splits are held out of the training documents, by a hash of their text.

    Args:
        splits: the existing ones.
        holdout: the share for what is missing, or None.
        location: how errors call the data.
        size: bytes of the training documents, if known.
    """
    if "train" not in splits:
        raise ConfigError(f"{location} has no split to train on; found: {', '.join(splits)}")
    completed = dict(splits)
    if "val" in completed and "test" not in completed:
        completed["test"] = completed.pop("val")
    missing = [name for name in ("val", "test") if name not in completed]
    if not missing:
        return completed
    share = held_out.holdout_share(holdout, size)
    if not 0 < share < 1:
        raise ConfigError(
            f"+data.options.holdout={holdout} must lie between 0 and 1: {location} has no {missing[0]} split"
        )
    train, is_small = splits["train"], size is not None and size < held_out.SMALL_TEXT
    if holdout is None and is_small:
        names = " and ".join(missing)
        listing.say(f"{location} has no {names} split: {share:.2g} of it is held out (+data.options.holdout)")
    for part, name in enumerate(("train", *missing)):
        key = (train.fingerprint, share, missing, name)
        completed[name] = Documents(
            cache.key(*key, "small") if is_small else cache.key(*key),
            functools.partial(held_out.select_part_of_small_text, train.texts, missing, share, part, location)
            if is_small
            else functools.partial(held_out.select_part, train.texts, len(missing), share, part),
            f"{location} with +data.options.holdout={share:.3g}",
        )
    return completed


def _single_text(file: Path, holdout: float | None) -> dict[str, Documents]:
    """One text: its last lines are the validation and test splits."""
    try:
        text = read_text(file)
    except UnreadableTextError as error:
        raise ConfigError(str(error)) from None
    share = held_out.holdout_share(holdout, len(text))
    if not 0 < share < 1:
        raise ConfigError(f"+data.options.holdout={holdout} must lie between 0 and 1: data.path={file} is one text")
    pieces = held_out.split_text(text, 2, share)
    if len(pieces) < 3:
        raise ConfigError(
            f"data.path={file} has too few lines to hold some of them out for validation and test with a share of "
            f"{share:.3g}: give more text or line ends, or set +data.options.holdout="
        )
    if share != held_out.SHARE:
        listing.say(
            f"data.path={file}: its end is held out for val and test: {share:.2g} of it (+data.options.holdout)"
        )
    return {
        name: Documents(cache.key(piece), functools.partial(list, [piece]), str(file))
        for name, piece in zip(("train", "val", "test"), pieces, strict=True)
    }


def _read_files(files: list[Path], root: Path, column: str) -> Documents:
    """Documents of some files; the fingerprint covers names, sizes and modification times in nanoseconds."""
    stats = [(str(file.relative_to(root.parent)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Documents(cache.key(column, stats), functools.partial(texts_of_files, files, column), f"data.path={root}")


def _from_tables(tables: Mapping[str, Any], column: str, location: str, origin: Any = None) -> dict[str, Documents]:
    """The column of texts of each split of a Hugging Face data set; `origin` identifies a stream."""
    splits = {}
    for name, table in tables.items():
        if (split := split_of_name(name)) is None or split in splits:
            continue
        columns = table.column_names
        if columns is not None and column not in columns:
            raise ConfigError(
                f"{location} has no column {column}: set +data.options.column to one of {', '.join(columns)}"
            )
        fingerprint = cache.key(getattr(table, "_fingerprint", None) or origin, column, name)
        split_location = f"{location}, {name}"
        texts = functools.partial(_column, table, column, split_location, origin is not None)
        splits[split] = Documents(fingerprint, texts, split_location)
    return splits


def _column(table: Any, column: str, location: str, remote: bool) -> Iterator[str]:
    rows = (row[column] for row in table.select_columns([column]))
    return checked_texts(rows, column, location, "; the same command continues" if remote else "")

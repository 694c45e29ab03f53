"""Images with captions from a disk or the hub, for the paper's scale, and the sets that such a model is judged by.

Training pairs come from a folder of WebDataset shards (`*.tar` files in which `000017.jpg` and `000017.txt`, or a
`.json` with a `caption`, belong together) or from a Hugging Face data set with a column of images and one of
captions. Shards are read where they lie: an index of their members is made once and kept, so that any pair is one
read away, a run goes on at any step, and nothing is unpacked. A hub's data set can be streamed into such shards.

Zero-shot classification takes sets that recipes/data/images.py reads: the first chooses (`val`, held out of its
training images) and reports (`test`), others report. Retrieval takes a split with one or several captions an image.
"""

import hashlib
import json
import logging
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.data import bpe, cache, images, streamed
from recipes.data.hub import first_line
from recipes.data.images import IMAGE_SUFFIXES, ImageExamples, Table, eval_transform
from recipes.data.pairs import PairData, Pairs, Probe, Texts, prompts
from recipes.errors import ConfigError

log = logging.getLogger(__name__)

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
TEMPLATES = ("a photo of a {}.", "a picture of the {}.", "a close-up photo of a {}.", "an image that shows a {}.")
FORMATS = "WebDataset shards (*.tar) or a data set saved by Hugging Face datasets"


def load(
    hub: str | None = None,
    path: str | None = None,
    *,
    tokenizer: str,
    size: int = 224,
    subset: str | None = None,
    train_split: str = "train",
    image_column: str = "image",
    caption_column: str = "caption",
    streaming: bool = False,
    train_pairs: int | None = None,
    templates: Sequence[str] = TEMPLATES,
    zero_shot: Mapping[str, Mapping[str, Any]] | None = None,
    retrieval: Mapping[str, Mapping[str, Any]] | None = None,
) -> PairData:
    """Training pairs and the probes `val`, `test` and those of further sets by name.

    Args:
        hub: a data set's name on the Hugging Face hub.
        path: a folder of shards or of a saved data set; it goes first.
        tokenizer: a published one: a local tokenizer.json, or a name on the hub.
        size: height and width of the images in pixels.
        subset: the configuration of a hub's data set that has several.
        train_split: of a Hugging Face data set.
        image_column: likewise.
        caption_column: likewise; where a row has several captions, the first is trained on.
        streaming: a hub's data set is streamed once into shards in the cache, instead of being copied whole first.
        train_pairs: of these, so many; None is all.
        templates: the prompts of a class, with {} for its name.
        zero_shot: for each set its `path` or `hub`, `names` (a JSON list of its classes' names, in the order of the
            labels; by default what the data call them, WordNet's numbers by their first word) and other options of
            recipes/data/images.py.
        retrieval: for each set its `path` or `hub`, `split`, `image_column` and `caption_column`.

    Raises:
        ConfigError: data are missing or not what they have to be.
    """
    if not zero_shot and "val" not in (retrieval or {}):
        raise ConfigError(
            "set data.options.zero_shot to the labelled images that choose and report, as "
            "'+data.options.zero_shot.imagenet.path=/data/imagenet'"
        )
    if streaming and path is None and hub is not None:
        if train_pairs is not None and train_pairs < 1:
            raise ConfigError(f"data.options.train_pairs={train_pairs} must be at least 1, or null for all")
        streaming_from = streamed.Source(hub, subset, train_split, image_column, caption_column)
        pairs = _of_shards(Shards(streamed.shards(streaming_from, train_pairs)), f"data.hub={hub}", size)
    elif streaming or train_pairs is not None:
        raise ConfigError("data.options.streaming and train_pairs go together with data.hub: a disk is read in place")
    else:
        pairs = _pairs(hub, path, size, subset, train_split, image_column, caption_column)
    probes: dict[str, Probe] = {}
    for number, (name, source) in enumerate((zero_shot or {}).items()):
        options = {key: value for key, value in source.items() if key != "names"}
        splits = images.load(**options)
        names = _names(name, source.get("names"), splits["test"].class_names)
        if number == 0:
            probes["val"] = _classes(splits["val"], names, templates, size)
        for split in sorted(set(splits) - {"train", "val"}):
            own = {"test": "test" if number == 0 else name}.get(split, f"{name}_{split}")
            probes[own] = _classes(splits[split], names, templates, size)
    for name, source in (retrieval or {}).items():
        probes[name] = _captioned(name, dict(source), size)
    return PairData(pairs, probes, bpe.published(tokenizer))


class Decoded:
    """Images of a disk, decoded, resized and cropped when they are asked for."""

    def __init__(self, examples: ImageExamples, size: int) -> None:
        self.examples, self.transform = examples, eval_transform(size)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, index: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        """Float [B, 3, size, size] in [-1, 1], and the numbers of what was read."""
        found = [self.examples[i] for i in index]
        return torch.stack([self.transform(image) for image, _ in found]), [int(label) for _, label in found]

    def fingerprint(self) -> str:
        """The images' own."""
        return self.examples.fingerprint()


def _numbered(source: Any, place: str, rows: np.ndarray | None = None) -> ImageExamples:
    """Images whose label is their number, so that an unreadable one's neighbour brings its own caption or class."""
    rows = np.arange(len(source)) if rows is None else rows
    return ImageExamples(source, rows, np.arange(len(rows)), (), place)


def _pairs(
    hub: str | None,
    path: str | None,
    size: int,
    subset: str | None,
    split: str,
    image_column: str,
    caption_column: str,
) -> Pairs:
    if path is not None and (folder := Path(path).expanduser().absolute()).is_dir():
        if shards := sorted(folder.glob("*.tar")):
            return _of_shards(Shards(shards), f"data.path={path}", size)
    elif path is not None:
        raise ConfigError(f"data.path={path} is no folder: set it to one that holds {FORMATS}")
    elif hub is None:
        raise ConfigError(f"set data.path or data.hub to say where images and captions are; data.path holds {FORMATS}")
    table, given = _table(hub, path, subset, split)
    source_of, captions = _columns(table, given, image_column, caption_column)
    return Pairs(Decoded(_numbered(source_of, given), size), Texts([each[0] for each in captions]))


def _of_shards(source: "Shards", given: str, size: int) -> Pairs:
    return Pairs(Decoded(_numbered(source, given), size), ShardCaptions(source))


def _table(hub: str | None, path: str | None, subset: str | None, split: str) -> tuple[Any, str]:
    """A split of a Hugging Face data set, and what errors call it."""
    if path is not None:
        given, folder = f"data.path={path}", Path(path).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"{given} is no folder: set it to one that holds {FORMATS}")
        tables = images.tables_from_disk(folder, subset, split, given)
    else:
        given = f"data.hub={hub}"
        tables = images.tables_from_hub(str(hub), subset)
    if split not in tables:
        raise ConfigError(f"{given} has no split {split}; it has {', '.join(tables)}")
    return tables[split], f"{given} ({split})"


def _columns(table: Any, given: str, image_column: str, caption_column: str) -> tuple[Table, list[list[str]]]:
    """The encoded images, and each one's captions."""
    from datasets import Image

    for name in (image_column, caption_column):
        if name not in table.features:
            raise ConfigError(f"{given} has no column {name}; it has {', '.join(table.features)}")
    try:
        encoded = table.select_columns([image_column]).cast_column(image_column, Image(decode=False))
    except Exception as error:  # pyarrow's and datasets' own errors
        raise ConfigError(f"{given}: column {image_column} holds no encoded images: {first_line(error)}") from None
    rows = [
        [each] if isinstance(each, str) else each for each in table.select_columns([caption_column])[caption_column]
    ]
    empty = next((i for i, row in enumerate(rows) if not row or not all(isinstance(t, str) for t in row)), None)
    if empty is not None:
        raise ConfigError(f"{given}: column {caption_column} holds no text in row {empty}")
    return Images(encoded, image_column, table._fingerprint), rows


class Images(Table):
    """A column of encoded images that knows how long it is."""

    def __len__(self) -> int:
        return len(self.images)


def _names(name: str, file: str | None, own: tuple[str, ...]) -> tuple[str, ...]:
    """What the classes are called in prompts."""
    if file is None:
        return tuple(_spoken(each) for each in own)
    place = f"data.options.zero_shot.{name}.names={file}"
    try:
        listed = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place} is no readable JSON file: {error}") from None
    if not isinstance(listed, list) or len(listed) != len(own) or not all(isinstance(each, str) for each in listed):
        raise ConfigError(f"{place} must be a list of {len(own)} names, one for each class in the labels' order")
    return tuple(listed)


def _spoken(name: str) -> str:
    """A class's name for a prompt: the first of several words for it, or that of WordNet's number."""
    if re.fullmatch(r"n\d{8}", name):
        from timm.data import ImageNetInfo

        with suppress(KeyError):
            name = ImageNetInfo("imagenet-22k").label_name_to_description(name)
    return name.split(",")[0].replace("_", " ")


def _classes(examples: ImageExamples, names: tuple[str, ...], templates: Sequence[str], size: int) -> Probe:
    if examples.labels.ndim > 1:
        raise ConfigError(f"{examples.place}: zero-shot classification takes one label an image")
    texts, prompt_class = prompts(names, templates)
    numbered = _numbered(examples.source, examples.place, examples.rows)
    return Probe(Decoded(numbered, size), Texts(texts), label=examples.labels, prompt_class=prompt_class)


def _captioned(name: str, source: dict[str, Any], size: int) -> Probe:
    """A split for retrieval: an image and its captions are of one group."""
    usual = {"path": None, "hub": None, "subset": None, "split": "test"}
    usual |= {"image_column": "image", "caption_column": "caption"}
    if odd := sorted(set(source) - set(usual)):
        raise ConfigError(f"data.options.retrieval.{name} has no option {odd[0]}; it takes {', '.join(usual)}")
    settings: dict[str, Any] = usual | source
    table, given = _table(settings["hub"], settings["path"], settings["subset"], settings["split"])
    encoded, captions = _columns(table, given, settings["image_column"], settings["caption_column"])
    return Probe(
        Decoded(_numbered(encoded, given), size),
        Texts([text for row in captions for text in row]),
        image_group=np.arange(len(captions)),
        text_group=np.repeat(np.arange(len(captions)), [len(row) for row in captions]),
    )


class Shards:
    """The pairs in tar files, by number; members are read in place.

    Raises:
        ConfigError: a file is no whole tar file, or none of them holds a pair.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [str(file) for file in files]
        indexed = [_index(file) for file in files]
        self.shard = np.repeat(np.arange(len(files)), [len(rows) for rows in indexed])
        # Where image and caption begin and how long they are, and whether the caption is JSON.
        self.members = np.concatenate(indexed)
        if not len(self.members):
            raise ConfigError(
                f"{files[0].parent} holds no images with captions: expected 0001.jpg beside 0001.txt in .tar"
            )

    def __len__(self) -> int:
        return len(self.members)

    def open(self, row: int) -> BytesIO:
        """The encoded image."""
        return BytesIO(self._read(row, *self.members[row, :2]))

    def name(self, row: int) -> str:
        """The shard and the pair's number."""
        return f"{self.files[self.shard[row]]}, pair {row}"

    @cached_property
    def fingerprint(self) -> str:
        """A hash over the shards' names and members."""
        names = repr([Path(file).name for file in self.files])
        return hashlib.sha256(names.encode() + self.members.tobytes()).hexdigest()

    def caption(self, row: int) -> str:
        """The caption beside an image."""
        text = self._read(row, *self.members[row, 2:4]).decode("utf-8", errors="replace")
        if not self.members[row, 4]:
            return text.strip()
        try:
            return str(json.loads(text)["caption"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{self.name(row)}: its .json has no caption") from None

    def _read(self, row: int, start: int, size: int) -> bytes:
        with Path(self.files[self.shard[row]]).open("rb") as file:
            return os.pread(file.fileno(), int(size), int(start))


class ShardCaptions:
    """The texts of the pairs in shards."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def batch(self, index: Sequence[int]) -> list[str]:
        """The captions at these numbers."""
        return [self.shards.caption(i) for i in index]

    def fingerprint(self) -> str:
        """The shards' own."""
        return self.shards.fingerprint


def _index(file: Path) -> np.ndarray:
    """int64 [pairs, 5] of a shard, made once for a file of this size and time."""
    stat = file.stat()
    path = cache.folder("shards") / f"{cache.key(str(file), stat.st_size, stat.st_mtime_ns)}.npy"
    with cache.alone(path):
        if path.exists():
            return np.load(path)
        parts: dict[str, dict[str, tuple[int, int, bool]]] = {}
        try:
            with tarfile.open(file, "r:") as shard:
                for member in shard:
                    folder, _, name = member.name.rpartition("/")
                    key, dot, suffix = name.partition(".")
                    kind = dot + suffix.lower()
                    part = "image" if kind in IMAGE_SUFFIXES else "caption" if kind in CAPTION_SUFFIXES else None
                    own = parts.setdefault(f"{folder}/{key}", {})
                    if member.isfile() and part and not (part in own and kind == ".json"):
                        own[part] = (member.offset_data, member.size, kind == ".json")
        except (tarfile.TarError, OSError) as error:
            raise ConfigError(f"{file} is no whole, uncompressed tar file ({first_line(error)})") from None
        whole = [own["image"][:2] + own["caption"] for own in parts.values() if len(own) == 2]
        if len(whole) < len(parts):
            log.warning("%s: left out %d of %d that lack image or caption", file, len(parts) - len(whole), len(parts))
        rows = np.array(whole, np.int64).reshape(-1, 5)
        temporary = path.with_suffix(".tmp.npy")
        np.save(temporary, rows)
        temporary.replace(path)
        return rows

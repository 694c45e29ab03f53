"""Images with captions from a disk or the hub, for the paper's scale, and the sets that such a model is judged by.

Training pairs come from a folder of WebDataset shards (`*.tar` files in which `000017.jpg` and `000017.txt`, or a
`.json` with a `caption`, belong together), from a folder of such files themselves, or from a Hugging Face data set with
a column of images and one of captions. Shards are read where they lie: an index of their members is made once and kept,
so that any pair is one read away, a run goes on at any step, and nothing is unpacked. A hub's data set can be streamed
into such shards.

Zero-shot classification takes sets that recipes/data/images/files.py reads: the first chooses (`val`, held out of its
training images) and reports (`test`), others report. Retrieval takes a split with one or several captions an image.
Without either, pairs are held out of training to choose and to report by retrieval.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.data import cache, listing
from recipes.data.hub import first_line
from recipes.data.images import files as images
from recipes.data.images.examples import ImageExamples, Prepared
from recipes.data.images.files import Files, eval_transform, number_held_out
from recipes.data.listing import PICTURES, shown
from recipes.data.pairs import streamed
from recipes.data.pairs.pairs import PAD, PairData, Pairs, Probe, Texts, prompts
from recipes.data.text import bpe, documents
from recipes.data.text.tables import Table, column
from recipes.errors import ConfigError

HOLDS = "images with captions"  # which recipes learn from it

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
TEMPLATES = ("a photo of a {}.", "a picture of the {}.", "a close-up photo of a {}.", "an image that shows a {}.")
INDEX = 2  # of the form in which a shard's index is kept
CAPTION_COLUMNS = ("caption", "captions", "text")  # the first that is there, unless the user names one
VOCABULARY = 768  # of a tokenizer that is trained on the captions
FORMATS = (
    "WebDataset shards (*.tar), pictures with captions beside them (1.jpg and 1.txt) or a data set saved by Hugging "
    "Face datasets"
)


def load(
    hub: str | None = None,
    path: str | None = None,
    *,
    tokenizer: str | None = None,
    vocab_size: int = VOCABULARY,
    size: int = 224,
    subset: str | None = None,
    train_split: str = "train",
    image_column: str | None = None,
    caption_column: str | None = None,
    streaming: bool = False,
    train_pairs: int | None = None,
    val_size: int | None = None,
    templates: Sequence[str] = TEMPLATES,
    zero_shot: Mapping[str, Mapping[str, Any]] | None = None,
    retrieval: Mapping[str, Mapping[str, Any]] | None = None,
) -> PairData:
    """Training pairs and the probes `val`, `test` and those of further sets by name.

    Args:
        hub: a data set's name on the Hugging Face hub.
        path: a folder of shards, of pictures and captions, or of a saved data set; it goes first.
        tokenizer: a published one: a local tokenizer.json, or a name on the hub; None trains a byte-level BPE on the
            training captions.
        vocab_size: of the tokenizer that is trained.
        size: height and width of the images in pixels.
        subset: the configuration of a hub's data set that has several.
        train_split: of a Hugging Face data set.
        image_column: likewise; by default `image`, or else the only column of images.
        caption_column: likewise; by default the first there of caption, captions and text, or else the only column of
            texts; where a row has several captions, the first is trained on.
        streaming: a hub's data set is streamed once into shards in the cache, instead of being copied whole first.
        train_pairs: of these, so many; None is all.
        val_size: pairs held out for `val`, and as many for `test`, where neither `zero_shot` nor `retrieval.val` says
            what to choose by; None is 1%, but at least 100, or a tenth where that is fewer.
        templates: the prompts of a class, with {} for its name.
        zero_shot: for each set its `path` or `hub`, `names` (a JSON list of its classes' names, in the order of the
            labels; by default what the data call them, WordNet's numbers by their first word) and other options of
            recipes/data/images/files.py.
        retrieval: for each set its `path` or `hub`, `split`, `image_column` and `caption_column`.

    Raises:
        ConfigError: data are missing or not what they have to be.
    """
    if (streaming or train_pairs is not None) and not (streaming and path is None and hub is not None):
        raise ConfigError("data.options.streaming and train_pairs go together with data.hub: a disk is read in place")
    given = images.source(hub, path, FORMATS)
    if streaming and hub is not None:
        if train_pairs is not None and train_pairs < 1:
            raise ConfigError(f"data.options.train_pairs={train_pairs} must be at least 1, or null for all")
        columns = image_column or "image", caption_column or "caption"
        source = _shards(
            Shards(streamed.shards(streamed.Source(hub, subset, train_split, *columns), train_pairs)), given
        )
    else:
        source = pairs_of(hub, path, subset, train_split, image_column, caption_column)
    pairs, probes = source.part(np.arange(source.total), size), dict[str, Probe]()
    if not zero_shot and "val" not in (retrieval or {}):
        pairs, probes = _held_out(source, size, val_size, given)
    for number, (name, settings) in enumerate((zero_shot or {}).items()):
        options = {key: value for key, value in settings.items() if key != "names"}
        splits = images.load(**options)
        names = _names(name, settings.get("names"), splits["test"].class_names)
        if number == 0:
            probes["val"] = _classes(splits["val"], names, templates, size)
        for split in sorted(set(splits) - {"train", "val"}):
            own = {"test": "test" if number == 0 else name}.get(split, f"{name}_{split}")
            probes[own] = _classes(splits[split], names, templates, size)
    for name, settings in (retrieval or {}).items():
        probes[name] = _captioned(name, dict(settings), size)
    if tokenizer is not None:
        return PairData(pairs, probes, bpe.published(tokenizer))
    captions = pairs.captions

    def texts() -> Sequence[str]:
        return captions.texts if isinstance(captions, Texts) else captions.batch(range(len(captions)))

    return PairData(pairs, probes, bpe.trained(texts, captions.fingerprint(), vocab_size, (PAD,)))


@dataclass(frozen=True)
class PairSource:
    """Pictures and captions, before they are split.

    Attributes:
        images: the encoded pictures, by row.
        rows: int64 [N], those with a caption.
        captions: the captions of each of these, or None where `shards` reads them.
        place: what errors call them.
    """

    images: Any
    rows: np.ndarray
    captions: list[list[str]] | None
    place: str

    @property
    def total(self) -> int:
        """How many pairs there are."""
        return len(self.rows)

    def part(self, index: np.ndarray, size: int) -> Pairs:
        """Some of the pairs to train on, by their numbers [N]."""
        rows = self.rows[index]
        decoded = Decoded(_numbered(self.images, self.place, rows), size)
        if self.captions is None:
            return Pairs(decoded, ShardCaptions(self.images, rows))
        return Pairs(decoded, Texts([self.captions[i][0] for i in index.tolist()]))

    def probe(self, index: np.ndarray, size: int) -> Probe:
        """Some of the pairs to be judged by retrieval: an image and its captions are of one group."""
        rows = self.rows[index]
        if self.captions is None:
            captions = [[self.images.caption(int(row))] for row in rows]
        else:
            captions = [self.captions[i] for i in index.tolist()]
        return Probe(
            Decoded(_numbered(self.images, self.place, rows), size),
            Texts([text for row in captions for text in row]),
            image_group=np.arange(len(captions)),
            text_group=np.repeat(np.arange(len(captions)), [len(row) for row in captions]),
        )


def _held_out(source: PairSource, size: int, val_size: int | None, given: str) -> tuple[Pairs, dict[str, Probe]]:
    """Pairs to train on, and `val` and `test`, drawn once and for all."""
    number = number_held_out(source.total, None, val_size)
    if not 0 < 2 * number < source.total - 1:
        raise ConfigError(
            f"{given}: val and test would hold {number} of {source.total} pairs each: give more pairs, set "
            "+data.options.val_size to a part, or name other data to choose by, as "
            "'+data.options.zero_shot.imagenet.path=/data/imagenet'"
        )
    order = np.argsort(np.random.default_rng(0).random(source.total), kind="stable")
    listing.say(
        f"{given}: {number} of {source.total} pairs held out for val and as many for test (+data.options.val_size), "
        "judged by retrieval; labelled images judge by zero-shot accuracy: '+data.options.zero_shot.mine.path='"
    )
    probes = {"val": order[:number], "test": order[number : 2 * number]}
    return source.part(np.sort(order[2 * number :]), size), {
        name: source.probe(np.sort(index), size) for name, index in probes.items()
    }


class Decoded:
    """Images of a disk, decoded, resized and cropped when they are asked for."""

    def __init__(self, examples: ImageExamples, size: int) -> None:
        self.examples = Prepared(examples, eval_transform(size), size)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, index: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        """Float [B, 3, size, size] in [-1, 1], and the numbers of what was read."""
        found = [self.examples[i] for i in index]
        return torch.stack([image for image, _ in found]), [int(label) for _, label in found]

    def fingerprint(self) -> str:
        """The images' own."""
        return self.examples.fingerprint()


def _numbered(source: Any, place: str, rows: np.ndarray | None = None) -> ImageExamples:
    """Images whose label is their number, so that an unreadable one's neighbour brings its own caption or class."""
    rows = np.arange(len(source)) if rows is None else rows
    return ImageExamples(source, rows, np.arange(len(rows)), (), place)


def pairs_of(
    hub: str | None,
    path: str | None,
    subset: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    caption_column: str | None = None,
) -> PairSource:
    """The pairs of a folder or of a data set on the hub.

    Raises:
        ConfigError: there are none.
    """
    given = images.source(hub, path, FORMATS)
    if path is not None:
        folder = Path(path).expanduser().absolute()
        if shards := sorted(file for file in folder.glob("*.[tT][aA][rR]") if not listing.hidden(file.name)):
            return _shards(Shards(shards), given)
        if _has_loose(folder):
            return _loose(folder, given)
    table, given = _table(hub, path, subset, split)
    return _columns(table, given, image_column, caption_column)


def _shards(source: "Shards", given: str) -> PairSource:
    return PairSource(source, np.arange(len(source)), None, given)


def _table(hub: str | None, path: str | None, subset: str | None, split: str) -> tuple[Any, str]:
    """A split of a Hugging Face data set, and what errors call it."""
    given = images.source(hub, path, FORMATS)
    tables = images.tables_from_hub(str(hub), subset) if path is None else images.tables_in(path, subset, split)
    if tables is None:
        raise ConfigError(f"{given} holds class folders, and no captions: it has to hold {FORMATS}")
    if split not in tables:
        raise ConfigError(f"{given} has no split {split}; it has {', '.join(tables)}")
    return tables[split], f"{given} ({split})"


def _columns(table: Any, given: str, image_column: str | None, caption_column: str | None) -> PairSource:
    """The encoded images of a table's rows that have captions, and these."""
    from datasets import Image, Value

    features = table.features
    image_column = column(features, image_column, "image", Image, given)
    if caption_column is None:
        of_text = [name for name, feature in features.items() if feature == Value("string")]
        usual = [name for name in CAPTION_COLUMNS if name in features]
        caption_column = (usual or (of_text if len(of_text) == 1 else ["caption"]))[0]
    if caption_column not in features:
        raise ConfigError(
            f"{given} has no column {caption_column}; it has {', '.join(features)}: set +data.options.caption_column"
        )
    try:
        encoded = table.select_columns([image_column]).cast_column(image_column, Image(decode=False))
    except Exception as error:  # pyarrow's and datasets' own errors
        raise ConfigError(f"{given}: column {image_column} holds no encoded images: {first_line(error)}") from None
    values = table.select_columns([caption_column])[caption_column]
    captions = [[text for text in (row if isinstance(row, list) else [row]) if _is_caption(text)] for row in values]
    rows = np.flatnonzero([len(row) > 0 for row in captions])
    if not len(rows):
        raise ConfigError(f"{given}: column {caption_column} holds no text in any of {len(captions)} rows")
    _say_without(given, len(captions) - len(rows), len(captions))
    return PairSource(Images(encoded, image_column, table._fingerprint), rows, [r for r in captions if r], given)


def _is_caption(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _say_without(given: str, without: int, total: int) -> None:
    if without:
        listing.say(f"{given}: left out {without} of {total} pictures, which have no caption")


def _has_loose(folder: Path) -> bool:
    """Whether pictures lie in a folder beside captions, and no data set's own file does."""
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return False
    if any(folder.glob("metadata.*")) or any(folder.glob("*/metadata.*")):
        return False
    found = listing.listed(folder, (*PICTURES, *CAPTION_SUFFIXES)).paths
    pictures = {os.path.splitext(name)[0] for name in found if name.lower().endswith(PICTURES)}  # noqa: PTH122
    return any(os.path.splitext(name)[0] in pictures for name in found if not name.lower().endswith(PICTURES))  # noqa: PTH122


def _loose(folder: Path, given: str) -> PairSource:
    """Pictures and the captions in the files of the same name beside them."""
    found = listing.listed(folder, (*PICTURES, *CAPTION_SUFFIXES))
    texts: dict[str, str] = {}
    for name in found.paths:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() in CAPTION_SUFFIXES and not (stem in texts and suffix.lower() == ".json"):
            texts[stem] = name
    paths, captions, total = [], [], 0
    for name in found.paths:
        if name.lower().endswith(PICTURES):
            total += 1
            beside = texts.get(os.path.splitext(name)[0])  # noqa: PTH122
            try:
                text = None if beside is None else caption((folder / beside).read_bytes(), beside)
            except OSError:
                text = None
            if text is not None:
                paths.append(os.fsencode(name))
                captions.append([text])
    found.say(given)
    if not paths:
        raise ConfigError(f"{given}: none of its {total} pictures has a caption: expected 1.jpg beside 1.txt")
    _say_without(given, total - len(paths), total)
    return PairSource(Files(folder, np.array(paths)), np.arange(len(paths)), captions, given)


def caption(content: bytes, name: str) -> str | None:
    """The caption in a file's bytes, or None where it has none.

    Args:
        content: of a text in Unicode, or of a JSON object with a `caption`.
        name: the file's, which tells by its suffix.
    """
    try:
        text: Any = content.decode(documents.encoding(content))
        if name.lower().endswith(".json"):
            text = json.loads(text)["caption"]
            text = text[0] if isinstance(text, list) and text else text
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return text.strip() if isinstance(text, str) and text.strip() else None


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
    usual |= {"image_column": None, "caption_column": None}
    if odd := sorted(set(source) - set(usual)):
        raise ConfigError(f"data.options.retrieval.{name} has no option {odd[0]}; it takes {', '.join(usual)}")
    settings: dict[str, Any] = usual | source
    columns = settings["image_column"], settings["caption_column"]
    found = pairs_of(settings["hub"], settings["path"], settings["subset"], settings["split"], *columns)
    return found.probe(np.arange(found.total), size)


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
        own = self.shards.fingerprint
        return own if len(self.rows) == len(self.shards) else cache.key(own, self.rows.tobytes())


def _index(file: Path) -> np.ndarray:
    """int64 [pairs, 5] of a shard, made once for a file of this size and time."""
    stat = file.stat()
    path = cache.folder("shards") / f"{cache.key(str(file), stat.st_size, stat.st_mtime_ns, INDEX)}.npz"
    with cache.alone(path):
        if not path.exists():
            rows, total = _members(file)
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, rows=rows, total=total)
            temporary.replace(path)
    with np.load(path) as known:
        rows, total = known["rows"], int(known["total"])
    if len(rows) < total:
        listing.say(f"{shown(file)}: left out {total - len(rows)} of {total} that lack image or caption")
    return rows


def _members(file: Path) -> tuple[np.ndarray, int]:
    """The pairs of a shard as int64 [pairs, 5], and how many names it has of which one part or both could be read."""
    parts: dict[str, dict[str, tuple[int, int, bool]]] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or any(map(listing.hidden, member.name.split("/"))):
                    continue
                key, dot, suffix = name.partition(".")
                kind = dot + suffix.lower()
                own = parts.setdefault(f"{folder}/{key}", {})
                if kind in PICTURES:
                    own["image"] = (member.offset_data, member.size, False)
                elif kind in CAPTION_SUFFIXES and not ("caption" in own and kind == ".json"):
                    content = shard.extractfile(member)
                    if content is not None and caption(content.read(), kind) is not None:
                        own["caption"] = (member.offset_data, member.size, kind == ".json")
    except (tarfile.TarError, OSError) as error:
        raise ConfigError(f"{shown(file)} is no whole, uncompressed tar file ({first_line(error)})") from None
    whole = [own["image"][:2] + own["caption"] for own in parts.values() if len(own) == 2]
    return np.array(whole, np.int64).reshape(-1, 5), len(parts)

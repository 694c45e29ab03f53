"""Labelled photographs for the paper's scale, above all ImageNet, read one by one from a disk.

They come from a folder of class folders (`path/train/<class>/*.jpg`, `path/val/<class>/*.jpg`), from a folder of
the Hugging Face formats (`save_to_disk`, Parquet, Arrow, WebDataset), or from the Hugging Face hub by name. The
official validation images are the test set; hyperparameters are chosen on `val`, images held out of training.
"""

import hashlib
import json
import logging
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import get_worker_info

from recipes.data.hub import first_line, from_hub
from recipes.errors import ConfigError

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TABLE_SUFFIXES = (".arrow", ".parquet", ".tar")
TEST_SPLITS = ("validation", "val", "test")  # the first that is there, unless the user names one
FORMATS = "class folders (train/<class>/*.jpg, val/<class>/*.jpg) or a data set saved by Hugging Face datasets"

# What decoders raise for broken files.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
CORRUPT_SHARE = 0.01  # more unreadable images than this end the run
CORRUPT_IN_A_ROW = 10  # and so do more of them side by side; as few in all are borne in any data set


class ImageExamples:
    """Images with labels, decoded when asked for.

    An unreadable image is replaced by the next readable one with that one's label, always the same, and said once
    in one line. Loader workers each keep their own account.

    Args:
        source: the encoded images.
        rows: int64 [N], which of them, in order.
        labels: int64 [N], or bool [N, classes] where several labels are right.
        class_names: one name per class.
        place: what errors call the data, such as "data.path=/data/imagenet (train)".

    Attributes:
        corrupt: indices of the unreadable images met so far in this process.
    """

    def __init__(
        self, source: "Files | Table", rows: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], place: str
    ) -> None:
        self.source, self.rows, self.labels = source, rows, labels
        self.class_names, self.place = class_names, place
        self.corrupt: set[int] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image.Image, int | np.ndarray]:
        """An RGB image and its label: an int, or bool [classes].

        Raises:
            ConfigError: too many images cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        for step in range(CORRUPT_IN_A_ROW + 1):
            candidate = (index + step) % len(self)
            if candidate not in self.corrupt:
                try:
                    image = _rgb(self.source.open(int(self.rows[candidate])))
                except UNREADABLE as error:
                    self._count(candidate, error)
                else:
                    label = self.labels[candidate]
                    return image, label if self.labels.ndim > 1 else int(label)
        raise ConfigError(
            f"{self.place}: more than {CORRUPT_IN_A_ROW} images in a row cannot be read, from {self._name(index)} on: "
            "fetch or unpack the data again"
        )

    def fingerprint(self) -> str:
        """16 hex digits over the source's fingerprint, the rows, the labels and the class names."""
        digest = hashlib.sha256(self.source.fingerprint.encode())
        for array in (self.rows, self.labels):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(array.tobytes())
        digest.update(repr(self.class_names).encode())
        return digest.hexdigest()[:16]

    def part(self, mask: np.ndarray) -> "ImageExamples":
        """The examples where the mask, bool [N], is true."""
        return ImageExamples(self.source, self.rows[mask], self.labels[mask], self.class_names, self.place)

    def _name(self, index: int) -> str:
        return self.source.name(int(self.rows[index]))

    def _count(self, index: int, error: Exception) -> None:
        self.corrupt.add(index)
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: left out %s, which cannot be read: %s", self.place, self._name(index), reason)
        worker = get_worker_info()
        seen = len(self) / (worker.num_workers if worker else 1)  # a worker meets its share of the images only
        if len(self.corrupt) > max(CORRUPT_IN_A_ROW, CORRUPT_SHARE * seen):
            raise ConfigError(
                f"{self.place}: {len(self.corrupt)} images cannot be read, {self._name(index)} among them; "
                f"up to {CORRUPT_IN_A_ROW} or {CORRUPT_SHARE:.0%} are left out: fetch or unpack the data again"
            )


def load(
    hub: str | None = None,
    path: str | None = None,
    *,
    subset: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    val_fraction: float = 0.01,
    val_size: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    real_labels: str | None = None,
    v2_path: str | None = None,
) -> dict[str, ImageExamples]:
    """The splits `train`, `val` and `test`, and where asked for the test sets `real` and `v2`.

    Args:
        hub: a data set's name on the Hugging Face hub.
        path: a folder of class folders, or of one of the formats that Hugging Face datasets reads; it goes first.
        subset: the configuration of a Hugging Face data set that has several.
        train_split: the split to learn from, from which `val` is held out.
        test_split: the split to report; by default the first there of validation, val and test.
        val_fraction: share of the training images held out as `val`, drawn without regard to class.
        val_size: their number, where it is to be exact.
        image_column: of a Hugging Face data set; by default `image`, or else the only column of images.
        label_column: by default `label`, or else the only column of class labels.
        real_labels: ImageNet-ReaL's `real.json`, new labels for the official validation images (Beyer et al. 2020).
        v2_path: the folder of ImageNet-V2 with the class folders 0 to 999 (Recht et al. 2019).

    Raises:
        ConfigError: data are missing or not what they have to be, or a setting is out of range.
    """
    tables: Mapping[str, Any] | None = None
    if path is not None:
        given, folder = f"data.path={path}", Path(path).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"{given} is no folder: set data.path to one that holds {FORMATS}")
        if subset is not None or not _holds_class_folders(folder / train_split):
            tables = tables_from_disk(folder, subset, train_split, given)
    elif hub is not None:
        given = f"data.hub={hub}"
        tables = tables_from_hub(hub, subset)
    else:
        raise ConfigError(f"set data.path or data.hub to say where the images are; data.path holds {FORMATS}")

    if tables is None:
        test_split = test_split or next((name for name in TEST_SPLITS if (folder / name).is_dir()), "val")
        train = _class_folders(folder / train_split, f"{given} ({train_split})")
        test = _class_folders(folder / test_split, f"{given} ({test_split})", train.class_names)
    else:
        test_split = test_split or next((name for name in TEST_SPLITS if name in tables), "validation")
        columns = image_column, label_column
        train = _table(tables, train_split, columns, given)
        test = _table(tables, test_split, columns, given, train.class_names)

    size = round(len(train) * val_fraction) if val_size is None else val_size
    if not 0 < size < len(train):
        raise ConfigError(
            f"{given}: val would hold {size} of {len(train)} training images: set +data.options.val_size to a part"
        )
    # Class folders follow each other, so that a slice at the end would be the last classes: take any images.
    held_out = np.zeros(len(train), bool)
    held_out[np.argsort(np.random.default_rng(0).random(len(train)), kind="stable")[:size]] = True
    splits = {"train": train.part(~held_out), "val": train.part(held_out), "test": test}
    if real_labels is not None:
        splits["real"] = _reassessed(test, Path(real_labels).expanduser())
    if v2_path is not None:
        splits["v2"] = _numbered_folders(Path(v2_path).expanduser().absolute(), train.class_names)
    return splits


def _rgb(file: str | BytesIO) -> Image.Image:
    with Image.open(file) as image:
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


# Class folders


@dataclass(frozen=True)
class Files:
    """Image files under a folder; `paths` are relative to it and bytes, which loader workers share."""

    root: Path
    paths: np.ndarray

    def name(self, row: int) -> str:
        """The file's full path."""
        return str(self.root / os.fsdecode(self.paths[row]))

    open = name

    def names(self) -> list[str]:
        """The relative paths."""
        return [os.fsdecode(path) for path in self.paths]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all relative paths and sizes."""
        digest = hashlib.sha256()
        for row, path in enumerate(self.paths):
            digest.update(b"%s %d\n" % (path, os.stat(self.name(row)).st_size))  # noqa: PTH116 (a million files)
        return digest.hexdigest()


def _holds_class_folders(folder: Path) -> bool:
    if not folder.is_dir() or not _class_names(folder):
        return False
    return not (folder / "state.json").is_file() and not any(folder.glob("metadata.*"))


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path) -> list[bytes]:
    """The image files at any depth, sorted, as paths from the folder's parent on."""
    start = len(str(folder.parent)) + 1
    return sorted(
        os.fsencode(f"{parent[start:]}/{name}")
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
    )


def _class_folders(folder: Path, place: str, expected: tuple[str, ...] | None = None) -> ImageExamples:
    """All images of a split; the classes are the sorted names of its folders, or those expected."""
    if not folder.is_dir():
        raise ConfigError(f"{place}: {folder} is missing: put its class folders there, or set +data.options.test_split")
    class_names = tuple(_class_names(folder))
    if not class_names:
        raise ConfigError(f"{place}: {folder} holds no class folders: sort its images into {folder}/<class>/")
    if expected is not None and class_names != expected:
        odd = sorted(set(class_names) ^ set(expected))
        raise ConfigError(
            f"{place}: {folder} has {len(class_names)} class folders, training has {len(expected)}; "
            f"only one of them has {odd[0]}: both need the same"
        )
    names, labels = [], []
    for label, class_name in enumerate(class_names):
        found = _image_files(folder / class_name)
        if not found:
            raise ConfigError(
                f"{place}: the class folder {folder / class_name} holds no images: fill it, or remove it in all splits"
            )
        names += found
        labels += [label] * len(found)
    source = Files(folder, np.array(names))
    return ImageExamples(source, np.arange(len(names)), np.array(labels, np.int64), class_names, place)


def _numbered_folders(folder: Path, class_names: tuple[str, ...]) -> ImageExamples:
    """ImageNet-V2: its folders are named by the class's number, so that "10" sorts before "2"."""
    place = f"+data.options.v2_path={folder}"
    if not folder.is_dir():
        raise ConfigError(f"{place} is no folder: unpack imagenetv2-matched-frequency-format-val and give its path")
    found = _class_names(folder)
    if sorted(found) != sorted(str(number) for number in range(len(class_names))):
        raise ConfigError(
            f"{place} holds {len(found)} folders, {found[0] if found else 'none'} first; expected are the numbers "
            f"0 to {len(class_names) - 1}, a folder for each class"
        )
    examples = _class_folders(folder, place)
    numbers = np.array([int(name) for name in examples.class_names])
    return ImageExamples(examples.source, examples.rows, numbers[examples.labels], class_names, place)


def _reassessed(test: ImageExamples, file: Path) -> ImageExamples:
    """ImageNet-ReaL: a list of right labels for each official validation image; those without any are left out."""
    place = f"+data.options.real_labels={file}"
    try:
        answers: list[list[int]] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        where = "github.com/google-research/reassessed-imagenet"
        raise ConfigError(f"{place} is missing: get real.json from {where}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place} is no JSON file: {error}") from None
    matches = [re.search(r"ILSVRC2012_val_(\d{8})", name) for name in test.source.names()]
    order = np.array([int(match[1]) - 1 if match else -1 for match in matches])
    if sorted(order) != list(range(len(answers))):
        raise ConfigError(
            f"{place} holds labels for {len(answers)} images, ILSVRC2012_val_00000001 to the last, "
            f"which are not the {len(order)} images of {test.place}: use the official validation files"
        )
    labels = np.zeros((len(answers), len(test.class_names)), bool)
    for image, right in enumerate(answers):
        if not isinstance(right, list) or any(not 0 <= label < len(test.class_names) for label in right):
            raise ConfigError(f"{place} gives image {image + 1} the labels {right}, not a list of known classes")
        labels[image, right] = True
    by_file = np.argsort(order)
    kept = labels.any(1)
    return ImageExamples(test.source, by_file[kept], labels[kept], test.class_names, place)


# Hugging Face data sets


@dataclass(frozen=True)
class Table:
    """The column of encoded images of a Hugging Face data set."""

    images: Any  # datasets.Dataset of one column
    column: str
    fingerprint: str  # the data set's own

    def name(self, row: int) -> str:
        """The file name that the data set keeps, or the row's number."""
        image = self.images[row][self.column]
        return str(image["path"]) if image and image["path"] else f"row {row}"

    def names(self) -> list[str]:
        """The file names that the data set keeps; reads no image."""
        chunks = self.images.with_format("arrow")[:][self.column].chunks
        return [path or "" for chunk in chunks for path in chunk.field("path").to_pylist()]

    def open(self, row: int) -> str | BytesIO:
        """The encoded bytes, or the path of the file that holds them."""
        image = self.images[row][self.column]
        if image is None:
            raise OSError("no image")
        return str(image["path"]) if image["bytes"] is None else BytesIO(image["bytes"])


def tables_from_disk(folder: Path, subset: str | None, train_split: str, given: str) -> Mapping[str, Any]:
    """The splits of a Hugging Face data set in a folder: saved ones, or tables that the library reads."""
    from datasets import load_dataset, load_from_disk

    if (folder / "state.json").is_file():
        raise ConfigError(f"{given} is a single split: save a DatasetDict with train and validation, and give its path")
    saved = {state.parent.name: str(state.parent) for state in folder.glob("*/state.json")}
    try:
        if saved:
            return {name: load_from_disk(split) for name, split in saved.items()}
        places = [place for place in (folder, folder / "data", folder / train_split) if place.is_dir()]
        inside = [entry for place in places for entry in place.iterdir()]
        if subset is not None or any(e.suffix in TABLE_SUFFIXES or e.stem == "metadata" for e in inside):
            return load_dataset(str(folder), subset)
    except Exception as error:  # datasets has no common error
        raise ConfigError(f"{given} cannot be read as a Hugging Face data set: {first_line(error)}") from None
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
    raise ConfigError(
        f"{given} has no class folders in {train_split}/ and no tables (found: {found}): it has to hold {FORMATS}"
    )


def tables_from_hub(hub: str, subset: str | None) -> Mapping[str, Any]:
    """The splits of a data set on the hub, from the cache where there is no network."""
    if Path(hub).is_dir():
        raise ConfigError(f"data.hub={hub} is a folder here: set data.path={hub}")
    instead = f"log in with `hf auth login` if it is gated, or set data.path to a folder that holds {FORMATS}"
    return from_hub(hub, subset, instead)


def _table(
    tables: Mapping[str, Any],
    split: str,
    columns: tuple[str | None, str | None],
    given: str,
    expected: tuple[str, ...] | None = None,
) -> ImageExamples:
    """A split of a Hugging Face data set."""
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    place = f"{given} ({split})"
    if split not in tables:
        option = "train_split" if expected is None else "test_split"
        raise ConfigError(f"{given} has no split {split}: set +data.options.{option} to one of {', '.join(tables)}")
    table = tables[split]
    image = _column(table.features, columns[0], "image", ImageFeature, place)
    label = _column(table.features, columns[1], "label", ClassLabel, place)
    values = table.select_columns([label]).with_format("numpy")[:][label]
    if isinstance(table.features[label], ClassLabel):
        class_names = tuple(table.features[label].names)
    elif values.dtype.kind in "iu":
        class_names = expected or tuple(str(number) for number in range(int(values.max()) + 1))
    elif all(isinstance(value, str) for value in values):
        class_names = expected or tuple(sorted(set(values)))
        number = {name: index for index, name in enumerate(class_names)}
        values = np.array([number.get(name, -1) for name in values])
    else:
        raise ConfigError(f"{place}: column {label} holds {values.dtype}, labels are whole numbers or names")
    if expected is not None and class_names != expected:
        raise ConfigError(f"{place} names {len(class_names)} classes, not the same as the {len(expected)} of training")
    if not 0 <= values.min() <= values.max() < len(class_names):
        raise ConfigError(
            f"{place}: some images have no label of the {len(class_names)} classes of training: set "
            "+data.options.test_split to a split with labels"
        )
    try:
        encoded = table.select_columns([image]).cast_column(image, ImageFeature(decode=False))
    except Exception as error:  # pyarrow's and datasets' own errors
        raise ConfigError(f"{place}: column {image} holds no encoded images: {first_line(error)}") from None
    source = Table(encoded, image, table._fingerprint)
    return ImageExamples(source, np.arange(len(encoded)), values.astype(np.int64), class_names, place)


def _column(features: Mapping[str, Any], chosen: str | None, usual: str, kind: type, place: str) -> str:
    """The chosen column, else the one with the usual name, else the only one of its kind."""
    of_kind = [name for name, feature in features.items() if isinstance(feature, kind)]
    name = chosen or (of_kind[0] if usual not in features and len(of_kind) == 1 else usual)
    if name not in features:
        raise ConfigError(
            f"{place} has no column {name}: set +data.options.{usual}_column to one of {', '.join(features)}"
        )
    return name


# Transforms. Both return a function from a PIL image to float32 [3, size, size] in -1..1, big_vision's range.

RANDAUGMENT = re.compile(r"rand(-(m|n|mmax|inc)\d+|-(p|mstd)\d+(\.\d+)?|-t[a-z0-9]+)*")


def train_transform(size: int, randaugment: str | None = None) -> Any:
    """Inception crop (5 to 100% of the area) and flip, as in all the paper's ImageNet runs; then RandAugment.

    The paper's RandAugment has 2 layers of magnitude 15. In timm's notation that is `rand-m15-mmax15-n2-p1`: timm
    cuts magnitudes down to 10 unless `mmax` is raised, and skips half of the operations unless `p` is 1.

    Args:
        size: height and width of the result in pixels.
        randaugment: timm's notation, or None.

    Raises:
        ConfigError: timm does not know this RandAugment, or would cut its magnitude down.
    """
    if randaugment is not None:
        if not RANDAUGMENT.fullmatch(randaugment):
            raise ConfigError(f"augment.randaugment={randaugment} is not in timm's notation, as rand-m9-n2-mstd0.5 is")
        parts = dict(re.findall(r"-([a-z]+)([\d.]+)", randaugment))
        magnitude, limit = int(parts.get("m", 10)), int(parts.get("mmax", 10))
        if magnitude > limit:
            raise ConfigError(
                f"augment.randaugment={randaugment}: timm would cut magnitude {magnitude} down to {limit}; "
                f"add -mmax{magnitude}"
            )
    return _transform(size, is_training=True, scale=(0.05, 1.0), color_jitter=None, auto_augment=randaugment)


def eval_transform(size: int, *, crop: float = 0.875) -> Any:
    """The smaller side resized to `size / crop` (256 for 224), then the central square of `size`."""
    return _transform(size, crop_pct=crop)


def _transform(size: int, **settings: Any) -> Any:
    from timm.data import create_transform

    half = (0.5, 0.5, 0.5)
    return create_transform(size, interpolation="bilinear", mean=half, std=half, **settings)

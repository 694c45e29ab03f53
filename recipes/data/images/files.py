"""Labelled photographs for the paper's scale, above all ImageNet, read one by one from a disk.

They come from a folder of class folders (`path/train/<class>/*.jpg`, `path/val/<class>/*.jpg`), from a folder of
the Hugging Face formats (`save_to_disk`, Parquet, Arrow, WebDataset), or from the Hugging Face hub by name. The
official validation images are the test set; hyperparameters are chosen on `val`, images held out of training.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recipes.data import listing
from recipes.data.hub import first_line, from_hub, saved
from recipes.data.images.examples import ImageExamples
from recipes.data.listing import PICTURES, shown
from recipes.data.text.tables import labelled, labels_of
from recipes.errors import ConfigError

HOLDS = "images with labels"  # which recipes learn from it

TABLE_SUFFIXES = (".arrow", ".parquet", ".tar")
TEST_SPLITS = ("validation", "val", "test")  # the first that is there, unless the user names one
VAL_SHARE, VAL_LEAST, VAL_MOST = 0.01, 100, 0.1  # of the training images: see number_held_out
FORMATS = (
    "class folders (<class>/*.jpg, or train/<class>/*.jpg and val/<class>/*.jpg) or a data set saved by Hugging Face "
    "datasets"
)


def load(
    hub: str | None = None,
    path: str | None = None,
    *,
    size: int | None = None,
    subset: str | None = None,
    train_split: str = "train",
    val_split: str | None = None,
    test_split: str | None = None,
    val_fraction: float | None = None,
    val_size: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    real_labels: str | None = None,
    v2_path: str | None = None,
) -> dict[str, ImageExamples]:
    """The splits `train`, `val` and `test`, and where asked for the test sets `real` and `v2`.

    What is held out of training is drawn without regard to class, the same images every time; docs/data.md has the
    rule for how many.

    Args:
        hub: a data set's name on the Hugging Face hub.
        path: a folder of class folders, or of one of the formats that Hugging Face datasets reads; it goes first.
        size: height and width in pixels that the images are resized and cropped to, where the model has no such
            argument; recipes read it.
        subset: the configuration of a Hugging Face data set that has several.
        train_split: the split to learn from.
        val_split: the split to choose by; by default a folder of class folders called validation or val, where there
            is also one called test, and else images held out of training.
        test_split: the split to report; by default the first there of validation, val and test, and else images held
            out of training.
        val_fraction: share of the training images held out, for each split that is.
        val_size: their number, where it is to be exact.
        image_column: of a Hugging Face data set; by default `image`, or else the only column of images.
        label_column: by default `label`, or else the only column of class labels.
        real_labels: ImageNet-ReaL's `real.json`, new labels for the official validation images (Beyer et al. 2020).
        v2_path: the folder of ImageNet-V2 with the class folders 0 to 999 (Recht et al. 2019).

    Raises:
        ConfigError: data are missing or not what they have to be, or a setting is out of range.
    """
    del size  # it changes no file that is read
    given = source(hub, path)
    tables = None if path is None else tables_in(path, subset, train_split)
    if path is None:
        tables = tables_from_hub(str(hub), subset)
    splits: dict[str, ImageExamples] = {}
    if tables is None:
        assert path is not None
        layout = class_layout(path, train_split, val_split, test_split)
        for name, folder in sorted(layout.items(), key=lambda item: item[0] != "train"):
            expected = splits["train"].class_names if splits else None
            place = given if len(layout) == 1 else f"{given} ({folder.name})"
            splits[name] = _class_folders(folder, place, expected)
    else:
        named = {"train": train_split, "val": val_split, "test": test_split or _first(TEST_SPLITS, tables)}
        columns = image_column, label_column
        for name, split in named.items():
            if split is not None:
                expected = splits["train"].class_names if splits else None
                splits[name] = labelled(tables, split, columns, given, expected, f"{name}_split")

    splits = _held_out(splits, val_fraction, val_size, given)
    if real_labels is not None:
        splits["real"] = _reassessed(splits["test"], Path(real_labels).expanduser())
    if v2_path is not None:
        splits["v2"] = _numbered_folders(Path(v2_path).expanduser().absolute(), splits["train"].class_names)
    return splits


def source(hub: str | None, path: str | None, formats: str = FORMATS) -> str:
    """What errors call the place of data.

    Raises:
        ConfigError: there is none, or `path` is no folder.
    """
    if path is None and hub is None:
        raise ConfigError(f"set data.path or data.hub to say where the images are; data.path holds {formats}")
    if path is None:
        return f"data.hub={hub}"
    if not Path(path).expanduser().is_dir():
        raise ConfigError(f"data.path={path} is no folder: set data.path to one that holds {formats}")
    return f"data.path={path}"


def class_layout(path: str, train_split: str, val_split: str | None, test_split: str | None) -> dict[str, Path]:
    """The folders of class folders that are `train`, and `val` and `test` where they are there; opens no image.

    Raises:
        ConfigError: a split that is named is missing, or there are no class folders.
    """
    root = Path(path).expanduser().absolute()
    if not _class_names(root / train_split):
        return {"train": root}  # class folders without splits
    layout = {"train": root / train_split}
    if test_split is None:
        there = [name for name in TEST_SPLITS if (root / name).is_dir()]
        found = [name for name in there if _class_names(root / name)]
        test_split = next(iter([*found, *there]), None)
        if val_split is None and "test" in found[1:]:  # both are there
            val_split, test_split = found[0], "test"
    for name, split in (("val", val_split), ("test", test_split)):
        if split is not None:
            layout[name] = root / split
    read = {folder.name for folder in layout.values()}
    if rest := [name for name in _class_names(root) if name not in read]:
        others = ", ".join(map(shown, rest[:5]))
        listing.say(
            f"data.path={path}: of its folders {', '.join(sorted(read))} are read, not {others}; "
            "+data.options.val_split and test_split name others"
        )
    return layout


def class_names(
    path: str, *, train_split: str = "train", subset: str | None = None, label_column: str | None = None
) -> tuple[str, ...]:
    """The classes of the training images in a folder; opens no image.

    Raises:
        ConfigError: there are none.
    """
    given = source(None, path)
    tables = tables_in(path, subset, train_split)
    if tables is None:
        return tuple(_class_names(class_layout(path, train_split, None, None)["train"]))
    return labels_of(tables, train_split, label_column, given, None, "train_split")[1]


def number_held_out(total: int, fraction: float | None, number: int | None) -> int:
    """How many of the training images are held out for one split.

    By default 1%, but at least 100 images, or a tenth where that is fewer.
    """
    if number is not None:
        return number
    if fraction is not None:
        return round(total * fraction)
    return max(round(total * VAL_SHARE), min(VAL_LEAST, round(total * VAL_MOST)))


def _held_out(
    splits: dict[str, ImageExamples], fraction: float | None, number: int | None, given: str
) -> dict[str, ImageExamples]:
    """The splits with `val` and `test`; those that are missing are taken out of training."""
    train = splits["train"]
    missing = [name for name in ("val", "test") if name not in splits]
    if not missing:
        return splits
    size = number_held_out(len(train), fraction, number)
    if not 0 < size * len(missing) < len(train):
        raise ConfigError(
            f"{given}: val would hold {size} of {len(train)} training images: set +data.options.val_size to a part"
            if len(missing) == 1
            else f"{given}: {' and '.join(missing)} would hold {size} of {len(train)} training images each: set "
            "+data.options.val_size to a part"
        )
    # Class folders follow each other, so that a slice at the end would be the last classes: take any images.
    order = np.argsort(np.random.default_rng(0).random(len(train)), kind="stable")
    kept = np.ones(len(train), bool)
    found = dict(splits)
    for place, name in enumerate(missing):
        chosen = order[place * size : (place + 1) * size]
        kept[chosen] = False
        mask = np.zeros(len(train), bool)
        mask[chosen] = True
        found[name] = train.part(mask)
    found["train"] = train.part(kept)
    if size < VAL_LEAST or len(missing) > 1:
        where = "for val and as many for test" if len(missing) > 1 else f"for {missing[0]}"
        few = f"; one of them is {100 / size:.3g} points of accuracy" if size < VAL_LEAST else ""
        listing.say(f"{given}: {size} of {len(train)} images held out {where} (+data.options.val_size){few}")
    return {name: found[name] for name in ("train", "val", "test")}


def _first(names: tuple[str, ...], tables: Mapping[str, Any]) -> str | None:
    return next((name for name in names if name in tables), None)


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
            try:
                size = os.stat(self.name(row)).st_size  # noqa: PTH116 (a million files)
            except OSError:  # gone since it was listed: it counts as unreadable
                size = -1
            digest.update(b"%s %d\n" % (path, size))
        return digest.hexdigest()


def _class_names(folder: Path) -> list[str]:
    """The folders in a folder, sorted, but for hidden ones and those of a saved data set."""
    try:
        found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not listing.hidden(entry.name))
    except OSError:
        return []
    return [name for name in found if not (folder / name / "state.json").is_file()]


def _class_folders(folder: Path, place: str, expected: tuple[str, ...] | None = None) -> ImageExamples:
    """All images of a split; the classes are the sorted names of its folders, or those expected."""
    if not folder.is_dir():
        raise ConfigError(f"{place}: {folder} is missing: put its class folders there, or set +data.options.test_split")
    found = tuple(_class_names(folder))
    if not found:
        raise ConfigError(f"{place}: {folder} holds no class folders: sort its images into {folder}/<class>/")
    class_names = found if expected is None else expected
    if odd := sorted(set(found) - set(class_names)):
        raise ConfigError(
            f"{place}: {folder} has {len(found)} class folders, training has {len(class_names)} and no "
            f"{shown(odd[0])}: remove it here, or give training images of it"
        )
    names: list[bytes] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    empty = []
    for label, class_name in enumerate(class_names):
        inside = listing.listed(folder / class_name, PICTURES) if class_name in found else listing.Listing()
        left_out += inside.left_out
        if not inside.paths:
            empty.append(class_name)
            if expected is None:
                what = f" but {inside.summary()}" if inside.left_out else ""
                raise ConfigError(
                    f"{place}: the class folder {shown(folder / class_name)} holds no images{what}: fill it, or remove "
                    f"it in all splits; read are {', '.join(PICTURES)}"
                )
        names += [os.fsencode(f"{class_name}/{name}") for name in inside.paths]
        labels += [label] * len(inside.paths)
    listing.Listing([], left_out).say(place)
    if not names:
        raise ConfigError(f"{place}: {folder} holds no images: fill its class folders, or remove it")
    if empty:
        few = ", ".join(map(shown, empty[:5])) + (", ..." if len(empty) > 5 else "")
        listing.say(f"{place}: {len(empty)} of {len(class_names)} classes have no images here: {few}")
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


def tables_in(path: str, subset: str | None, train_split: str) -> Mapping[str, Any] | None:
    """The splits of a Hugging Face data set in a folder, or None where it holds class folders instead.

    A data set that was saved without splits is `train`.

    Raises:
        ConfigError: it holds neither, or cannot be read.
    """
    given, folder = f"data.path={path}", Path(path).expanduser().absolute()
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return saved(folder, given)
    splits = {state.parent.name: state.parent for state in folder.glob("*/state.json")}
    if splits:  # each saved by itself
        return {name: saved(split, given)["train"] for name, split in splits.items()}
    places = [place for place in (folder, folder / "data", folder / train_split) if place.is_dir()]
    inside = [entry for place in places for entry in place.iterdir() if not listing.hidden(entry.name)]
    if subset is not None or any(e.suffix.lower() in TABLE_SUFFIXES or e.stem == "metadata" for e in inside):
        from datasets import load_dataset

        try:
            return load_dataset(str(folder), subset)
        except Exception as error:  # datasets has no common error
            raise ConfigError(f"{given} cannot be read as a Hugging Face data set: {first_line(error)}") from None
    names = _class_names(folder)
    if _class_names(folder / train_split):
        return None
    if not {train_split, "train", *TEST_SPLITS} & set(names) and any(
        listing.holds(folder / n, PICTURES) for n in names
    ):
        return None
    found = ", ".join(sorted(shown(entry.name) for entry in folder.iterdir())[:5]) or "nothing"
    raise ConfigError(
        f"{given} has no class folders in {train_split}/ and no tables (found: {found}): it has to hold {FORMATS}"
    )


def tables_from_hub(hub: str, subset: str | None) -> Mapping[str, Any]:
    """The splits of a data set on the hub, from the cache where there is no network."""
    if Path(hub).is_dir():
        raise ConfigError(f"data.hub={hub} is a folder here: set data.path={hub}")
    instead = f"log in with `hf auth login` if it is gated, or set data.path to a folder that holds {FORMATS}"
    return from_hub(hub, subset, instead)


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

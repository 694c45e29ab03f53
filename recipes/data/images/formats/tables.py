"""Labelled images in the tables of Hugging Face data sets, saved in a folder or on the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from recipes.data import listing
from recipes.data.hub import first_line, from_hub, load_saved
from recipes.data.images.examples import ImageExamples
from recipes.data.images.formats.class_folders import FORMATS, TEST_SPLITS, class_folder_names
from recipes.data.listing import PICTURES, printable
from recipes.errors import ConfigError

TABLE_SUFFIXES = (".arrow", ".parquet", ".tar")


@dataclass(frozen=True)
class EncodedImages:
    """A column of encoded images in a Hugging Face data set, by row."""

    images: Any  # datasets.Dataset of one column
    column: str
    fingerprint: str  # the data set's own

    def __len__(self) -> int:
        return len(self.images)

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


def labelled(
    tables: Mapping[str, Any],
    split: str,
    columns: tuple[str | None, str | None],
    location: str,
    expected: tuple[str, ...] | None = None,
    option: str = "train_split",
) -> ImageExamples:
    """A split of a Hugging Face data set.

    Args:
        tables: the splits.
        split: the one to read.
        columns: of images and of labels; None is found by name or type.
        location: how errors call the data set.
        expected: the classes of training, for another split than that.
        option: the setting that names the split, for errors.

    Raises:
        ConfigError: the split or a column is missing, or its labels are not those of training.
    """
    labels, class_names = labels_and_classes(tables, split, columns[1], location, expected, option)
    images = encoded_images(tables[split], columns[0], f"{location} ({split})")
    return ImageExamples(images, np.arange(len(images)), labels, class_names, f"{location} ({split})")


def encoded_images(table: Any, chosen: str | None, location: str) -> EncodedImages:
    """The column of images of a Hugging Face data set, encoded.

    Args:
        table: a `datasets.Dataset`.
        chosen: the column; None is `image`, or else the only one of images.
        location: how errors call the data set.

    Raises:
        ConfigError: there is no such column, or it holds no images.
    """
    from datasets import Image as ImageFeature

    name = column_name(table.features, chosen, "image", ImageFeature, location)
    try:
        encoded = table.select_columns([name]).cast_column(name, ImageFeature(decode=False))
    except Exception as error:  # pyarrow's and datasets' own errors
        raise ConfigError(f"{location}: column {name} holds no encoded images: {first_line(error)}") from None
    return EncodedImages(encoded, name, table._fingerprint)


def labels_and_classes(
    tables: Mapping[str, Any],
    split: str,
    chosen: str | None,
    location: str,
    expected: tuple[str, ...] | None,
    option: str,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of a split, int64 [N], and its classes' names, the expected ones where there are such."""
    from datasets import ClassLabel

    split_location = f"{location} ({split})"
    if split not in tables:
        raise ConfigError(f"{location} has no split {split}: set +data.options.{option} to one of {', '.join(tables)}")
    table = tables[split]
    label = column_name(table.features, chosen, "label", ClassLabel, split_location)
    values = table.select_columns([label]).with_format("numpy")[:][label]
    if isinstance(table.features[label], ClassLabel):
        class_names = tuple(table.features[label].names)
    elif values.dtype.kind in "iu" and len(values):
        class_names = expected or tuple(str(number) for number in range(int(values.max()) + 1))
    elif all(isinstance(value, str) for value in values):
        class_names = expected or tuple(sorted(set(values)))
        index_of = {name: index for index, name in enumerate(class_names)}
        values = np.array([index_of.get(name, -1) for name in values], np.int64)
    else:
        raise ConfigError(f"{split_location}: column {label} holds {values.dtype}, labels are whole numbers or names")
    if expected is not None and class_names != expected:
        raise ConfigError(
            f"{split_location} names {len(class_names)} classes, not the same as the {len(expected)} of training"
        )
    if not len(values):
        raise ConfigError(f"{split_location} has no rows: set +data.options.{option} to a split with images")
    if not 0 <= values.min() <= values.max() < len(class_names):
        raise ConfigError(
            f"{split_location}: some images have no label of the {len(class_names)} classes of training: set "
            "+data.options.test_split to a split with labels"
        )
    return values.astype(np.int64), class_names


def column_name(features: Mapping[str, Any], chosen: str | None, default: str, kind: type, location: str) -> str:
    """The chosen column, else the default one, else the only one of its kind."""
    of_kind = [name for name, feature in features.items() if isinstance(feature, kind)]
    name = chosen or (of_kind[0] if default not in features and len(of_kind) == 1 else default)
    if name not in features:
        raise ConfigError(
            f"{location} has no column {name}: set +data.options.{default}_column to one of {', '.join(features)}"
        )
    return name


def tables_in_folder(path: str, subset: str | None, train_split: str) -> Mapping[str, Any] | None:
    """The splits of a Hugging Face data set in a folder, or None where it holds class folders instead.

    A data set that was saved without splits is `train`.

    Raises:
        ConfigError: it holds neither, or cannot be read.
    """
    location, folder = f"data.path={path}", Path(path).expanduser().absolute()
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return load_saved(folder, location)
    splits = {state.parent.name: state.parent for state in folder.glob("*/state.json")}
    if splits:  # each split saved separately
        return {name: load_saved(split, location)["train"] for name, split in splits.items()}
    folders = [each for each in (folder, folder / "data", folder / train_split) if each.is_dir()]
    entries = [entry for each in folders for entry in each.iterdir() if not listing.is_hidden(entry.name)]
    if subset is not None or any(e.suffix.lower() in TABLE_SUFFIXES or e.stem == "metadata" for e in entries):
        from datasets import load_dataset

        try:
            return load_dataset(str(folder), subset)
        except Exception as error:  # datasets has no common error
            raise ConfigError(f"{location} cannot be read as a Hugging Face data set: {first_line(error)}") from None
    names = class_folder_names(folder)
    if class_folder_names(folder / train_split):
        return None
    if not {train_split, "train", *TEST_SPLITS} & set(names) and any(
        listing.has_files(folder / n, PICTURES) for n in names
    ):
        return None
    first_entries = ", ".join(sorted(printable(entry.name) for entry in folder.iterdir())[:5]) or "nothing"
    raise ConfigError(
        f"{location} has no class folders in {train_split}/ and no tables (found: {first_entries}): it has to hold "
        f"{FORMATS}"
    )


def tables_from_hub(hub: str, subset: str | None) -> Mapping[str, Any]:
    """The splits of a data set on the hub, from the cache where there is no network.

    Raises:
        ConfigError: the data set is not available, or `hub` is a local folder.
    """
    if Path(hub).is_dir():
        raise ConfigError(f"data.hub={hub} is a folder here: set data.path={hub}")
    advice = f"log in with `hf auth login` if it is gated, or set data.path to a folder that holds {FORMATS}"
    return from_hub(hub, subset, advice)

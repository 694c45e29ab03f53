"""Images and labels in the tables of Hugging Face data sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from recipes.data.hub import first_line
from recipes.data.images.examples import ImageExamples
from recipes.errors import ConfigError


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


def labelled(
    tables: Mapping[str, Any],
    split: str,
    columns: tuple[str | None, str | None],
    given: str,
    expected: tuple[str, ...] | None = None,
    option: str = "train_split",
) -> ImageExamples:
    """A split of a Hugging Face data set."""
    from datasets import Image as ImageFeature

    labels, class_names = labels_of(tables, split, columns[1], given, expected, option)
    table, place = tables[split], f"{given} ({split})"
    image = column(table.features, columns[0], "image", ImageFeature, place)
    try:
        encoded = table.select_columns([image]).cast_column(image, ImageFeature(decode=False))
    except Exception as error:  # pyarrow's and datasets' own errors
        raise ConfigError(f"{place}: column {image} holds no encoded images: {first_line(error)}") from None
    return ImageExamples(Table(encoded, image, table._fingerprint), np.arange(len(encoded)), labels, class_names, place)


def labels_of(
    tables: Mapping[str, Any],
    split: str,
    chosen: str | None,
    given: str,
    expected: tuple[str, ...] | None,
    option: str,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of a split, int64 [N], and its classes' names, the expected ones where there are such."""
    from datasets import ClassLabel

    place = f"{given} ({split})"
    if split not in tables:
        raise ConfigError(f"{given} has no split {split}: set +data.options.{option} to one of {', '.join(tables)}")
    table = tables[split]
    label = column(table.features, chosen, "label", ClassLabel, place)
    values = table.select_columns([label]).with_format("numpy")[:][label]
    if isinstance(table.features[label], ClassLabel):
        class_names = tuple(table.features[label].names)
    elif values.dtype.kind in "iu" and len(values):
        class_names = expected or tuple(str(number) for number in range(int(values.max()) + 1))
    elif all(isinstance(value, str) for value in values):
        class_names = expected or tuple(sorted(set(values)))
        number = {name: index for index, name in enumerate(class_names)}
        values = np.array([number.get(name, -1) for name in values], np.int64)
    else:
        raise ConfigError(f"{place}: column {label} holds {values.dtype}, labels are whole numbers or names")
    if expected is not None and class_names != expected:
        raise ConfigError(f"{place} names {len(class_names)} classes, not the same as the {len(expected)} of training")
    if not len(values):
        raise ConfigError(f"{place} has no rows: set +data.options.{option} to a split with images")
    if not 0 <= values.min() <= values.max() < len(class_names):
        raise ConfigError(
            f"{place}: some images have no label of the {len(class_names)} classes of training: set "
            "+data.options.test_split to a split with labels"
        )
    return values.astype(np.int64), class_names


def column(features: Mapping[str, Any], chosen: str | None, usual: str, kind: type, place: str) -> str:
    """The chosen column, else the one with the usual name, else the only one of its kind."""
    of_kind = [name for name, feature in features.items() if isinstance(feature, kind)]
    name = chosen or (of_kind[0] if usual not in features and len(of_kind) == 1 else usual)
    if name not in features:
        raise ConfigError(
            f"{place} has no column {name}: set +data.options.{usual}_column to one of {', '.join(features)}"
        )
    return name

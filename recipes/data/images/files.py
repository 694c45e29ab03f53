"""Labelled photographs for the paper's scale, above all ImageNet, read one by one from a disk.

They come from a folder of class folders (`path/train/<class>/*.jpg`, `path/val/<class>/*.jpg`), from a folder of
the Hugging Face formats (`save_to_disk`, Parquet, Arrow, WebDataset), or from the Hugging Face hub by name. The
official validation images are the test set; hyperparameters are chosen on `val`, images held out of training.
"""

from pathlib import Path

from recipes.data.images.examples import ImageExamples
from recipes.data.images.formats.class_folders import (
    FORMATS,
    TEST_SPLITS,
    class_folder_names,
    class_layout,
    read_class_folders,
)
from recipes.data.images.formats.tables import labelled, labels_and_classes, tables_from_hub, tables_in_folder
from recipes.data.images.holdout import with_held_out_splits
from recipes.data.images.imagenet_tests import imagenet_real, imagenet_v2
from recipes.data.location import location

HOLDS = "images with labels"  # matched with `learns_from` of recipes


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
    """The splits `train`, `val` and `test`, and on request the test sets `real` and `v2`.

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
        ConfigError: data are missing or invalid, or a setting is out of range.
    """
    del size  # it changes no file that is read
    name = location(hub, path, FORMATS)
    tables = tables_from_hub(str(hub), subset) if path is None else tables_in_folder(path, subset, train_split)
    splits: dict[str, ImageExamples] = {}
    if tables is None:
        assert path is not None
        layout = class_layout(path, train_split, val_split, test_split)
        for split, folder in sorted(layout.items(), key=lambda item: item[0] != "train"):
            expected = splits["train"].class_names if splits else None
            split_name = name if len(layout) == 1 else f"{name} ({folder.name})"
            splits[split] = read_class_folders(folder, split_name, expected)
    else:
        default_test = next((split for split in TEST_SPLITS if split in tables), None)
        table_names = {"train": train_split, "val": val_split, "test": test_split or default_test}
        columns = image_column, label_column
        for split, table_name in table_names.items():
            if table_name is not None:
                expected = splits["train"].class_names if splits else None
                splits[split] = labelled(tables, table_name, columns, name, expected, f"{split}_split")

    splits = with_held_out_splits(splits, val_fraction, val_size, name)
    if real_labels is not None:
        splits["real"] = imagenet_real(splits["test"], Path(real_labels).expanduser())
    if v2_path is not None:
        splits["v2"] = imagenet_v2(Path(v2_path).expanduser().absolute(), splits["train"].class_names)
    return splits


def class_names(
    path: str, *, train_split: str = "train", subset: str | None = None, label_column: str | None = None
) -> tuple[str, ...]:
    """The classes of the training images in a folder; opens no image.

    Raises:
        ConfigError: there are none.
    """
    name = location(None, path, FORMATS)
    tables = tables_in_folder(path, subset, train_split)
    if tables is None:
        return tuple(class_folder_names(class_layout(path, train_split, None, None)["train"]))
    return labels_and_classes(tables, train_split, label_column, name, None, "train_split")[1]

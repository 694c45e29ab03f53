"""Labelled images in class folders: `<class>/*.jpg`, or `<split>/<class>/*.jpg`."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recipes.data import listing
from recipes.data.images.examples import ImageExamples
from recipes.data.listing import PICTURES, printable
from recipes.errors import ConfigError

TEST_SPLITS = ("validation", "val", "test")  # the first that exists, unless the user names one
FORMATS = (
    "class folders (<class>/*.jpg, or train/<class>/*.jpg and val/<class>/*.jpg) or a data set saved by Hugging Face "
    "datasets"
)


def class_layout(path: str, train_split: str, val_split: str | None, test_split: str | None) -> dict[str, Path]:
    """The folder of each existing split: `train`, and optionally `val` and `test`; opens no image.

    Raises:
        ConfigError: a split that is named is missing, or there are no class folders.
    """
    root = Path(path).expanduser().absolute()
    if not class_folder_names(root / train_split):
        return {"train": root}  # class folders without splits
    layout = {"train": root / train_split}
    if test_split is None:
        existing = [name for name in TEST_SPLITS if (root / name).is_dir()]
        with_classes = [name for name in existing if class_folder_names(root / name)]
        test_split = next(iter([*with_classes, *existing]), None)
        if val_split is None and "test" in with_classes[1:]:  # a validation and a test split
            val_split, test_split = with_classes[0], "test"
    for name, split in (("val", val_split), ("test", test_split)):
        if split is not None:
            layout[name] = root / split
    used = {folder.name for folder in layout.values()}
    if unused := [name for name in class_folder_names(root) if name not in used]:
        others = ", ".join(map(printable, unused[:5]))
        listing.say(
            f"data.path={path}: of its folders {', '.join(sorted(used))} are read, not {others}; "
            "+data.options.val_split and test_split name others"
        )
    return layout


# Class folders


@dataclass(frozen=True)
class ImageFiles:
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


def class_folder_names(folder: Path) -> list[str]:
    """The folders in a folder, sorted, but for hidden ones and those of a saved data set."""
    try:
        names = sorted(
            entry.name for entry in os.scandir(folder) if entry.is_dir() and not listing.is_hidden(entry.name)
        )
    except OSError:
        return []
    return [name for name in names if not (folder / name / "state.json").is_file()]


def read_class_folders(folder: Path, location: str, expected: tuple[str, ...] | None = None) -> ImageExamples:
    """All images of a split; the classes are the sorted names of its folders, or those expected.

    Args:
        folder: of the class folders.
        location: how errors call it.
        expected: the classes of training, for another split than that.

    Raises:
        ConfigError: there are no class folders or images, or a class is not among the expected ones.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{location}: {folder} is missing: put its class folders there, or set +data.options.test_split"
        )
    folder_names = tuple(class_folder_names(folder))
    if not folder_names:
        raise ConfigError(f"{location}: {folder} holds no class folders: sort its images into {folder}/<class>/")
    class_names = folder_names if expected is None else expected
    if unknown := sorted(set(folder_names) - set(class_names)):
        raise ConfigError(
            f"{location}: {folder} has {len(folder_names)} class folders, training has {len(class_names)} and no "
            f"{printable(unknown[0])}: remove it here, or give training images of it"
        )
    names: list[bytes] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    empty_classes = []
    for label, class_name in enumerate(class_names):
        files = listing.list_files(folder / class_name, PICTURES) if class_name in folder_names else listing.Listing()
        left_out += files.left_out
        if not files.paths:
            empty_classes.append(class_name)
            if expected is None:
                others = f" but {files.summary()}" if files.left_out else ""
                raise ConfigError(
                    f"{location}: the class folder {printable(folder / class_name)} holds no images{others}: fill it, "
                    f"or remove it in all splits; read are {', '.join(PICTURES)}"
                )
        names += [os.fsencode(f"{class_name}/{name}") for name in files.paths]
        labels += [label] * len(files.paths)
    listing.Listing([], left_out).say(location)
    if not names:
        raise ConfigError(f"{location}: {folder} holds no images: fill its class folders, or remove it")
    if empty_classes:
        first = ", ".join(map(printable, empty_classes[:5])) + (", ..." if len(empty_classes) > 5 else "")
        listing.say(f"{location}: {len(empty_classes)} of {len(class_names)} classes have no images here: {first}")
    source = ImageFiles(folder, np.array(names))
    return ImageExamples(source, np.arange(len(names)), np.array(labels, np.int64), class_names, location)

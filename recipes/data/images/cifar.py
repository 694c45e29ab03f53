"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in memory: 32x32 images, 5,000 of the 50,000 held out to validate.

They come from CIFAR's own files, in the version for Python (`cifar-10-batches-py`, `cifar-100-python`) or the binary
one (`cifar-10-batches-bin`, `cifar-100-binary`), or from whatever recipes/data/images/files.py reads.
"""

from pathlib import Path

import numpy as np

from recipes.data.images import files
from recipes.data.images.arrays import ImageArrays
from recipes.data.images.examples import ImageExamples
from recipes.data.listing import printable
from recipes.errors import ConfigError

HOLDS = "images with labels"  # matched with `learns_from` of recipes
SIDE = 32  # pixels
VALIDATION = 5_000  # images
BINARY = {"data_batch_1.bin": 1, "train.bin": 2}  # the first file of each binary version, and its labels a row


def load(
    hub: str | None = None,
    path: str | None = None,
    *,
    size: int = SIDE,
    val_size: int = VALIDATION,
    image_column: str | None = None,
    label_column: str | None = None,
) -> dict[str, ImageArrays]:
    """The splits `train`, `val` and `test`; `val` is held out of training, the same images every time.

    Args:
        hub: the data set's name on the Hugging Face hub.
        path: a folder of CIFAR's own files or its parent, or another folder that `files.load` reads.
        size: height and width in pixels, 32; recipes read it where the model has no such argument.
        val_size: images to validate on.
        image_column: of a Hugging Face data set, see `files.load`.
        label_column: likewise.

    Raises:
        ConfigError: the data are missing, damaged, or not of 32x32 pixels.
    """
    if size != SIDE:
        raise ConfigError(f"data.options.size={size}: CIFAR's images have {SIDE} pixels a side")
    original = None if path is None else _own_files(Path(path).expanduser())
    if original is None:
        splits = files.load(hub, path, val_size=val_size, image_column=image_column, label_column=label_column)
        return {name: _decoded(split) for name, split in splits.items()}
    train, test = original
    if not 0 < val_size < len(train):
        raise ConfigError(f"data.options.val_size={val_size} must be at least 1 and below {len(train)}")
    order = np.random.default_rng(0).permutation(len(train))
    parts = {"train": np.sort(order[val_size:]), "val": np.sort(order[:val_size])}
    arrays = {name: ImageArrays(train.images[i], train.labels[i], train.class_names) for name, i in parts.items()}
    return arrays | {"test": test}


def _own_files(folder: Path) -> tuple[ImageArrays, ImageArrays] | None:
    """The images to train and to test on from CIFAR's own files in a folder or one below it, or None."""
    for place in (folder, *sorted(child for child in folder.glob("cifar-*") if child.is_dir())):
        for first, labels in BINARY.items():
            if (place / first).is_file():
                return _binary(place, labels)
        if (place / "data_batch_1").is_file() or (place / "train").is_file():
            return _pickled(place)
    return None


def _pickled(folder: Path) -> tuple[ImageArrays, ImageArrays]:
    """The version for Python; torchvision reads it once its checksums are right, since a pickle may run code."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if (folder / "data_batch_1").is_file() else CIFAR100
    reader = type(kind.__name__, (kind,), {"base_folder": folder.name})
    try:
        splits = [reader(str(folder.parent), train=train) for train in (True, False)]
    except (RuntimeError, OSError):
        raise ConfigError(f"data.path={folder} is not a complete copy of {kind.__name__}: unpack it again") from None
    train, test = (ImageArrays(split.data, np.array(split.targets, np.int64), tuple(split.classes)) for split in splits)
    return train, test


def _binary(folder: Path, labels: int) -> tuple[ImageArrays, ImageArrays]:
    """The binary version: rows of one label, or a coarse and a fine one, and 3,072 bytes of red, green and blue."""
    train = sorted(folder.glob("data_batch_*.bin")) if labels == 1 else [folder / "train.bin"]
    test = folder / ("test_batch.bin" if labels == 1 else "test.bin")
    names_file = folder / ("batches.meta.txt" if labels == 1 else "fine_label_names.txt")
    names = tuple(names_file.read_text().split()) if names_file.is_file() else ()
    splits = []
    for paths in (train, [test]):
        try:
            rows = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, labels + 3 * SIDE**2) for file in paths])
        except (OSError, ValueError):
            raise ConfigError(f"data.path={folder} is not a complete copy of CIFAR: unpack it again") from None
        images = rows[:, labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        targets = rows[:, labels - 1].astype(np.int64)
        names = names or tuple(map(str, range(targets.max() + 1)))
        if targets.max() >= len(names):
            raise ConfigError(f"data.path={folder}: label {targets.max()} where there are {len(names)} classes")
        splits.append(ImageArrays(np.ascontiguousarray(images), targets, names))
    return splits[0], splits[1]


def _decoded(split: ImageExamples) -> ImageArrays:
    """Images of files or tables, decoded."""
    images, labels = [], []
    for index in range(len(split)):
        image, label = split[index]
        pixels = np.asarray(image.convert("RGB"))
        if pixels.shape != (SIDE, SIDE, 3):
            raise ConfigError(
                f"{printable(split.location)}: image {index} has {pixels.shape[1]}x{pixels.shape[0]} pixels, and "
                f"data=cifar10 and cifar100 read {SIDE}x{SIDE}; data=imagenet reads other pictures"
            )
        images.append(pixels)
        labels.append(int(label))
    return ImageArrays(np.stack(images), np.array(labels, np.int64), split.class_names)

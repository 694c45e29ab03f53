"""Labelled images that are decoded on access."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from recipes.data import listing
from recipes.data.images.decoding import UnreadableError, decode
from recipes.data.listing import printable
from recipes.errors import ConfigError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MAX_CONSECUTIVE_UNREADABLE = 10  # more unreadable images than this side by side end the run

# Where a model's images are this small or smaller, decoded ones are kept in memory.
SMALL_SIZE = 64  # pixels a side
CACHED_PIXELS = 1 << 26  # of each split, 256 MB


class Source(Protocol):
    """Encoded images by row."""

    @property
    def fingerprint(self) -> str:
        """A hash of the images, or of their names and sizes."""
        ...

    def name(self, row: int) -> str:
        """The name of an image in messages."""
        ...

    def names(self) -> list[str]:
        """The names of all."""
        ...

    def open(self, row: int) -> str | BytesIO:
        """The encoded bytes, or the path of the file that holds them."""
        ...


class ImageExamples:
    """Images with labels, decoded when accessed.

    An unreadable image is replaced by the next readable one with that one's label, always the same, and reported once
    in one line. Loader workers each keep their own account.

    Args:
        source: the encoded images.
        rows: int64 [N], which of them, in order.
        labels: int64 [N], or bool [N, classes] where several labels are right.
        class_names: one name per class.
        location: how errors call the data, such as "data.path=/data/imagenet (train)".

    Attributes:
        corrupt: indices of the unreadable images met so far in this process.
    """

    def __init__(
        self, source: Source, rows: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], location: str
    ) -> None:
        self.source, self.rows, self.labels = source, rows, labels
        self.class_names, self.location = class_names, location
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
        for step in range(MAX_CONSECUTIVE_UNREADABLE + 1):
            candidate = (index + step) % len(self)
            if candidate not in self.corrupt:
                try:
                    image = self._decoded(int(self.rows[candidate]))
                except UnreadableError as error:
                    self._mark_unreadable(candidate, error)
                else:
                    label = self.labels[candidate]
                    return image, label if self.labels.ndim > 1 else int(label)
        raise ConfigError(
            f"{self.location}: more than {MAX_CONSECUTIVE_UNREADABLE} images in a row cannot be read, from "
            f"{self._name(index)} on: "
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

    def subset(self, mask: np.ndarray) -> ImageExamples:
        """The examples where the mask, bool [N], is true."""
        return ImageExamples(self.source, self.rows[mask], self.labels[mask], self.class_names, self.location)

    def _decoded(self, row: int) -> Image.Image:
        try:
            return decode(self.source.open(row))
        except (OSError, ValueError) as error:  # no such row, or a file that has gone
            raise UnreadableError(str(error)) from None

    def _name(self, index: int) -> str:
        return printable(self.source.name(int(self.rows[index])))

    def _mark_unreadable(self, index: int, error: Exception) -> None:
        from torch.utils.data import get_worker_info

        self.corrupt.add(index)
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: left out %s, which cannot be read: %s", self.location, self._name(index), reason)
        worker = get_worker_info()
        share = len(self) / (worker.num_workers if worker else 1)  # a worker reads only its share of the images
        if not listing.tolerable(len(self.corrupt), share):
            raise ConfigError(
                f"{self.location}: {len(self.corrupt)} images cannot be read, {self._name(index)} among them "
                f"({reason}); up to {listing.TOLERATED} are left out: repair, convert or remove them"
            )


class ReducedImages:
    """Decoded images for a model of small ones: reduced once to about four times its size and kept in memory.

    A crop of 5% of an image's area, the smallest that training takes, then still has about the model's pixels.

    Args:
        examples: the images.
        size: height and width of the model's, in pixels.
    """

    def __init__(self, examples: ImageExamples, size: int) -> None:
        self.examples, self.side = examples, 4 * size
        self._cached: dict[int, tuple[Image.Image, int | np.ndarray]] = {}
        self._free_pixels = CACHED_PIXELS

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int | np.ndarray]:
        """An RGB image, no side of which is shorter than the smaller of its own and four times the size; its label."""
        if index in self._cached:
            return self._cached[index]
        image, label = self.examples[index]
        if (factor := min(image.size) // self.side) > 1:
            image = image.reduce(factor)
        if image.width * image.height <= self._free_pixels:
            self._cached[index] = image, label
            self._free_pixels -= image.width * image.height
        return image, label

    def fingerprint(self) -> str:
        """The data set's own."""
        return self.examples.fingerprint()


def for_size(examples: ImageExamples, size: int) -> ImageExamples | ReducedImages:
    """The images as a model of this size reads them: from memory where it is small."""
    return ReducedImages(examples, size) if size <= SMALL_SIZE else examples


class TransformedImages:
    """Images under a transform without random draws, which those of small models undergo once.

    Args:
        examples: the images.
        transform: of a PIL image to a tensor [3, size, size].
        size: height and width of what it makes, in pixels.
    """

    def __init__(self, examples: ImageExamples, transform: Callable[[Image.Image], torch.Tensor], size: int) -> None:
        self.examples, self.transform = examples, transform
        self._cached: dict[int, tuple[torch.Tensor, int | np.ndarray]] = {}
        self._capacity = CACHED_PIXELS // size**2 if size <= SMALL_SIZE else 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | np.ndarray]:
        """The transformed image and its label."""
        if index in self._cached:
            return self._cached[index]
        image, label = self.examples[index]
        example = self.transform(image), label
        if len(self._cached) < self._capacity:
            self._cached[index] = example
        return example

    def fingerprint(self) -> str:
        """The data set's own."""
        return self.examples.fingerprint()

"""Labelled images in memory: the type of all embedded image data sets."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageArrays:
    """One split of an image data set.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: int64 [N], indices into `class_names`.
        class_names: one name per class, in the order of the labels.
        captions: one text per image, for data that have them.

    Raises:
        ValueError: shapes, dtypes or lengths do not fit each other.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    captions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(f"images are {self.images.dtype} {self.images.shape}, expected uint8 [N, H, W, C]")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}, expected int64 [{len(self.images)}]")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f"labels lie in {self.labels.min()}..{self.labels.max()}, there are {len(self.class_names)} classes"
            )
        if self.captions is not None and len(self.captions) != len(self):
            raise ValueError(f"{len(self.captions)} captions for {len(self)} images")

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """The first 16 hex digits of a SHA-256 over shapes, pixels, labels, class names and captions."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels.astype("<i8")):
            digest.update(repr(array.shape).encode())
            digest.update(array.tobytes())
        for texts in (self.class_names, self.captions):
            digest.update(repr(texts).encode())
        return digest.hexdigest()[:16]


def channels_first(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] as models want them, [N, C, H, W], copied into that order in memory."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Square images with a black border up to the next multiple of `size`, then averaged in blocks down to it.

    Args:
        images: uint8 [N, H, H, C].
        size: height and width of what is returned, uint8 [N, size, size, C].
    """
    count, side, _, channels = images.shape
    factor = -(-side // size)
    border = factor * size - side
    edges = (border // 2, border - border // 2)
    if border:
        images = np.pad(images, ((0, 0), edges, edges, (0, 0)))
    if factor == 1:
        return images
    blocks = images.reshape(count, size, factor, size, factor, channels)
    return np.rint(blocks.mean((2, 4))).astype(np.uint8)

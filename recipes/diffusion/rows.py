"""Examples of diffusion models: images, and for evaluation each image's fixed noise."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipes.data.images.examples import ImageExamples, TransformedImages
from recipes.data.images.transforms import eval_transform
from recipes.training.sampler import Batch, Key, draw


class EvaluationRows:
    """A split's images in turn, each with a seed and with noise that are the same at every evaluation.

    Args:
        rows: the split's.
        shape: of the noise, [C, H, W].
        split: its name; each split has different noise.
        number: of rows. Fewer than the split has are spread over it evenly, since neighbours may be alike; if there are
            more, images are repeated with other noise. None is one for each image.
        evaluated_by: fingerprints of what evaluates the images that are generated in their place.
    """

    def __init__(
        self,
        rows: Any,
        shape: tuple[int, int, int],
        split: str,
        number: int | None = None,
        evaluated_by: Sequence[str] = (),
    ) -> None:
        self.rows, self.shape, self.split, self.number = rows, shape, split, number or len(rows)
        self.evaluated_by = list(evaluated_by)

    def __len__(self) -> int:
        return self.number

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = [index for _, index in keys]
        spread = max(self.number, len(self.rows))
        batch: Batch = self.rows.__getitems__([(i, i * spread // self.number % len(self.rows)) for i in index])
        return batch | initial_noise([row_seed(self.split, i) for i in index], self.shape)

    def fingerprint(self) -> str:
        """A hash of the split and the feature extractor: metrics by different extractors are not comparable."""
        parts = " ".join([self.rows.fingerprint(), *self.evaluated_by])
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


class ImageFileRows:
    """Image files: the smaller side resized, the central square, mirrored at random to train; uint8."""

    def __init__(self, images: ImageExamples, size: int, seed: int, *, mirrored: bool) -> None:
        self.images = TransformedImages(images, eval_transform(size, crop=1.0), size)
        self.seed, self.mirrored = seed, mirrored

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = [], []
        for position, index in keys:
            pixels, label = self.images[index]
            if self.mirrored:
                pixels = draw(lambda p: p.flip(-1) if torch.rand(()) < 0.5 else p, pixels, self.seed, position)
            images.append(pixels)
            labels.append(label)
        return {"image": torch.stack(images), "label": torch.as_tensor(np.asarray(labels))}

    def fingerprint(self) -> str:
        """The data set's own."""
        return self.images.fingerprint()


def row_seed(split: str, index: int) -> int:
    """The seed of a row's noise, independent of batch and process; below 2^63."""
    return int.from_bytes(hashlib.sha256(f"{split} {index}".encode()).digest()[:8]) >> 1


def row_noise(seeds: Sequence[int], shape: Sequence[int], stream: int = 1) -> Tensor:
    """Standard normal float32 [B, C, H, W], a row's from its seed alone; streams are independent."""
    rows = [np.random.default_rng([stream, seed]).standard_normal(tuple(shape), np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Batch:
    """What an image is made from: its seed, and the noise that it begins with."""
    return {"noise": row_noise(seeds, shape), "seed": torch.tensor(seeds, dtype=torch.int64)}

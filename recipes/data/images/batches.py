"""Batches of labelled images: arrays in memory or files on a disk, with the augmentation of training.

Pixels are bytes here, and become numbers where the model is (`recipes.data.images.transforms.pixels`).
Random draws of an example follow from the seed and its position in the run, independent of the process that loads it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from timm.data.auto_augment import rand_augment_transform
from torch.nn import functional as F

from recipes.data.images.arrays import ImageArrays, channels_first
from recipes.data.images.examples import ImageExamples, for_size
from recipes.data.images.transforms import eval_transform, train_transform
from recipes.training.sampler import Batch, Key, draw


def offsets(keys: Sequence[Key], shift: int, seed: int) -> torch.Tensor:
    """Whole-pixel translations in [0, 2 shift], one pair an example: a hash of the seed and its position.

    A counter-based hash (splitmix64) instead of a generator, so that a batch is one array operation and an example
    is moved the same way whichever process loads it. The low 24 bits of the seed count in steps of 2^40 positions,
    those above are hashed into the result, so that no two seeds share their translations.
    """
    word = _words(keys, seed)
    span = np.uint64(2 * shift + 1)
    pairs = np.stack([word % span, (word >> np.uint64(32)) % span], axis=1)
    return torch.from_numpy(pairs.astype(np.int64))


def mirrored(image: torch.Tensor, keys: Sequence[Key], seed: int) -> torch.Tensor:
    """Images [B, C, H, W], about half of them with left and right exchanged: by a second hash of seed and position."""
    with np.errstate(over="ignore"):
        chosen = _mixed(_words(keys, seed)) >> np.uint64(63)
    return torch.where(torch.from_numpy(chosen.astype(bool))[:, None, None, None], image.flip(3), image)


def _words(keys: Sequence[Key], seed: int) -> np.ndarray:
    """A hash of the seed and each example's position, uint64 [B]."""
    positions = np.array([position for position, _ in keys], dtype=np.uint64)
    low, high = seed % (1 << 24), (seed >> 24) % (1 << 64)
    with np.errstate(over="ignore"):
        word = _mixed(positions + np.uint64(low) * np.uint64(1 << 40) + np.uint64(1))
        return _mixed(word ^ _mixed(np.array(high, np.uint64))) if high else word


def _mixed(word: np.ndarray) -> np.ndarray:
    """The hash splitmix64 of uint64 words."""
    word = word * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def shifted(image: torch.Tensor, offset: torch.Tensor, shift: int) -> torch.Tensor:
    """Each image, uint8 [B, C, H, W], cut from itself with a black border of `shift` pixels, at an offset [B, 2]."""
    batch, _, height, width = image.shape
    places = F.pad(image, (shift, shift, shift, shift)).unfold(2, height, 1).unfold(3, width, 1)
    moved = places[torch.arange(batch), :, offset[:, 0], offset[:, 1]]
    # Images of one channel lie in two orders at once. Convolutions choose their kernel, and with it the last bits of
    # their sums, by the strides.
    return moved.clone(memory_format=torch.contiguous_format)


class TensorImages:
    """Arrays held as tensors of bytes: a batch is one indexing, and one more where images are shifted.

    Args:
        arrays: of one split.
        shift: of the random translations, in pixels.
        seed: of all draws.
        flip: whether images are mirrored at random.
    """

    def __init__(self, arrays: ImageArrays, shift: int = 0, seed: int = 0, flip: bool = False) -> None:
        self.image, self.label = torch.from_numpy(channels_first(arrays.images)), torch.from_numpy(arrays.labels)
        self.shift, self.seed, self.flip = shift, seed, flip
        self._fingerprint = arrays.fingerprint()

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = torch.tensor([index for _, index in keys])
        return {"image": self._moved(self.image[index], keys), "label": self.label[index]}

    def _moved(self, image: torch.Tensor, keys: Sequence[Key]) -> torch.Tensor:
        if self.shift:
            image = shifted(image, offsets(keys, self.shift, self.seed), self.shift)
        return mirrored(image, keys, self.seed) if self.flip else image

    def fingerprint(self) -> str:
        """A hash of the images and labels."""
        return self._fingerprint


class AugmentedArrays(TensorImages):
    """Arrays under RandAugment, with new draws at each position in the run.

    Args:
        arrays: to train on.
        randaugment: timm's notation.
        shift: of the random translations, in pixels.
        seed: of all draws.
        flip: whether images are mirrored at random.
    """

    def __init__(self, arrays: ImageArrays, randaugment: str, shift: int, seed: int, flip: bool = False) -> None:
        super().__init__(arrays, shift, seed, flip)
        self.images = arrays.images
        self.transform = rand_augment_transform(randaugment, {"img_mean": (0, 0, 0)})

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        augmented = np.stack([self._augmented(position, index) for position, index in keys])
        image = self._moved(torch.from_numpy(channels_first(augmented)), keys)
        return {"image": image, "label": self.label[torch.tensor([index for _, index in keys])]}

    def _augmented(self, position: int, index: int) -> np.ndarray:
        from PIL import Image

        pixels = self.images[index]
        image = Image.fromarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels)
        return np.asarray(draw(self.transform, image, self.seed, position))[..., : pixels.shape[2]]


class DecodedImages:
    """Image files, decoded and transformed one by one.

    Args:
        images: of one split.
        size: height and width of the model's images in pixels.
        train: with random crops and flips, instead of the central crop.
        randaugment: timm's notation, to train with; or None.
        seed: of the random draws.
    """

    def __init__(
        self, images: ImageExamples, size: int, *, train: bool, randaugment: str | None = None, seed: int = 0
    ) -> None:
        self.images, self.seed = for_size(images, size), seed
        self.transform = train_transform(size, randaugment) if train else eval_transform(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = [], []
        for position, index in keys:
            image, label = self.images[index]
            images.append(draw(self.transform, image, self.seed, position))
            labels.append(label)
        return {"image": torch.stack(images), "label": torch.as_tensor(np.asarray(labels))}

    def fingerprint(self) -> str:
        """The data set's own."""
        return self.images.fingerprint()

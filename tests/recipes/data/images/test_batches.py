"""Batches of images in memory: bytes, translations and RandAugment by position."""

from typing import Any

import numpy as np
import pytest
import torch

from recipes.data.images import mnist5k
from recipes.data.images.arrays import ImageArrays
from recipes.data.images.batches import AugmentedArrays, TensorImages, mirrored, offsets, shifted
from recipes.training.execution.device_layout import Placement


def keys(first: int, count: int) -> list[tuple[int, int]]:
    return [(position, position % 100) for position in range(first, first + count)]


def test_offsets_cover_their_range_evenly() -> None:
    drawn = offsets(keys(0, 20_000), 2, seed=3)
    for axis in (0, 1):
        counts = torch.bincount(drawn[:, axis], minlength=5)
        assert counts.shape == (5,)
        assert counts.min() > 3_700  # 4,000 expected, standard deviation 57
        assert counts.max() < 4_300
    together = torch.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25)
    assert together.min() > 650  # 800 expected, standard deviation 28: rows and columns do not hang together


def test_offsets_follow_seed_and_position_however_a_batch_is_split() -> None:
    whole = offsets(keys(0, 64), 3, seed=1)
    assert torch.equal(torch.cat([offsets(keys(0, 10), 3, 1), offsets(keys(10, 54), 3, 1)]), whole)
    assert not torch.equal(offsets(keys(0, 64), 3, seed=2), whole)


def test_seeds_below_two_to_the_24_keep_their_translations_and_no_two_seeds_share_them() -> None:
    """By splitmix64 in whole numbers of Python; published runs have small seeds."""

    def mixed(word: int) -> int:
        word = word * 0x9E3779B97F4A7C15 % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    for seed in (0, 1, 1001, 2**24 - 1):
        words = [mixed((position + seed * 2**40 + 1) % 2**64) for position in range(64)]
        expected = [[word % 7, (word >> 32) % 7] for word in words]
        assert offsets(keys(0, 64), 3, seed).tolist() == expected
    seeds = [5, 5 + 2**24, 5 + 2**25, 5 + 2**40, 5 + 2**63, 5 + 2**80]
    assert len({str(offsets(keys(0, 64), 3, seed).tolist()) for seed in seeds}) == len(seeds)


def test_shifting_is_cutting_from_a_bordered_image() -> None:
    torch.manual_seed(0)
    image, offset = torch.randint(1, 256, (5, 2, 6, 7), dtype=torch.uint8), torch.randint(0, 5, (5, 2))
    moved = shifted(image, offset, 2)
    assert moved.stride() == (84, 42, 7, 1)
    assert shifted(image[:, :1], offset, 2).stride() == (42, 42, 7, 1)
    for n in range(5):
        down, right = offset[n].tolist()
        for row in range(6):
            for column in range(7):
                y, x = row + down - 2, column + right - 2
                inside = 0 <= y < 6 and 0 <= x < 7
                expected = image[n, :, y, x].tolist() if inside else [0, 0]
                assert moved[n, :, row, column].tolist() == expected


@pytest.mark.parametrize("more", [{}, {"randaugment": "rand-m9-n2", "shift": 1}], ids=["plain", "augmented"])
def test_pictures_are_bytes_until_they_are_on_the_device(more: dict[str, Any]) -> None:
    """There they are what dividing by 127.5 and taking 1 away makes of them, to the bit: published runs began so."""
    arrays = ImageArrays(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), np.zeros(1, np.int64), ("a",))
    batch = (AugmentedArrays(arrays, seed=0, **more) if more else TensorImages(arrays)).__getitems__([(0, 0)])
    assert batch["image"].dtype == torch.uint8
    placed = Placement(torch.device("cpu"))(batch)["image"]
    assert placed.shape == (1, 1, 16, 16)
    assert torch.equal(placed, batch["image"] / 127.5 - 1)
    if not more:
        assert batch["image"].flatten().tolist() == list(range(256))


def test_augmentation_follows_the_position_however_a_batch_is_split(tiny) -> None:
    cfg = tiny("augment=randaug_mixup", "augment.shift=1")
    augmented = AugmentedArrays(mnist5k.load()["train"], cfg.augment.randaugment, cfg.augment.shift, seed=0)
    whole = augmented.__getitems__(keys(0, 12))["image"]
    parts = [augmented.__getitems__(keys(0, 5))["image"], augmented.__getitems__(keys(5, 7))["image"]]
    assert torch.equal(torch.cat(parts), whole)
    # Another position of the same example is another picture.
    again = augmented.__getitems__([(position + 100, index) for position, index in keys(0, 12)])["image"]
    assert not torch.equal(again, whole)
    plain = TensorImages(mnist5k.load()["train"]).__getitems__(keys(0, 12))["image"]
    assert not torch.equal(whole, plain)


def test_flips_mirror_about_half_and_follow_seed_and_position() -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1)
    arrays = ImageArrays(images, np.zeros(2, np.int64), ("a",))
    plain, flipping = TensorImages(arrays), TensorImages(arrays, seed=5, flip=True)
    keys = [(position, 1) for position in range(2000)]
    original = plain.__getitems__(keys[:1])["image"][0]
    drawn = flipping.__getitems__(keys)["image"]
    mirrored = torch.tensor([torch.equal(image, original.flip(2)) for image in drawn])
    assert all(torch.equal(image, original) for image in drawn[~mirrored])
    assert abs(mirrored.sum().item() - 1000) < 4 * np.sqrt(500)  # four deviations of a fair coin
    again = flipping.__getitems__(keys[700:900])["image"]
    assert torch.equal(again, drawn[700:900])
    assert not torch.equal(TensorImages(arrays, seed=6, flip=True).__getitems__(keys)["image"], drawn)


def test_flips_are_independent_of_shifts() -> None:
    keys = [(position, 0) for position in range(4000)]
    to_the_left = offsets(keys, 1, 3)[:, 1] == 0
    image = torch.zeros(len(keys), 1, 1, 2)
    image[..., 1] = 1
    flipped = mirrored(image, keys, 3)[:, 0, 0, 0] == 1
    share = (flipped & to_the_left).sum() / to_the_left.sum()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(to_the_left.sum().item())

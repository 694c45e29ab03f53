import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.images.arrays import ImageArrays


def arrays(**changes) -> ImageArrays:
    fields = {
        "images": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1),
        "labels": np.array([0, 1]),
        "class_names": ("a", "b"),
        "captions": ("an a", "a b"),
    }
    return ImageArrays(**(fields | changes))


def test_length_is_the_number_of_images():
    assert len(arrays()) == 2


def test_fingerprint_is_16_hex_digits_and_repeats():
    assert arrays().fingerprint() == arrays().fingerprint()
    assert len(arrays().fingerprint()) == 16
    int(arrays().fingerprint(), 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((2, 3, 4, 1), np.uint8)},
        {"images": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 4, 3, 1)},  # the same bytes
        {"labels": np.array([1, 0])},
        {"class_names": ("a", "c")},
        {"captions": ("an a", "another b")},
        {"captions": None},
    ],
)
def test_fingerprint_changes_with_each_part(changes):
    assert arrays(**changes).fingerprint() != arrays().fingerprint()


@given(st.integers(0, 23), st.integers(1, 255))
def test_fingerprint_changes_with_any_pixel(position, flip):
    images = arrays().images.copy()
    images.flat[position] ^= np.uint8(flip)
    assert arrays(images=images).fingerprint() != arrays().fingerprint()


def test_fingerprint_does_not_depend_on_memory_layout():
    strided = np.repeat(arrays().images, 2, axis=1)[:, ::2]
    assert arrays(images=strided).fingerprint() == arrays().fingerprint()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": np.zeros((2, 3, 4, 1), np.float32)}, "expected uint8"),
        ({"images": np.zeros((2, 3, 4), np.uint8)}, r"expected uint8 \[N, H, W, C\]"),
        ({"labels": np.array([0, 1], np.int32)}, r"expected int64 \[2\]"),
        ({"labels": np.array([0, 1, 1])}, r"expected int64 \[2\]"),
        ({"labels": np.array([0, 2])}, "there are 2 classes"),
        ({"labels": np.array([-1, 0])}, "there are 2 classes"),
        ({"captions": ("one",)}, "1 captions for 2 images"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        arrays(**changes)


def test_a_split_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        arrays().labels = np.array([1, 1])

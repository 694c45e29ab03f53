"""Decoding of single pictures, against plain arithmetic on the pixels that were saved."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.data import listing
from recipes.data.images import examples, files
from recipes.data.images.decoding import UnreadableError, decode
from tests.recipes.data import made_up

KINDS = [(file_format, mode) for file_format, modes in made_up.MODES.items() for mode in modes]


def check(decoded: Image.Image, picture: made_up.Picture) -> None:
    assert decoded.mode == "RGB"
    assert picture.rgb is not None
    found = np.asarray(decoded).astype(float)
    assert found.shape == picture.rgb.shape
    assert np.abs(found - picture.rgb).max() <= picture.tolerance


@pytest.mark.parametrize(("file_format", "mode"), KINDS)
def test_every_kind_of_picture(file_format: str, mode: str) -> None:
    for seed in range(4):
        picture = made_up.picture(np.random.default_rng(seed), file_format, mode)
        if picture.rgb is None:
            with pytest.raises(UnreadableError, match="of no known range: save it with 8 or 16 bits"):
                decode(io.BytesIO(picture.content))
        else:
            check(decode(io.BytesIO(picture.content)), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_exif_orientation_is_applied_once(file_format: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16], pixels[:8, 16:], pixels[8:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    settings = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}.get(file_format, {})
    Image.fromarray(pixels).save(file, file_format, exif=exif, **settings)
    seen = np.asarray(decode(file)).astype(float)
    assert seen.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    assert np.abs(seen - made_up.turned(pixels, orientation)).mean() < 3


def test_sixteen_bits_keep_their_range() -> None:
    """The picture by which they were found white in silence: a ramp has a mean of half."""
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 4800).reshape(60, 80).astype("uint16")).save(file, "PNG")
    pixels = np.asarray(decode(file)).astype(float)
    assert abs(pixels.mean() - 127.5) < 0.5
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_damaged_bytes_are_unreadable_and_raise_no_other_error() -> None:
    decoded = unreadable = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        content = bytearray(made_up.picture(rng).content)
        for _ in range(int(rng.integers(1, 20)) if seed % 2 else 1):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        if seed % 2:
            content = content[: int(rng.integers(1, len(content) + 1))]
        try:
            image = decode(io.BytesIO(bytes(content)))
        except UnreadableError:
            unreadable += 1
        else:
            assert image.mode == "RGB"
            decoded += 1
    assert unreadable
    assert decoded


def folder_of_pictures(root: Path, seed: int, number: int) -> dict[bytes, made_up.Picture]:
    """Two class folders of random pictures with random names, and files that are none."""
    rng = np.random.default_rng(seed)
    expected = {}
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
    for index in range(number):
        picture = made_up.picture(rng)
        if picture.rgb is None:
            continue
        path = b"%s/%s" % (rng.choice([b"a", b"b"]), made_up.name(rng, picture.suffix, index))
        Path(os.fsdecode(os.fsencode(root) + b"/" + path)).write_bytes(picture.content)
        expected[path] = picture
    for label in ("a", "b"):
        (root / label / "broken.jpg").symlink_to(root / "nowhere.jpg")
        (root / label / "noted").write_text("no suffix")
        (root / label / "photo.heic").write_bytes(b"x")
        (root / label / "up").symlink_to(root / label)
        os.mkfifo(root / label / "pipe.png")
        for hidden in ("._x.png", ".DS_Store"):
            (root / label / hidden).write_bytes(b"junk")
        for folder in (".ipynb_checkpoints", "__MACOSX"):
            (root / label / folder).mkdir()
            (root / label / folder / "x.png").write_bytes(b"junk")
    return expected


def read_all(root: Path, seed: int, number: int) -> None:
    expected = folder_of_pictures(root, seed, number)
    splits = files.load(path=str(root))
    found: set[bytes] = set()
    for split in splits.values():
        for index, row in enumerate(split.rows):
            path = bytes(split.source.paths[row])
            image, label = split[index]
            check(image, expected[path])
            assert split.class_names[label] == path.partition(b"/")[0].decode()
            found.add(path)
        assert not split.corrupt
    assert found == set(expected)


def test_a_folder_of_twenty_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_all(tmp_path / "mine", seed=1, number=20)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        f"data.path={tmp_path}/mine: left out 10 files: 2 .heic, 2 broken link, 2 link to a folder above, "
        "2 named pipe, 2 without a suffix"
    )


@pytest.mark.slow
def test_two_hundred_pictures(tmp_path: Path) -> None:
    for seed in range(5):
        read_all(tmp_path / str(seed), seed=100 + seed, number=240)


def test_names_are_shown_in_one_line() -> None:
    assert listing.printable("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert listing.printable(os.fsdecode(b"\xffx")) == "\\xffx"
    assert listing.printable("häßlich 日本") == "häßlich 日本"


def test_small_pictures_come_from_memory_with_the_pixels_of_block_means(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (300, 260, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    train = files.load(path=str(tmp_path), val_size=1)["train"]
    reduced = examples.for_size(train, 28)
    assert examples.for_size(train, 224) is train
    image, label = reduced[0]
    assert image.size == (130, 150)  # no side is below four times 28
    whole = np.asarray(train[0][0]).astype(float)
    means = whole.reshape(150, 2, 130, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(image) - means).max() <= 0.5
    assert label == train[0][1]
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    assert reduced[0][0] is image

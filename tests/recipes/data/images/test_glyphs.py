import os
import subprocess
import sys
import time
import unicodedata
from collections import Counter

import matplotlib
import numpy as np
import pytest

from recipes.data.images import glyphs
from recipes.data.images.glyphs import ALPHANUMERIC, FACES, TEST_FACES, TRAIN_FACES, VAL_FACES, Face
from recipes.errors import ConfigError

SANS = TRAIN_FACES[0]
PRINT_FINGERPRINTS = (
    "from recipes.data.images import glyphs; print([s.fingerprint() for s in glyphs.load(variants=2).values()])"
)


@pytest.fixture(scope="module")
def splits():
    return glyphs.load()


def test_sizes_shapes_and_classes(splits):
    assert {name: len(split) for name, split in splits.items()} == {"train": 7440, "val": 2480, "test": 3720}
    for split in splits.values():
        assert split.images.shape[1:] == (28, 28, 1)
        assert split.class_names == tuple(ALPHANUMERIC)
        assert len(set(Counter(split.labels.tolist()).values())) == 1  # every class equally often


def test_typefaces_are_disjoint():
    files = [face.file for face in FACES]
    assert len(set(files)) == len(files) == 22
    assert not set(TRAIN_FACES) & set(VAL_FACES)
    assert not set(TRAIN_FACES + VAL_FACES) & set(TEST_FACES)


@pytest.mark.parametrize("faces", [TRAIN_FACES, VAL_FACES, TEST_FACES])
def test_each_split_has_each_design(faces):
    assert {"sans", "mono", "serif"} <= {face.design for face in faces}
    assert any(face.slant for face in faces)
    assert any(face.weight for face in faces)


def test_no_image_is_in_two_splits(splits):
    seen = [image.tobytes() for split in splits.values() for image in split.images]
    assert len(set(seen)) > 0.999 * len(seen)
    held = {name: {image.tobytes() for image in split.images} for name, split in splits.items()}
    assert not held["train"] & held["val"]
    assert not (held["train"] | held["val"]) & held["test"]


def test_every_image_shows_ink_and_none_is_clipped(splits):
    for split in splits.values():
        assert split.images.reshape(len(split), -1).max(1).min() > 150
        border = split.images.copy()
        border[:, 1:-1, 1:-1] = 0
        assert not border.any()


def test_captions_are_unicode_names_and_the_style(splits):
    split = splits["test"]
    styles = set()
    for caption, label in zip(split.captions, split.labels, strict=True):
        name, style = caption.split(" in ")
        assert name == unicodedata.name(ALPHANUMERIC[label])
        styles.add(style)
    assert styles == {"sans", "bold mono", "serif", "bold serif", "italic math"}


def test_the_same_in_every_process():
    def run(seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PRINT_FINGERPRINTS]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert run("1") == run("2") == f"{[split.fingerprint() for split in glyphs.load(variants=2).values()]}\n"


def test_rendering_is_quick():
    start = time.process_time()
    glyphs.load()
    assert time.process_time() - start < 8  # 1.5 s on an idle core


def test_an_image_does_not_depend_on_its_neighbours():
    alone = glyphs.render([SANS], ["k"], variants=2)
    among = glyphs.render([TEST_FACES[0], SANS], ["a", "k"], variants=5)
    assert (alone.images == among.images[15:17]).all()


def test_variants_seeds_and_distortion_change_the_drawing():
    first, second = glyphs.render([SANS], ["k"], variants=2).images
    assert (first != second).any()
    assert (glyphs.render([SANS], ["k"], variants=1, seed=1).images[0] != first).any()
    upright = glyphs.render([SANS], ["k"], variants=2, distortion=0).images
    assert (upright[0] == upright[1]).all()


def test_upright_letters_look_like_themselves():
    hole, bar = glyphs.render([SANS], ["O", "I"], size=32, variants=1, distortion=0).images[..., 0]
    assert hole[16, 16] == 0  # the inside of O
    assert bar[16, 16] == 255  # the stem of I
    assert bar[:, :10].max() == bar[:, 22:].max() == 0
    top, bottom = np.flatnonzero(bar.any(1))[[0, -1]]
    assert 15 <= bottom - top <= 21  # a capital is about 0.58 of the image high


@pytest.mark.parametrize("size", [8, 28, 64])
def test_any_size(size):
    assert glyphs.render([SANS], "Wg", size=size, variants=3).images.shape == (6, size, size, 1)


def test_wide_and_tall_characters_are_shrunk_to_fit():
    wide = ["\N{EM DASH}", "\N{THREE-EM DASH}", "\N{ARABIC LIGATURE LAM WITH ALEF ISOLATED FORM}", "\N{INTEGRAL}", "W"]
    drawn = glyphs.render([SANS, TRAIN_FACES[9]], wide, variants=20, distortion=2).images
    assert len(drawn) > 100
    assert not drawn[:, [0, -1]].any()
    assert not drawn[:, :, [0, -1]].any()


def test_faces_hold_thousands_of_named_characters():
    counts = {face.file: len(glyphs.characters(face)) for face in FACES}
    assert all(count > 2600 for file, count in counts.items() if file.startswith("DejaVu"))
    assert counts["DejaVuSans"] > 5500
    for face in FACES:
        held = glyphs.characters(face)
        assert set(ALPHANUMERIC) <= set(held)
        assert len(set(held)) == len(held)
        assert all(unicodedata.name(character) for character in held)
        assert not set(held) & set(" \N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\N{EN QUAD}\0")


def test_computer_modern_is_trusted_for_letters_and_digits_only():
    assert set(glyphs.characters(TEST_FACES[0])) == set(ALPHANUMERIC)


def test_characters_that_a_face_lacks_are_left_out():
    sans_only = glyphs.render([SANS, TEST_FACES[0]], ["\N{SNOWMAN}", "A"], variants=1)
    assert sans_only.labels.tolist() == [0, 1, 1]
    assert sans_only.class_names == ("\N{SNOWMAN}", "A")
    assert sans_only.captions == ("SNOWMAN in sans", "LATIN CAPITAL LETTER A in sans", "LATIN CAPITAL LETTER A in sans")
    assert len(glyphs.render([TEST_FACES[0]], ["\N{SNOWMAN}"])) == 0


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.file)
def test_no_face_draws_the_box_of_a_missing_character(face):
    chosen = glyphs.characters(face)[:200]
    drawn = glyphs.render([face], chosen, variants=1, distortion=0).images[..., 0]
    box = glyphs._Pen(face, 28).draw("\U0010fffe").under(np.eye(2), np.zeros(2), 28)
    assert not (drawn == box).all((1, 2)).any()
    letters = glyphs.render([face], ALPHANUMERIC, variants=1, distortion=0).images
    assert len(np.unique(letters.reshape(62, -1), axis=0)) == 62


@pytest.mark.parametrize(
    "settings", [{"size": 4}, {"size": 28.5}, {"variants": 0}, {"variants": "ten"}, {"distortion": -1.0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))) as error:
        glyphs.load(**settings)
    assert "\n" not in str(error.value)


def test_a_missing_typeface_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"cmr10\.ttf, which is missing: install matplotlib with pip"):
        glyphs.render([Face("cmr10", "serif", unicode=False)], "A")

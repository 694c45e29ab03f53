"""Which faces and characters are held out, and that captions are those of the images."""

import unicodedata

import numpy as np
import pytest
import torch

from recipes.data.images import glyphs
from recipes.data.images.glyphs import ALPHANUMERIC, TEST_FACES, TRAIN_FACES, VAL_FACES
from recipes.data.pairs import glyph_pairs
from recipes.data.pairs.pairs import PairData
from recipes.errors import ConfigError


@pytest.fixture(scope="module")
def data() -> PairData:
    return glyph_pairs.load(variants=1)


def names(texts: tuple[str, ...]) -> set[str]:
    """What captions and prompts name, without the style behind the last `in`."""
    return {text.rsplit(" in ", 1)[0] for text in texts}


def test_held_out_characters_are_named_in_words_that_training_has(data: PairData) -> None:
    trained, held_out = glyph_pairs.character_split()
    assert not set(trained) & set(held_out)
    assert not set(held_out) & set(ALPHANUMERIC)
    assert set(ALPHANUMERIC) <= set(trained)
    assert len(held_out) >= 60
    known = {word for character in trained for word in unicodedata.name(character).split()}
    for character in held_out:
        assert set(unicodedata.name(character).split()) <= known
    captioned = names(data.train.captions.texts)  # type: ignore[attr-defined]
    assert not captioned & {unicodedata.name(character).lower() for character in held_out}
    assert {unicodedata.name(character).lower() for character in ALPHANUMERIC} <= captioned


def test_the_split_of_characters_is_the_same_every_time() -> None:
    assert glyph_pairs.character_split() == glyph_pairs.character_split()
    trained, held_out = glyph_pairs.character_split()
    share = len(held_out) / (len(trained) + len(held_out))
    assert 0.05 < share <= glyph_pairs.HELD_OUT + 0.01


@pytest.mark.parametrize(("name", "faces"), [("val", VAL_FACES), ("test", TEST_FACES)])
def test_a_probe_of_faces_holds_none_that_training_or_the_other_has(data: PairData, name: str, faces) -> None:
    others = {face.file for group in (TRAIN_FACES, VAL_FACES, TEST_FACES) if group is not faces for face in group}
    assert not {face.file for face in faces} & others
    probe = data.probes[name]
    drawn = glyphs.render(faces, ALPHANUMERIC, variants=4)
    assert len(probe.images) == len(drawn)
    np.testing.assert_array_equal(probe.images.arrays.images, drawn.images)  # type: ignore[attr-defined]
    assert len(set(probe.label.tolist())) == 62


@pytest.mark.parametrize("name", ["val", "test", "characters"])
def test_prompts_and_captions_belong_to_what_is_drawn(data: PairData, name: str) -> None:
    """By the captions that the renderer gives each image, which the probe keeps no copy of."""
    probe = data.probes[name]
    own = [text.lower() for text in probe.images.arrays.captions]  # type: ignore[attr-defined]
    texts = np.array(probe.texts.texts, dtype=object)
    for row in range(0, len(own), 7):
        character = own[row].rsplit(" in ", 1)[0]
        prompts = texts[probe.prompt_class == probe.label[row]]
        assert {text.rsplit(" in ", 1)[0] for text in prompts} == {character}
        if probe.image_group[row] >= 0:
            assert list(texts[probe.text_group == probe.image_group[row]]) == [own[row]]
    assert (probe.image_group >= 0).any()
    kept = set(probe.image_group[probe.image_group >= 0].tolist())
    assert kept == set(probe.text_group[probe.text_group >= 0].tolist())  # each asked caption has an image
    assert all(len(np.unique(probe.label[probe.image_group == group])) == 1 for group in kept)


def test_the_styles_of_prompts_are_those_that_training_has(data: PairData) -> None:
    styles = {text.rsplit(" in ", 1)[1] for text in data.train.captions.texts}  # type: ignore[attr-defined]
    assert set(glyph_pairs.STYLES) == styles


def test_images_are_as_the_image_tower_was_trained_on(data: PairData) -> None:
    """The tower's own reader of the same arrays is the reference."""
    from recipes.data.images.batches import TensorImages

    arrays = data.train.images.arrays  # type: ignore[attr-defined]
    pixels, taken = data.train.images.batch([3, 0, 5])
    assert list(taken) == [3, 0, 5]
    assert torch.equal(pixels, TensorImages(arrays).__getitems__([(0, 3), (0, 0), (0, 5)])["image"])


def test_shuffled_captions_are_the_same_ones_elsewhere(data: PairData) -> None:
    shuffled = glyph_pairs.load(variants=1, shuffle_captions=True)
    plain, moved = (d.train.captions.texts for d in (data, shuffled))  # type: ignore[attr-defined]
    assert sorted(plain) == sorted(moved)
    assert np.mean([one == other for one, other in zip(plain, moved, strict=True)]) < 0.01
    assert data.train.images.fingerprint() == shuffled.train.images.fingerprint()
    assert data.train.captions.fingerprint() != shuffled.train.captions.fingerprint()
    for name, probe in data.probes.items():  # what is asked stays what it is
        assert probe.fingerprint() == shuffled.probes[name].fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variants": 0}, "variants=0"),
        ({"variants": "many"}, "variants=many"),
        ({"vocab_size": 100}, "vocab_size=100"),
        ({"shuffle_captions": "yes"}, "shuffle_captions=yes"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        glyph_pairs.load(**options)  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)

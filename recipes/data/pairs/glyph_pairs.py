"""Characters in matplotlib's typefaces with their Unicode names: image and text pairs that need no download.

Latin, Greek and Cyrillic letters and digits, 28x28, captioned "latin small letter a with acute in bold serif", in
twelve typefaces. Held out to choose by (`val`) and to report (`test`) are the typefaces that
recipes/data/images/glyphs.py holds out, so that an image tower from there has seen none of them; and, for the test set
`characters`, some characters whose names' words all occur in other names: what is asked is whether parts of names were
learned.
"""

import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from recipes.data.images import glyphs
from recipes.data.images.arrays import ImageArrays, channels_first
from recipes.data.images.glyphs import ALPHANUMERIC, TEST_FACES, TRAIN_FACES, VAL_FACES, Face
from recipes.data.pairs.pairs import PAD, PairData, Pairs, Probe, Texts, prompts
from recipes.data.text import bpe
from recipes.errors import ConfigError

HOLDS = "images with captions"  # matched with `learns_from` of recipes

SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "DIGIT")
REFERENCE = TRAIN_FACES[0]  # holds more characters than any other
HELD_OUT = 0.15  # of the characters that can be
OCCURS = 4  # a word has to occur in so many names that are trained on
# A class's prompts: its name in every style that training has.
STYLES = tuple(dict.fromkeys(face.style for face in TRAIN_FACES))
TEMPLATES = tuple(f"{{}} in {style}" for style in STYLES)


class GlyphImages:
    """Rendered characters in memory."""

    def __init__(self, arrays: ImageArrays) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def batch(self, index: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        """Uint8 [B, 1, size, size], and the same indices."""
        return torch.from_numpy(channels_first(self.arrays.images[np.asarray(index, np.int64)])), index

    def fingerprint(self) -> str:
        """The arrays' own."""
        return self.arrays.fingerprint()


def load(variants: int = 2, vocab_size: int = 768, shuffle_captions: bool = False) -> PairData:
    """Pairs to train on and the probes `val`, `test` and `characters`.

    Args:
        variants: images of each character in each typeface.
        vocab_size: of the byte-level BPE that is trained on the training captions.
        shuffle_captions: give every training image another's caption, to see that nothing else teaches.

    Raises:
        ConfigError: a setting is out of range, or matplotlib lacks a typeface.
    """
    if not isinstance(shuffle_captions, bool):
        raise ConfigError(f"data.options.shuffle_captions={shuffle_captions} must be true or false")
    trained, held_out = character_split()
    train = glyphs.render(TRAIN_FACES, trained, variants=variants)
    captions = [text.lower() for text in train.captions or ()]
    if shuffle_captions:
        captions = [captions[i] for i in np.random.default_rng(0).permutation(len(captions))]
    texts = Texts(captions)
    probes = {
        "val": probe(VAL_FACES, tuple(ALPHANUMERIC)),
        "test": probe(TEST_FACES, tuple(ALPHANUMERIC)),
        "characters": probe(TRAIN_FACES, held_out, variants=1),
    }
    tokenizer = bpe.trained(lambda: texts.texts, texts.fingerprint(), vocab_size, (PAD,))
    return PairData(Pairs(GlyphImages(train), texts), probes, tokenizer)


def character_split() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The characters to train on, and those held out, whose names are made of words that training has."""
    candidates = [c for c in glyphs.characters(REFERENCE) if unicodedata.name(c).split()[0] in SCRIPTS]
    names = {c: unicodedata.name(c).split() for c in candidates}
    word_count = Counter(word for words in names.values() for word in words)
    held_out: list[str] = []
    for character in sorted(candidates, key=lambda c: zlib.crc32(names[c][-1].encode() + c.encode())):
        words = names[character]
        composed = "WITH" in words and character not in ALPHANUMERIC
        if composed and len(held_out) < HELD_OUT * len(candidates) and all(word_count[word] > OCCURS for word in words):
            held_out.append(character)
            word_count.subtract(words)
    return tuple(c for c in candidates if c not in set(held_out)), tuple(sorted(held_out))


def probe(faces: Sequence[Face], characters: tuple[str, ...], variants: int = 4) -> Probe:
    """Zero-shot classification over the characters, and retrieval among captions, by one image a face and character.

    The same caption belongs to all images of a character in faces of one style.
    """
    arrays = glyphs.render(faces, characters, variants=variants)
    image_captions = [text.lower() for text in arrays.captions or ()]
    class_prompts, prompt_class = prompts([unicodedata.name(c).lower() for c in characters], TEMPLATES)
    captions = list(dict.fromkeys(image_captions))
    caption_index = {text: i for i, text in enumerate(captions)}
    image_group = np.array([caption_index[text] for text in image_captions])
    image_group[np.arange(len(image_captions)) % variants != 0] = -1
    return Probe(
        GlyphImages(arrays),
        Texts([*class_prompts, *captions]),
        label=arrays.labels,
        prompt_class=np.concatenate([prompt_class, np.full(len(captions), -1)]),
        text_group=np.concatenate([np.full(len(class_prompts), -1), np.arange(len(captions))]),
        image_group=image_group,
    )

"""Characters drawn from the typefaces that matplotlib ships: real letter shapes without a download.

`load` is the classification set: which of the 62 letters and digits is this, in typefaces that training has not
seen? `render` draws any characters of any of the faces, for other sets with other splits: `characters` lists what
a face holds, 1,000 to 5,800 named characters in the sixteen faces of DejaVu and STIX.

Every image is the character under an affine map drawn from (seed, face, character, variant), so an image does not
depend on which others are drawn. Captions are the characters' Unicode names and the face's style.
"""

import string
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recipes.data.images.arrays import ImageArrays
from recipes.errors import ConfigError

HOLDS = "images with labels"  # matched with `learns_from` of recipes

if TYPE_CHECKING:
    from PIL.Image import Image

ALPHANUMERIC = string.ascii_uppercase + string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Face:
    """A typeface file in matplotlib's folder of fonts.

    Attributes:
        file: the file's name without `.ttf`.
        design: sans, serif, mono or math.
        weight: "bold" or "".
        slant: "italic" or "".
        unicode: whether the file's character map is Unicode's; Computer Modern's is TeX's beyond letters and digits.
    """

    file: str
    design: str
    weight: str = ""
    slant: str = ""
    unicode: bool = True

    @property
    def style(self) -> str:
        """What a caption says of the face, such as "bold italic serif"."""
        return " ".join(word for word in (self.weight, self.slant, self.design) if word)


TRAIN_FACES = (
    Face("DejaVuSans", "sans"),
    Face("DejaVuSans-Bold", "sans", "bold"),
    Face("DejaVuSans-Oblique", "sans", "", "italic"),
    Face("DejaVuSansMono", "mono"),
    Face("DejaVuSansMono-Oblique", "mono", "", "italic"),
    Face("DejaVuSansMono-BoldOblique", "mono", "bold", "italic"),
    Face("DejaVuSerif", "serif"),
    Face("DejaVuSerif-Bold", "serif", "bold"),
    Face("DejaVuSerif-Italic", "serif", "", "italic"),
    Face("STIXGeneral", "serif"),
    Face("STIXGeneralBolIta", "serif", "bold", "italic"),
    Face("cmti10", "serif", "", "italic", unicode=False),
)
VAL_FACES = (
    Face("DejaVuSans-BoldOblique", "sans", "bold", "italic"),
    Face("cmtt10", "mono", unicode=False),
    Face("DejaVuSerif-BoldItalic", "serif", "bold", "italic"),
    Face("STIXGeneralItalic", "serif", "", "italic"),
)
TEST_FACES = (
    Face("cmss10", "sans", unicode=False),
    Face("DejaVuSansMono-Bold", "mono", "bold"),
    Face("cmr10", "serif", unicode=False),
    Face("cmb10", "serif", "bold", unicode=False),
    Face("STIXGeneralBol", "serif", "bold"),
    Face("cmmi10", "math", "", "italic", unicode=False),
)
FACES = TRAIN_FACES + VAL_FACES + TEST_FACES


def load(size: int = 28, variants: int = 10, distortion: float = 1.0) -> dict[str, ImageArrays]:
    """Letters and digits (62 classes) split by typeface: twelve to train, four for val, six for test.

    Args:
        size: height and width of the images in pixels.
        variants: images of each character in each face.
        distortion: strength of the random affine maps; 0 leaves every character upright, centred and of one size.

    Raises:
        ConfigError: a setting is out of range, or matplotlib lacks a typeface.
    """
    splits = {"train": TRAIN_FACES, "val": VAL_FACES, "test": TEST_FACES}
    return {
        name: render(faces, ALPHANUMERIC, size=size, variants=variants, distortion=distortion)
        for name, faces in splits.items()
    }


@cache
def characters(face: Face) -> tuple[str, ...]:
    """The characters that a face holds, in the order of their code points: those with a Unicode name and with ink.

    Raises:
        ConfigError: matplotlib lacks the typeface.
    """
    if not face.unicode:
        return tuple(sorted(ALPHANUMERIC))
    from fontTools.ttLib import TTFont

    with TTFont(_path(face), lazy=True) as font:
        starts = font["loca"]  # where each outline begins in the file; an empty one ends there too
        with_ink = []
        for code, name in sorted(font.getBestCmap().items()):
            outline = font.getGlyphID(name)
            if unicodedata.name(chr(code), "") and starts[outline] < starts[outline + 1]:
                with_ink.append(chr(code))
        return tuple(with_ink)


def caption(character: str, face: Face) -> str:
    """Name and style, such as "LATIN SMALL LETTER A in bold serif"."""
    return f"{unicodedata.name(character)} in {face.style}"


def render(
    faces: Sequence[Face],
    chosen: Sequence[str],
    *,
    size: int = 28,
    variants: int = 10,
    distortion: float = 1.0,
    seed: int = 0,
) -> ImageArrays:
    """Draw characters in faces, light on dark; a character that a face does not hold is left out for that face.

    Args:
        faces: whose shapes to draw.
        chosen: the characters, one class each; their order is the order of the labels.
        size: height and width of the images in pixels.
        variants: images of each character in each face.
        distortion: strength of the random affine maps.
        seed: of the affine maps.

    Returns:
        images [faces * characters * variants, size, size, 1], face by face and character by character.

    Raises:
        ConfigError: a setting is out of range, or matplotlib lacks a typeface.
    """
    if not (isinstance(size, int) and size >= 8 and isinstance(variants, int) and variants >= 1) or distortion < 0:
        raise ConfigError(
            f"data=glyphs was given size={size}, variants={variants}, distortion={distortion}; "
            "allowed are whole numbers size >= 8 and variants >= 1, and distortion >= 0"
        )
    return _rendered(tuple(faces), tuple(chosen), size, variants, float(distortion), seed)


@lru_cache(maxsize=8)  # a sweep's runs share a process, and rendering takes seconds
def _rendered(
    faces: tuple[Face, ...], chosen: tuple[str, ...], size: int, variants: int, distortion: float, seed: int
) -> ImageArrays:
    images, labels, captions = [], [], []
    for face in faces:
        pen = _Pen(face, size)
        available = set(characters(face))
        for label, character in enumerate(chosen):
            if character not in available:
                continue
            glyph = pen.draw(character)
            rng = np.random.default_rng([seed, zlib.crc32(face.file.encode()), ord(character)])
            draws = distortion * rng.uniform(-1, 1, (variants, 6))
            images += [glyph.under(_affine(row), row[4:], size) for row in draws]
            labels += [label] * variants
            captions += [caption(character, face)] * variants
    pixels = np.stack(images)[..., None] if images else np.empty((0, size, size, 1), np.uint8)
    return ImageArrays(pixels, np.array(labels, np.int64), chosen, tuple(captions))


def _path(face: Face) -> Path:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face.file}.ttf"
    if not path.is_file():
        raise ConfigError(
            f"data=glyphs needs the typeface {path}, which is missing: install matplotlib with pip, "
            "as some systems' own packages leave its fonts out"
        )
    return path


# Everything is drawn this many times larger and averaged down, which smooths the edges after the affine map.
OVERSAMPLING = 3
EM = 0.8  # side of the face's em square, in image sizes: capitals are then about 0.58 of the image high
MIDDLE = 0.26  # height of the image's centre above the base line, in ems: half way from g's foot to d's head
MARGIN = 0.04  # free border of the image, in image sizes

# Half-widths of the uniform draws at distortion 1, where a small ViT reaches about 57% in 1,000 steps of 64 images
# and a small CNN 90%. At half of it they reach 80% and 94%, which leaves less to tell optimizers apart.
ROTATION = np.deg2rad(10)
SHEAR = 0.18
SCALE = 0.14  # in log: 0.87 to 1.15
STRETCH = 0.08  # in log, width against height
SHIFT = 0.07  # in image sizes


def _affine(draw: np.ndarray) -> np.ndarray:
    """The 2x2 map of a glyph's coordinates (x right, y down) from four draws in -1..1."""
    angle, shear, scale, stretch = draw[:4] * (ROTATION, SHEAR, SCALE, STRETCH)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return rotation @ np.array([[1, shear], [0, 1]]) @ np.diag(np.exp([scale + stretch, scale - stretch]))


class _Pen:
    """Draws a face's characters, upright and oversampled."""

    def __init__(self, face: Face, size: int) -> None:
        from PIL import ImageFont

        self.em = EM * size * OVERSAMPLING
        # The basic layout needs no further library, so all machines place a character alike.
        self.font = ImageFont.truetype(_path(face), self.em, layout_engine=ImageFont.Layout.BASIC)

    def draw(self, character: str) -> "_Glyph":
        """The character's ink and its position relative to the image's centre."""
        from PIL import Image, ImageDraw

        left, top, right, bottom = (int(edge) for edge in self.font.getbbox(character, anchor="ls"))
        left, top, right, bottom = left - 1, top - 1, right + 1, bottom + 1  # a dark border to interpolate with
        ink = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(ink).text((-left, -top), character, fill=255, font=self.font, anchor="ls")
        return _Glyph(ink, top + MIDDLE * self.em)


@dataclass(frozen=True)
class _Glyph:
    """A character's ink; `top` is its upper edge below the image's centre, in oversampled pixels."""

    ink: "Image"
    top: float

    def under(self, affine: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
        """uint8 [size, size]: the ink mapped, shifted, and where need be shrunk and moved to lie inside the image."""
        from PIL import Image

        side, width, height = size * OVERSAMPLING, self.ink.width, self.ink.height
        corners = np.array([[x, y] for x in (-width / 2, width / 2) for y in (self.top, self.top + height)])
        mapped = corners @ affine.T
        low, high = mapped.min(0), mapped.max(0)
        inner = (1 - 2 * MARGIN) * side
        shrink = min(1.0, inner / (high - low).max())
        centre = side / 2 + shift * SHIFT * side
        centre = np.clip(centre, MARGIN * side - shrink * low, (1 - MARGIN) * side - shrink * high)
        # PIL asks for the map from the image's pixels back to the ink's.
        back = np.linalg.inv(shrink * affine)
        offset = np.array([width / 2, -self.top]) - back @ centre
        data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
        image = self.ink.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        return np.asarray(image.reduce(OVERSAMPLING))

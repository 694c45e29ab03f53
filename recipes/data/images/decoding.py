"""Decode an image file of any format to 8-bit RGB pixels, upright.

docs/data.md has the table of what is taken, converted and refused.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

ORIENTATION = 0x0112  # EXIF's tag
# How to turn a picture that a camera stored in each orientation.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BIT = ("PNG", "PPM")  # formats whose integers Pillow scales to 0..65535


class UnreadableError(ValueError):
    """A file holds no picture that can be decoded, or one whose pixels have no known range."""


def decode(file: str | Path | BytesIO) -> Image.Image:
    """The picture in a file: its first frame, upright, transparency over white, RGB with 8 bits a channel.

    Args:
        file: a path, or the encoded bytes.

    Raises:
        UnreadableError: it cannot be decoded, or its pixels have no known range.
    """
    try:
        return _decode(file)
    except (UnreadableError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableError("its image format is unknown") from None
    except Exception as error:  # decoders have no common error
        raise UnreadableError(" ".join(str(error).split()) or type(error).__name__) from None


def _decode(file: str | Path | BytesIO) -> Image.Image:
    # From memory: of a file that Pillow maps into memory it turns the size of a TIFF picture, but not its pixels.
    encoded = file if isinstance(file, BytesIO) else BytesIO(Path(file).read_bytes())
    with Image.open(encoded) as image:
        image.load()
        upright = _upright(image)
        if upright.mode in ("F", "I") or upright.mode.startswith("I;16"):
            return _scaled(upright, image).convert("RGB")
        if upright.mode in WITH_ALPHA or "transparency" in upright.info:
            layer = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        return upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data say; Pillow turns TIFF files itself."""
    try:
        transpose = TRANSPOSES.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF data that cannot be read say nothing, and their reader has no common error
        transpose = None
    return image if transpose is None else image.transpose(transpose)


def _scaled(pixels: Image.Image, source: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits."""
    if pixels.mode == "F" or (pixels.mode == "I" and source.format not in SIXTEEN_BIT):
        kind = "floating-point" if pixels.mode == "F" else "32-bit integer"
        raise UnreadableError(f"its pixels are {kind} numbers of no known range: save it with 8 or 16 bits")
    values = np.asarray(pixels).astype(np.int64)
    grey = (values + 128) // 257  # 65,535 is 255 times 257
    transparent = source.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))

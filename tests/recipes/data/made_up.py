"""Pictures and texts as people have them, drawn at random, with what has to be read from them by plain arithmetic."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

NAMES = (
    "plain",
    "with space",
    "line\nbreak",
    "häßlich",
    "日本語",
    "🦁",
    "-rf",
    "a'b\"c",
    "50%",
    "${x}",
    "x=y,z",
    "a.b.c",
)
SUFFIXES = {
    "PNG": (".png", ".PNG"),
    "TIFF": (".tif", ".TIFF"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "JPEG": (".jpg", ".JPEG", ".jfif", ".jpe"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2",),
    "GIF": (".gif",),
    "PPM": (".pgm", ".PPM"),
}
# Modes that each format keeps; lossy formats are given one colour.
MODES = {
    "PNG": ("1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I"),
    "BMP": ("L", "RGB", "P"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "AVIF": ("RGB",),
    "JPEG2000": ("L", "RGB", "I;16"),
    "GIF": ("P", "P transparent"),
    "PPM": ("L", "RGB", "I;16"),
}
LOSSY = ("JPEG", "AVIF")


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
        content: the file's bytes.
        suffix: its name's.
        rgb: what has to be read, float64 [H, W, 3]; None where it has to be refused.
        tolerance: largest difference from it that rounding or a lossy format makes.
    """

    content: bytes
    suffix: str
    rgb: np.ndarray | None
    tolerance: float


def picture(rng: np.random.Generator, file_format: str | None = None, mode: str | None = None) -> Picture:
    """A picture of random kind, size, orientation and pixels."""
    file_format = file_format or str(rng.choice(list(MODES)))
    mode = mode or str(rng.choice(MODES[file_format]))
    size = tuple(int(side) for side in rng.integers(1, 40, 2))
    if file_format == "AVIF":
        size = (size[0] + 8, size[1] + 8)
    image, rgb = _drawn(rng, mode, size, flat=file_format in LOSSY)
    settings: dict[str, object] = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 98}}.get(
        file_format, {}
    )
    if mode == "P transparent":
        settings["transparency"] = 0
    if file_format in ("PNG", "TIFF", "JPEG", "WEBP") and mode not in ("F", "I") and rng.random() < 0.5:
        exif, orientation = Image.Exif(), int(rng.integers(1, 9))
        exif[0x0112] = orientation
        settings["exif"] = exif
        rgb = None if rgb is None else turned(rgb, orientation)
    file = io.BytesIO()
    image.save(file, file_format, **settings)
    suffix = str(rng.choice(SUFFIXES[file_format]))
    return Picture(file.getvalue(), suffix, rgb, 6 if file_format in LOSSY else 1)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What is seen of pixels that a camera stored so, by the EXIF standard's words for the eight orientations."""
    # Orientation n: where the stored rows and columns begin in what is seen.
    seen = {
        1: pixels,
        2: pixels[:, ::-1],  # first column right
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),  # first row left, first column top
        6: pixels[::-1].swapaxes(0, 1),  # first row right, first column top
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: pixels[:, ::-1].swapaxes(0, 1),
    }
    return seen[orientation]


def _drawn(
    rng: np.random.Generator, mode: str, size: tuple[int, int], *, flat: bool
) -> tuple[Image.Image, np.ndarray | None]:
    """A picture of a mode and its RGB values."""
    shape = (size[1], size[0])

    def values(channels: int, top: int = 256) -> np.ndarray:
        if flat:
            return np.broadcast_to(rng.integers(0, top, channels), (*shape, channels)).copy()
        return rng.integers(0, top, (*shape, channels))

    if mode == "1":
        bits = values(1, 2)[..., 0] > 0
        return Image.fromarray(bits), np.repeat(bits[..., None] * 255.0, 3, 2)
    if mode == "I;16":
        deep = values(1, 65536)[..., 0].astype(np.uint16)
        return Image.fromarray(deep), np.repeat(deep[..., None] * (255 / 65535), 3, 2)
    if mode in ("F", "I"):
        wide = values(1)[..., 0].astype(np.float32 if mode == "F" else np.int32)
        return Image.fromarray(wide), None
    if mode.startswith("P"):
        palette = rng.integers(0, 256, (256, 3))
        index = values(1)[..., 0].astype(np.uint8)
        image = Image.fromarray(index, "L")
        image.putpalette(palette.astype(np.uint8).tobytes())
        rgb = palette[index].astype(float)
        if mode == "P transparent":
            rgb[index == 0] = 255
        return image, rgb
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = values(channels).astype(float)
    image = Image.fromarray(pixels.astype(np.uint8).squeeze(2) if channels == 1 else pixels.astype(np.uint8), mode)
    if mode == "CMYK":
        return image, (255 - pixels[..., :3]) * (255 - pixels[..., 3:]) / 255
    colour = pixels[..., :3] if channels > 2 else pixels[..., :1].repeat(3, 2)
    if mode.endswith("A"):
        alpha = pixels[..., -1:] / 255
        colour = colour * alpha + 255 * (1 - alpha)
    return image, colour


def name(rng: np.random.Generator, suffix: str, number: int) -> bytes:
    """A file's name, as odd as file systems allow."""
    if rng.random() < 0.1:
        return b"\xff\xfe%d" % number + suffix.encode()  # no UTF-8
    if rng.random() < 0.1:
        return (f"{number}" + "x" * 200)[: 250 - len(suffix)].encode() + suffix.encode()
    return f"{rng.choice(NAMES)}{number}{suffix}".encode()


@dataclass(frozen=True)
class Text:
    """A text file: its bytes, and what has to be read from them, or None where they are no text."""

    content: bytes
    text: str | None


def text(rng: np.random.Generator) -> Text:
    """A text of random characters in a random encoding."""
    letters = [*"abc xyz\n.,", "ä", "é", "λ", "日", "🦁", "\t", "\r\n"]
    plain = "".join(rng.choice(letters, int(rng.integers(1, 300))).tolist()) + "end"
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-be-sig", "utf-32", "latin-1", "junk", "empty"]))
    if encoding == "empty":
        return Text(b"", "")
    if encoding == "junk":
        return Text(b"\x80" + rng.bytes(int(rng.integers(0, 300))), None)
    if encoding == "latin-1":
        return Text((plain.encode("latin-1", "ignore").decode("latin-1") + "é ").encode("latin-1"), None)
    if encoding == "utf-16-be-sig":
        return Text(b"\xfe\xff" + plain.encode("utf-16-be"), plain)
    return Text(plain.encode(encoding), plain)

"""Image files that tests write, each told apart by its mean value."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.data.images import files

CLASSES = ("ant", "bee", "cat")


def jpeg(value: int, size: tuple[int, int] = (40, 32)) -> bytes:
    """A noisy JPEG whose mean tells it apart from others."""
    noise = np.random.default_rng(value).integers(0, 40, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray((noise + value % 200).astype(np.uint8)).save(file, "jpeg", quality=95)
    return file.getvalue()


def value_of(image: Image.Image) -> int:
    return round(float(np.asarray(image).mean()) - 19.5)


def write_folders(root: Path, train: int = 12, val: int = 4, classes: tuple[str, ...] = CLASSES) -> Path:
    """Class folders; the n-th image of the k-th class has the value 60 k + n (training) or 60 k + 40 + n."""
    for split, number, offset in (("train", train, 0), ("val", val, 40)):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                content = jpeg(60 * label + offset + index)
                (root / split / name / f"{index:02}.JPEG").write_bytes(content)
    return root


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def load(path: Path, **options):
    return files.load(path=str(path), **({"val_size": 6} | options))


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)

"""COCO's captions in COCO's files: `annotations/captions_train2017.json` and `train2017/000000000009.jpg`.

Chen et al. 2015, arXiv:1504.00325; the files of 2014 have the same form.
"""

import json
import os
from pathlib import Path

import numpy as np

from recipes.data.images.formats.class_folders import ImageFiles
from recipes.data.pairs.caption_files import report_missing_captions
from recipes.errors import ConfigError


def annotations(folder: Path, split: str) -> Path | None:
    """The file of a split's captions in a folder, the last by name where there are several years, or None."""
    return max((folder / "annotations").glob(f"captions_{split}*.json"), default=None)


def read(folder: Path, file: Path, location: str) -> tuple[ImageFiles, list[list[str]]]:
    """The images of a file of captions, in the order of their numbers, and the captions of each.

    Args:
        folder: that holds the images' folder, called as the file's split (`train2017`).
        file: what `annotations` returned.
        location: how errors call the data.

    Raises:
        ConfigError: the file is damaged, or an image is missing.
    """
    images = folder / file.stem.removeprefix("captions_")
    try:
        content = json.loads(file.read_bytes())
        names = {int(image["id"]): str(image["file_name"]) for image in content["images"]}
        captions: dict[int, list[str]] = {number: [] for number in names}
        for annotation in content["annotations"]:
            captions[int(annotation["image_id"])].append(str(annotation["caption"]).strip())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"{location}: {file.name} is not a complete file of COCO's captions ({reason})") from None
    numbers = [number for number in sorted(names) if any(captions[number])]
    report_missing_captions(location, len(names) - len(numbers), len(names))
    missing = [names[number] for number in numbers if not (images / names[number]).is_file()]
    if missing or not numbers:
        shown = f"{images}/{missing[0]}" if missing else f"a captioned image in {file.name}"
        raise ConfigError(f"{location}: {len(missing)} of {len(numbers)} images are not there, such as {shown}")
    paths = np.array([os.fsencode(f"{images.name}/{names[number]}") for number in numbers])
    return ImageFiles(folder, paths), [[text for text in captions[number] if text] for number in numbers]

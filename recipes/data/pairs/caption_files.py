"""Images with captions in files of the same name: `1.jpg` with `1.txt`, `1.caption` or `1.json`."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from recipes.data import listing
from recipes.data.images.formats.class_folders import ImageFiles
from recipes.data.listing import PICTURES
from recipes.data.text.text_files import encoding
from recipes.errors import ConfigError

CAPTION_SUFFIXES = (".txt", ".caption", ".json")


def has_caption_files(folder: Path) -> bool:
    """Whether images in a folder have caption files, and the folder is not a saved data set."""
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return False
    if any(folder.glob("metadata.*")) or any(folder.glob("*/metadata.*")):
        return False
    paths = listing.list_files(folder, (*PICTURES, *CAPTION_SUFFIXES)).paths
    image_stems = {_stem(name) for name in paths if name.lower().endswith(PICTURES)}
    return any(_stem(name) in image_stems for name in paths if not name.lower().endswith(PICTURES))


def read_caption_files(folder: Path, location: str) -> tuple[ImageFiles, list[str]]:
    """The images that have a caption, and their captions; of several caption files, JSON is read last.

    Args:
        folder: is searched at any depth.
        location: how messages call it.

    Raises:
        ConfigError: no image has a caption.
    """
    files = listing.list_files(folder, (*PICTURES, *CAPTION_SUFFIXES))
    caption_files: dict[str, str] = {}
    for name in files.paths:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 (a million files)
        if suffix.lower() in CAPTION_SUFFIXES and not (stem in caption_files and suffix.lower() == ".json"):
            caption_files[stem] = name
    images = [name for name in files.paths if name.lower().endswith(PICTURES)]
    paths, captions = [], []
    for name in images:
        file = caption_files.get(_stem(name))
        text = None if file is None else _read(folder / file)
        if text is not None:
            paths.append(os.fsencode(name))
            captions.append(text)
    files.say(location)
    if not paths:
        raise ConfigError(f"{location}: none of its {len(images)} pictures has a caption: expected 1.jpg with 1.txt")
    report_missing_captions(location, len(images) - len(paths), len(images))
    return ImageFiles(folder, np.array(paths)), captions


def caption(content: bytes, name: str) -> str | None:
    """The caption in a file's bytes, or None where it has none.

    Args:
        content: text in a Unicode encoding, or a JSON object with a `caption`.
        name: of the file; its suffix tells which of both.
    """
    try:
        text: Any = content.decode(encoding(content))
        if name.lower().endswith(".json"):
            text = json.loads(text)["caption"]
            text = text[0] if isinstance(text, list) and text else text
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return text.strip() if isinstance(text, str) and text.strip() else None


def report_missing_captions(location: str, count: int, total: int) -> None:
    """Print how many images are left out because they have no caption, if any are."""
    if count:
        listing.say(f"{location}: left out {count} of {total} pictures, which have no caption")


def _read(file: Path) -> str | None:
    try:
        return caption(file.read_bytes(), file.name)
    except OSError:
        return None


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 (a million files)

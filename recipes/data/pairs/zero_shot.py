"""Probes for zero-shot classification: labelled images, and prompts made of the names of their classes."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from recipes.data.images.examples import ImageExamples
from recipes.data.pairs.pairs import Probe, Texts, prompts
from recipes.data.pairs.sources import DecodedImages, numbered
from recipes.errors import ConfigError


def zero_shot_probe(examples: ImageExamples, names: tuple[str, ...], templates: Sequence[str], size: int) -> Probe:
    """A probe of labelled images.

    Args:
        examples: with one label each.
        names: of the classes, in the order of the labels.
        templates: the prompts of a class, with {} for its name.
        size: height and width of the images in pixels.

    Raises:
        ConfigError: the images have several labels each, or a template has no place for the name.
    """
    if examples.labels.ndim > 1:
        raise ConfigError(f"{examples.location}: zero-shot classification takes one label an image")
    texts, prompt_class = prompts(names, templates)
    images = DecodedImages(numbered(examples.source, examples.location, examples.rows), size)
    return Probe(images, Texts(texts), label=examples.labels, prompt_class=prompt_class)


def prompt_names(data_set: str, file: str | None, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes as prompts have them.

    Args:
        data_set: its name in data.options.zero_shot, for errors.
        file: a JSON list with a name for each class; None derives them from `class_names`.
        class_names: as the data set has them.

    Raises:
        ConfigError: the file cannot be read, or is not such a list.
    """
    if file is None:
        return tuple(_prompt_name(name) for name in class_names)
    option = f"data.options.zero_shot.{data_set}.names={file}"
    try:
        names = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} is not a readable JSON file: {error}") from None
    if not isinstance(names, list) or len(names) != len(class_names) or not all(isinstance(n, str) for n in names):
        raise ConfigError(
            f"{option} must be a list of {len(class_names)} names, one for each class in the labels' order"
        )
    return tuple(names)


def _prompt_name(class_name: str) -> str:
    """The first of several words for a class; of a WordNet number, the first word for it."""
    if re.fullmatch(r"n\d{8}", class_name):
        from timm.data import ImageNetInfo

        with suppress(KeyError):
            class_name = ImageNetInfo("imagenet-22k").label_name_to_description(class_name)
    return class_name.split(",")[0].replace("_", " ")

"""Further test sets of ImageNet: ImageNet-ReaL (Beyer et al. 2020) and ImageNet-V2 (Recht et al. 2019)."""

import json
import re
from pathlib import Path

import numpy as np

from recipes.data.images.examples import ImageExamples
from recipes.data.images.formats.class_folders import class_folder_names, read_class_folders
from recipes.errors import ConfigError


def imagenet_v2(folder: Path, class_names: tuple[str, ...]) -> ImageExamples:
    """ImageNet-V2, whose folders are named by the number of the class: sorted as text, "10" comes before "2".

    Raises:
        ConfigError: `folder` does not have a folder for each class.
    """
    location = f"+data.options.v2_path={folder}"
    if not folder.is_dir():
        raise ConfigError(
            f"{location} is not a folder: unpack imagenetv2-matched-frequency-format-val and give its path"
        )
    names = class_folder_names(folder)
    if sorted(names) != sorted(str(number) for number in range(len(class_names))):
        raise ConfigError(
            f"{location} holds {len(names)} folders, {names[0] if names else 'none'} first; expected are the numbers "
            f"0 to {len(class_names) - 1}, a folder for each class"
        )
    examples = read_class_folders(folder, location)
    numbers = np.array([int(name) for name in examples.class_names])
    return ImageExamples(examples.source, examples.rows, numbers[examples.labels], class_names, location)


def imagenet_real(test: ImageExamples, file: Path) -> ImageExamples:
    """ImageNet-ReaL: all correct labels of each official validation image; images without any are left out.

    Args:
        test: the official validation images.
        file: `real.json`, a list of labels for each image.

    Raises:
        ConfigError: the file cannot be read, or does not fit the images.
    """
    location = f"+data.options.real_labels={file}"
    try:
        image_labels: list[list[int]] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        where = "github.com/google-research/reassessed-imagenet"
        raise ConfigError(f"{location} is missing: get real.json from {where}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{location} is no JSON file: {error}") from None
    matches = [re.search(r"ILSVRC2012_val_(\d{8})", name) for name in test.source.names()]
    order = np.array([int(match[1]) - 1 if match else -1 for match in matches])
    if sorted(order) != list(range(len(image_labels))):
        raise ConfigError(
            f"{location} holds labels for {len(image_labels)} images, ILSVRC2012_val_00000001 to the last, "
            f"which are not the {len(order)} images of {test.location}: use the official validation files"
        )
    labels = np.zeros((len(image_labels), len(test.class_names)), bool)
    for image, correct in enumerate(image_labels):
        if not isinstance(correct, list) or any(not 0 <= label < len(test.class_names) for label in correct):
            raise ConfigError(f"{location} gives image {image + 1} the labels {correct}, not a list of known classes")
        labels[image, correct] = True
    by_file = np.argsort(order)
    has_label = labels.any(1)
    return ImageExamples(test.source, by_file[has_label], labels[has_label], test.class_names, location)

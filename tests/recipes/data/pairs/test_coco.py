import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from recipes.data.pairs.sources import pairs_of
from recipes.errors import ConfigError


def write(root: Path, split: str, captions: dict[int, list[str]]) -> None:
    """COCO's files for some images, each of one grey."""
    folder, notes = root / f"{split}2017", root / "annotations"
    folder.mkdir(parents=True)
    notes.mkdir(exist_ok=True)
    for number in captions:
        Image.new("RGB", (40, 30), (number, number, number)).save(folder / f"{number:012}.jpg", quality=100)
    content = {
        "images": [{"id": number, "file_name": f"{number:012}.jpg", "height": 30} for number in captions],
        "annotations": [
            {"id": 10 * number + n, "image_id": number, "caption": text}
            for number, texts in captions.items()
            for n, text in enumerate(texts)
        ],
    }
    (notes / f"captions_{split}2017.json").write_text(json.dumps(content))
    (notes / f"instances_{split}2017.json").write_text("{}")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write(tmp_path, "train", {200: ["two hundred", "another"], 30: [" thirty "], 90: []})
    write(tmp_path, "val", {120: ["a", "b", "c"]})
    return tmp_path


def test_images_stand_beside_their_own_captions(coco: Path) -> None:
    source = pairs_of(None, str(coco))
    assert source.captions == [["thirty"], ["two hundred", "another"]]
    image, rows = source.pairs(source.rows, 8).images.batch([0, 1])
    assert list(rows) == [0, 1]
    assert image.dtype == torch.uint8
    assert [round(each.float().mean().item()) for each in image] == [30, 200]


def test_the_validation_images_are_a_split_of_their_own(coco: Path) -> None:
    probe = pairs_of(None, str(coco), split="val").probe(pairs_of(None, str(coco), split="val").rows, 8)
    assert (len(probe.images), probe.text_group.tolist()) == (1, [0, 0, 0])


def test_a_missing_image_and_a_cut_file_are_a_line(coco: Path) -> None:
    (coco / "train2017" / f"{30:012}.jpg").unlink()
    with pytest.raises(ConfigError, match=r"1 of 2 images are not there, such as .*train2017/000000000030\.jpg"):
        pairs_of(None, str(coco))
    file = coco / "annotations" / "captions_train2017.json"
    file.write_text(file.read_text()[:-30])
    with pytest.raises(ConfigError, match=r"captions_train2017\.json is not a complete file of COCO's captions"):
        pairs_of(None, str(coco))

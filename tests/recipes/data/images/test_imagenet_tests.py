"""ImageNet-ReaL and ImageNet-V2."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from recipes.errors import ConfigError
from tests.recipes.data.images.formats.test_tables import TEST_VALUES, TRAIN_VALUES, table
from tests.recipes.data.images.image_files import CLASSES, jpeg, load, one_line, value_of, write_folders

ANSWERS = [[0], [1, 2], [], [2], [0, 1], [2], [], [1], [2], [0], [1], []]


def official(root: Path) -> Path:
    """Test images under ImageNet's names, so that the order of files is not the order of classes."""
    for label, name in enumerate(CLASSES):
        for index, file in enumerate(sorted((root / "val" / name).iterdir())):
            file.rename(file.with_name(f"ILSVRC2012_val_{3 * index + label + 1:08}.JPEG"))
    return root


def test_real_labels_follow_the_file_names(folders, tmp_path):
    (tmp_path / "real.json").write_text(json.dumps(ANSWERS))
    splits = load(official(folders), real_labels=str(tmp_path / "real.json"))
    real = splits["real"]
    assert list(splits) == ["train", "val", "test", "real"]
    assert len(real) == 9
    assert real.class_names == CLASSES
    kept = [(number, answer) for number, answer in enumerate(ANSWERS) if answer]
    for (number, answer), (image, label) in zip(kept, real, strict=True):
        assert value_of(image) == pytest.approx(60 * (number % 3) + 40 + number // 3, abs=1)
        assert label.dtype == bool
        assert np.flatnonzero(label).tolist() == answer
    batch = torch.as_tensor(np.asarray([real[index][1] for index in range(3)]))
    assert batch.shape == (3, 3)
    assert real.fingerprint() != splits["test"].fingerprint()


def test_real_labels_for_a_table(tmp_path):
    test = table(TEST_VALUES)
    order = [4, 2, 6, 1, 5, 3]
    cells = [
        {"bytes": jpeg(v), "path": f"ILSVRC2012_val_{n:08}_n0{n}.JPEG"} for v, n in zip(TEST_VALUES, order, strict=True)
    ]
    test = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 2, 0, 1, 2]}, features=test.features)
    datasets.DatasetDict(train=table(TRAIN_VALUES), validation=test).save_to_disk(str(tmp_path / "a"))
    (tmp_path / "real.json").write_text(json.dumps([[0], [1], [2], [], [1], [0]]))
    real = load(tmp_path / "a", real_labels=str(tmp_path / "real.json"))["real"]
    assert [np.flatnonzero(label).tolist() for _, label in real] == [[0], [1], [2], [1], [0]]
    expected = [TEST_VALUES[order.index(number)] for number in (1, 2, 3, 5, 6)]
    assert [value_of(image) for image, _ in real] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "get real.json from"),
        ("[[0], ", "is no JSON file"),
        (json.dumps(ANSWERS[:5]), "holds labels for 5 images"),
        (json.dumps([*ANSWERS[:11], [3]]), r"gives image 12 the labels \[3\]"),
        (json.dumps([*ANSWERS[:11], 0]), "gives image 12 the labels 0"),
    ],
)
def test_real_labels_that_do_not_fit(folders, tmp_path, content, words):
    if content is not None:
        (tmp_path / "real.json").write_text(content)
    with pytest.raises(ConfigError, match=words) as error:
        load(official(folders), real_labels=str(tmp_path / "real.json"))
    assert "+data.options.real_labels=" in one_line(error)


def test_real_labels_need_the_official_names(folders, tmp_path):
    (tmp_path / "real.json").write_text(json.dumps(ANSWERS))
    with pytest.raises(ConfigError, match="use the official validation files"):
        load(folders, real_labels=str(tmp_path / "real.json"))


def test_v2_folders_are_numbers_not_words(tmp_path):
    classes = tuple(f"n{number:08}" for number in range(12))
    root = write_folders(tmp_path / "photos", train=2, val=1, classes=classes)
    v2 = tmp_path / "imagenetv2-matched-frequency-format-val"
    for number in range(12):
        (v2 / str(number)).mkdir(parents=True)
        (v2 / str(number) / "a.jpeg").write_bytes(jpeg(10 * number))
    examples = load(root, v2_path=str(v2), val_size=2)["v2"]
    assert len(examples) == 12
    assert examples.class_names == classes
    assert sorted(label for _, label in examples) == list(range(12))
    assert all(value_of(image) == pytest.approx(10 * label, abs=1) for image, label in examples)


@pytest.mark.parametrize("names", [(), ("0", "1"), ("0", "1", "3"), ("00", "01", "02"), CLASSES])
def test_v2_folders_that_do_not_fit(folders, tmp_path, names):
    (tmp_path / "v2").mkdir()
    for name in names:
        (tmp_path / "v2" / name).mkdir()
    with pytest.raises(ConfigError, match="expected are the numbers 0 to 2") as error:
        load(folders, v2_path=str(tmp_path / "v2"))
    assert "+data.options.v2_path=" in one_line(error)


def test_a_missing_v2_folder_is_named(folders, tmp_path):
    with pytest.raises(ConfigError, match="unpack imagenetv2-matched-frequency-format-val"):
        load(folders, v2_path=str(tmp_path / "v2"))

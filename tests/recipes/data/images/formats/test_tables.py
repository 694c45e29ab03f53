"""Labelled images in Hugging Face data sets, saved in a folder."""

from pathlib import Path

import datasets
import pytest

from recipes.errors import ConfigError
from tests.recipes.data.images.image_files import CLASSES, jpeg, load, one_line, value_of

TRAIN_VALUES = [60 * label + index for index in range(8) for label in range(3)]
TEST_VALUES = [60 * label + 40 + index for index in range(2) for label in range(3)]


def table(values, features=None, image="image", label="label", labels=None) -> datasets.Dataset:
    values = list(values)
    features = features or datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=list(CLASSES))})
    labels = [value // 60 for value in values] if labels is None else labels
    cells = [{"bytes": jpeg(value), "path": f"{value}.JPEG"} for value in values]
    return datasets.Dataset.from_dict({image: cells, label: labels}, features=features)


def dictionary(**columns) -> datasets.DatasetDict:
    return datasets.DatasetDict(train=table(TRAIN_VALUES, **columns), validation=table(TEST_VALUES, **columns))


def saved(tmp_path, **columns) -> Path:
    dictionary(**columns).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def parquet(tmp_path, **columns) -> Path:
    for name, split in dictionary(**columns).items():
        (tmp_path / "parquet" / "data").mkdir(parents=True, exist_ok=True)
        split.to_parquet(str(tmp_path / "parquet" / "data" / f"{name}-00000-of-00001.parquet"))
    return tmp_path / "parquet"


@pytest.mark.parametrize("written", [saved, parquet])
def test_hugging_face_folders(tmp_path, written):
    path = written(tmp_path)
    splits = load(path, val_size=4)
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "val": 4, "test": 6}
    for split in splits.values():
        assert split.class_names == CLASSES
        for image, label in split:
            assert image.mode == "RGB"
            assert value_of(image) // 60 == label
    assert load(path, val_size=4)["test"].fingerprint() == splits["test"].fingerprint()
    assert len({split.fingerprint() for split in splits.values()}) == 3


def test_images_described_by_a_metadata_file(tmp_path):
    for split, values in (("train", TRAIN_VALUES), ("validation", TEST_VALUES)):
        (tmp_path / split / "files").mkdir(parents=True)
        rows = ["file_name,label"]
        for value in values:
            (tmp_path / split / "files" / f"{value}.jpg").write_bytes(jpeg(value))
            rows.append(f"files/{value}.jpg,{CLASSES[value // 60]}")
        (tmp_path / split / "metadata.csv").write_text("\n".join(rows) + "\n")
    test = load(tmp_path, val_size=4)["test"]
    assert test.class_names == CLASSES
    assert all(value_of(image) // 60 == label for image, label in test)


def test_columns_by_their_kind_or_by_name(tmp_path):
    path = saved(tmp_path, image="img", label="fine_label")
    assert len(load(path)["test"]) == 6
    with pytest.raises(
        ConfigError, match=r"no column pixels: set \+data\.options\.image_column to one of img"
    ) as error:
        load(path, image_column="pixels")
    one_line(error)
    with pytest.raises(ConfigError, match="column fine_label holds no encoded images") as error:
        load(path, image_column="fine_label")
    one_line(error)


def test_columns_that_cannot_be_guessed_are_asked_for(tmp_path):
    path = saved(
        tmp_path, features=datasets.Features({"image": datasets.Image(), "kind": datasets.Value("int32")}), label="kind"
    )
    with pytest.raises(ConfigError, match=r"no column label: set \+data\.options\.label_column to one of image, kind"):
        load(path)
    splits = load(path, label_column="kind")
    assert splits["test"].class_names == ("0", "1", "2")
    assert [label for _, label in splits["test"]] == [0, 1, 2, 0, 1, 2]


def test_labels_as_texts(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    train = table(TRAIN_VALUES, features, labels=[CLASSES[value // 60] for value in TRAIN_VALUES])
    test = table(TEST_VALUES, features, labels=[CLASSES[value // 60] for value in TEST_VALUES])
    datasets.DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "a"))
    assert load(tmp_path / "a")["test"].labels.tolist() == [0, 1, 2, 0, 1, 2]
    strange = table(TEST_VALUES, features, labels=["dog"] * 6)
    datasets.DatasetDict(train=train, test=strange).save_to_disk(str(tmp_path / "b"))
    with pytest.raises(ConfigError, match="no label of the 3 classes of training") as error:
        load(tmp_path / "b")
    one_line(error)


def test_hidden_labels_are_refused(tmp_path):
    hidden = table(TEST_VALUES, labels=[-1] * 6)
    datasets.DatasetDict(train=table(TRAIN_VALUES), test=hidden).save_to_disk(str(tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"set \+data\.options\.test_split to a split with labels"):
        load(tmp_path / "a")


def test_labels_of_another_kind_are_refused(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float32")})
    with pytest.raises(ConfigError, match="column label holds float32, labels are whole numbers or names"):
        load(saved(tmp_path, features=features))


def test_different_classes_are_refused(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    mixed = datasets.DatasetDict(train=table(TRAIN_VALUES), test=table(TEST_VALUES, features))
    mixed.save_to_disk(str(tmp_path / "a"))
    with pytest.raises(ConfigError, match="not the same as the 3 of training"):
        load(tmp_path / "a")


def test_an_unknown_split_lists_the_known(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(ConfigError, match=r"no split val: set \+data\.options\.test_split to one of train, validation"):
        load(path, test_split="val")
    with pytest.raises(ConfigError, match=r"no split full: set \+data\.options\.train_split"):
        load(path, train_split="full")


def test_an_empty_split_is_refused(tmp_path):
    table(TRAIN_VALUES).to_parquet(str(tmp_path / "train.parquet"))
    table([]).to_parquet(str(tmp_path / "test.parquet"))
    with pytest.raises(ConfigError, match=r"cannot be read as a Hugging Face data set: .*test.* no data") as error:
        load(tmp_path)
    one_line(error)


def test_a_data_set_saved_without_splits_is_split(tmp_path):
    table(TRAIN_VALUES).save_to_disk(str(tmp_path / "a"))
    splits = load(tmp_path / "a", val_size=2)
    assert {name: len(split) for name, split in splits.items()} == {"train": len(TRAIN_VALUES) - 4, "val": 2, "test": 2}


def test_a_broken_table_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ConfigError, match="cannot be read as a Hugging Face data set") as error:
        load(tmp_path)
    one_line(error)


def test_corrupt_rows_are_replaced(tmp_path):
    cells = [{"bytes": jpeg(value), "path": None} for value in TEST_VALUES]
    cells[1] = {"bytes": jpeg(1)[:-600], "path": None}
    cells[2] = None
    test = datasets.Dataset.from_dict(
        {"image": cells, "label": [0, 1, 2, 0, 1, 2]}, features=table(TEST_VALUES).features
    )
    datasets.DatasetDict(train=table(TRAIN_VALUES), test=test).save_to_disk(str(tmp_path / "a"))
    examples = load(tmp_path / "a")["test"]
    assert [label for _, label in examples] == [0, 0, 0, 0, 1, 2]
    assert examples.corrupt == {1, 2}

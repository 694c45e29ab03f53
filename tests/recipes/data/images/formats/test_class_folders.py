"""Class folders: what is read, and which layouts are refused."""

import shutil

import pytest
from PIL import Image

from recipes.data.images import files
from recipes.errors import ConfigError
from tests.recipes.data.images.image_files import CLASSES, jpeg, load, one_line, value_of, write_folders


def test_class_folders_give_rgb_images_and_labels(folders):
    splits = load(folders)
    assert {name: len(split) for name, split in splits.items()} == {"train": 30, "val": 6, "test": 12}
    for split in splits.values():
        assert split.class_names == CLASSES
        for image, label in (split[index] for index in range(len(split))):
            assert image.mode == "RGB"
            assert image.size == (40, 32)
            assert isinstance(label, int)
            assert abs(value_of(image) - 60 * label - 20) <= 25


def test_class_folders_without_splits_are_split(tmp_path, capsys):
    root = write_folders(tmp_path, train=20) / "train"
    splits = files.load(path=str(root))
    assert {name: len(split) for name, split in splits.items()} == {"train": 48, "val": 6, "test": 6}
    assert sorted(row for split in splits.values() for row in split.rows) == list(range(60))
    assert splits["test"].class_names == CLASSES
    assert "6 of 60 images held out for val and as many for test" in capsys.readouterr().out
    again = files.load(path=str(root))
    assert all((again[name].rows == split.rows).all() for name, split in splits.items())


def test_val_and_test_are_read_where_both_are_there(folders, capsys):
    shutil.copytree(folders / "val", folders / "test")
    shutil.copytree(folders / "val", folders / "more")
    (folders / "test" / "ant" / "00.JPEG").unlink()
    splits = files.load(path=str(folders))
    assert {name: len(split) for name, split in splits.items()} == {"train": 36, "val": 12, "test": 11}
    assert "of its folders test, train, val are read, not more; +data.options.val_split" in capsys.readouterr().out
    assert len(load(folders, test_split="more")["test"]) == 12
    assert len(load(folders, val_split="more", test_split="test")["val"]) == 12


def test_other_files_are_no_images_and_folders_may_nest(folders):
    (folders / "train" / "ant" / "readme.txt").write_text("not an image")
    (folders / "train" / "ant" / ".hidden.jpg").write_text("not an image")
    (folders / "train" / ".cache").mkdir()
    nested = folders / "train" / "ant" / "more"
    nested.mkdir()
    (nested / "x.png").write_bytes(jpeg(7))
    splits = load(folders)
    assert len(splits["train"]) + len(splits["val"]) == 37
    assert splits["train"].class_names == CLASSES


def test_the_test_split_can_be_named(folders):
    (folders / "val").rename(folders / "held")
    assert len(load(folders, test_split="held")["test"]) == 12
    with pytest.raises(ConfigError, match=r"/val is missing: .* \+data\.options\.test_split") as error:
        load(folders, test_split="val")
    one_line(error)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_kind_of_image_becomes_rgb(folders, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    transparency = {"transparency": 0} if mode == "P" else {}
    Image.new(mode, (9, 9)).save(folders / "val" / "ant" / f"0.{suffix}", **transparency)
    assert load(folders)["test"][0][0].mode == "RGB"


def test_an_empty_class_folder_is_named(folders):
    for file in (folders / "train" / "bee").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="train/bee holds no images") as error:
        load(folders)
    one_line(error)


def test_test_images_that_are_not_sorted_into_classes_are_named(folders):
    for file in list((folders / "val").rglob("*.JPEG")):
        file.rename(folders / "val" / f"{file.parent.name}_{file.name}")
    for name in CLASSES:
        (folders / "val" / name).rmdir()
    with pytest.raises(ConfigError, match="val holds no class folders: sort its images") as error:
        load(folders)
    one_line(error)


def test_classes_of_both_splits_have_to_agree(folders):
    (folders / "val" / "cat").rename(folders / "val" / "dog")
    with pytest.raises(ConfigError, match="training has 3 and no dog: remove it here") as error:
        load(folders)
    one_line(error)

import shutil

import pytest

from recipes.data.images import files
from recipes.errors import ConfigError
from tests.recipes.data.images.image_files import load, one_line


def test_fingerprint_follows_names_and_sizes(folders, tmp_path):
    first = load(folders)
    assert {split.fingerprint() for split in load(folders).values()} == {s.fingerprint() for s in first.values()}
    assert len({split.fingerprint() for split in first.values()}) == 3
    moved = shutil.copytree(folders, tmp_path / "elsewhere")
    assert load(moved)["train"].fingerprint() == first["train"].fingerprint()
    (moved / "train" / "ant" / "00.JPEG").write_bytes(b"")
    assert load(moved)["train"].fingerprint() != first["train"].fingerprint()
    assert load(folders, val_size=5)["train"].fingerprint() != first["train"].fingerprint()


def test_no_place_is_refused():
    with pytest.raises(ConfigError, match=r"set data\.path or data\.hub") as error:
        files.load()
    one_line(error)


def test_a_folder_goes_before_the_hub(folders):
    assert len(load(folders, hub="somebody/photos")["test"]) == 12


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a folder: set data\.path") as error:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in one_line(error)


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(ConfigError, match=r"no class folders in train/ and no tables \(found: imagenet\)") as error:
        load(tmp_path)
    one_line(error)

"""Unreadable images are replaced, counted and limited."""

import logging
import pickle
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from recipes.data import listing
from recipes.errors import ConfigError
from tests.recipes.data.images.image_files import jpeg, load, one_line, truncate, value_of, write_folders


def test_index_out_of_range_ends_iteration(folders):
    test = load(folders)["test"]
    with pytest.raises(IndexError):
        test[12]
    assert len(list(test)) == 12


def test_a_truncated_image_is_replaced_by_the_next_and_said_once(folders, caplog):
    truncate(folders / "val" / "ant" / "01.JPEG")
    test = load(folders)["test"]
    with caplog.at_level(logging.WARNING):
        values = [value_of(test[index][0]) for index in (0, 1, 2, 1, 1)]
    assert values == pytest.approx([40, 42, 42, 42, 42], abs=1)
    assert test.corrupt == {1}
    (message,) = caplog.messages
    assert "01.JPEG, which cannot be read: image file is truncated" in message
    assert "\n" not in message


def test_the_replacement_brings_its_label_and_wraps_around(folders):
    (folders / "val" / "bee" / "03.JPEG").write_text("no image at all")
    truncate(folders / "val" / "cat" / "03.JPEG")
    test = load(folders)["test"]
    assert test[7][1] == 2
    assert test[11][1] == 0
    assert test.corrupt == {7, 11}


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", jpeg(3)[:30]])
def test_all_kinds_of_broken_files_are_caught(folders, content):
    (folders / "val" / "ant" / "00.JPEG").write_bytes(content)
    test = load(folders)["test"]
    assert value_of(test[0][0]) == pytest.approx(41, abs=1)
    assert test.corrupt == {0}


def test_too_many_corrupt_images_end_the_run(tmp_path):
    root = write_folders(tmp_path, train=3, val=20)
    for file in sorted((root / "val").rglob("*.JPEG"))[::2]:
        truncate(file)
    test = load(root, val_size=1)["test"]
    with pytest.raises(ConfigError, match="11 images cannot be read") as error:
        list(test)
    assert "up to 10 or 1% are left out: repair, convert or remove them" in one_line(error)


def test_many_corrupt_images_in_a_row_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "MAX_UNREADABLE_SHARE", 0.9)
    root = write_folders(tmp_path, train=3, val=20)
    for file in sorted((root / "val").rglob("*.JPEG"))[:12]:
        truncate(file)
    test = load(root, val_size=1)["test"]
    with pytest.raises(ConfigError, match="more than 10 images in a row cannot be read") as error:
        test[0]
    one_line(error)


def test_a_data_set_without_a_readable_image_ends_the_run(tmp_path):
    root = write_folders(tmp_path, train=3, val=1, classes=("ant",))
    truncate(root / "val" / "ant" / "00.JPEG")
    with pytest.raises(ConfigError, match="in a row cannot be read"):
        load(root, val_size=1)["test"][0]


def test_loader_workers_replace_alike(folders):
    truncate(folders / "val" / "bee" / "01.JPEG")
    test = load(folders)["test"]
    loader = DataLoader(test, batch_size=3, num_workers=2, collate_fn=lambda batch: [value_of(i) for i, _ in batch])
    values = [value for batch in loader for value in batch]
    assert values == pytest.approx([value_of(test[index][0]) for index in range(12)], abs=0)
    assert values[5] == values[6]


def test_a_worker_answers_for_its_share_of_the_images(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "MAX_UNREADABLE", 2)
    monkeypatch.setattr(listing, "MAX_UNREADABLE_SHARE", 0.1)
    root = write_folders(tmp_path, train=3, val=20)
    for file in sorted((root / "val").rglob("*.JPEG"))[:60:13]:
        truncate(file)
    assert len(list(load(root, val_size=1)["test"])) == 60  # 5 of 60 are borne
    monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: SimpleNamespace(num_workers=4))
    with pytest.raises(ConfigError, match="3 images cannot be read"):
        list(load(root, val_size=1)["test"])


def test_examples_can_be_sent_to_another_process(folders):
    test = load(folders)["test"]
    copy = pickle.loads(pickle.dumps(test))
    assert copy.fingerprint() == test.fingerprint()
    assert copy[5][1] == test[5][1]

"""Images that are held out of training for validation and test."""

from collections import Counter

import pytest

from recipes.data.images import files
from recipes.data.images.holdout import held_out_count
from recipes.errors import ConfigError
from tests.recipes.data.images.image_files import load, one_line, write_folders


def test_val_is_held_out_of_training_whatever_the_class(tmp_path):
    splits = load(write_folders(tmp_path, train=60), val_size=60)
    names = {name: {split.source.name(row) for row in split.rows} for name, split in splits.items()}
    assert not names["train"] & names["val"]
    assert len(names["train"] | names["val"]) == 180
    assert min(Counter(split_label for split_label in splits["val"].labels.tolist()).values()) >= 10
    assert len(Counter(splits["val"].labels.tolist())) == 3
    again = load(tmp_path, val_size=60)["val"]
    assert (again.rows == splits["val"].rows).all()


def test_a_tenth_of_a_small_set_is_held_out_by_default_and_said(tmp_path, capsys):
    splits = files.load(path=str(write_folders(tmp_path, train=67, val=1)))
    assert len(splits["val"]) == 20
    assert capsys.readouterr().out == (
        f"data.path={tmp_path}: 20 of 201 images held out for val (+data.options.val_size); "
        "one of them is 5 points of accuracy\n"
    )


@pytest.mark.parametrize(("total", "size"), [(60, 6), (620, 62), (1000, 100), (5000, 100), (1281167, 12812)])
def test_a_hundred_or_one_percent_are_held_out(total, size):
    assert held_out_count(total, None, None) == size
    assert held_out_count(total, 0.01, None) == round(total / 100)
    assert held_out_count(total, 0.01, 7) == 7


@pytest.mark.parametrize("size", [0, 36, 50])
def test_val_size_out_of_range_is_refused(folders, size):
    with pytest.raises(ConfigError, match=f"val would hold {size} of 36 training images") as error:
        load(folders, val_size=size)
    assert "+data.options.val_size" in one_line(error)

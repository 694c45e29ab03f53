import io
import json
import logging
import pickle
import shutil
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from recipes.data import hub, listing
from recipes.data.images import files
from recipes.data.images.holdout import held_out_count
from recipes.errors import ConfigError

CLASSES = ("ant", "bee", "cat")


def jpeg(value: int, size: tuple[int, int] = (40, 32)) -> bytes:
    """A noisy JPEG whose mean tells it apart from others."""
    noise = np.random.default_rng(value).integers(0, 40, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray((noise + value % 200).astype(np.uint8)).save(file, "jpeg", quality=95)
    return file.getvalue()


def value_of(image: Image.Image) -> int:
    return round(float(np.asarray(image).mean()) - 19.5)


def write_folders(root: Path, train: int = 12, val: int = 4, classes: tuple[str, ...] = CLASSES) -> Path:
    """Class folders; the n-th image of the k-th class has the value 60 k + n (training) or 60 k + 40 + n."""
    for split, number, offset in (("train", train, 0), ("val", val, 40)):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                content = jpeg(60 * label + offset + index)
                (root / split / name / f"{index:02}.JPEG").write_bytes(content)
    return root


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path / "photos")


def load(path: Path, **options):
    return files.load(path=str(path), **({"val_size": 6} | options))


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# Class folders


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


@pytest.mark.parametrize("size", [0, 36, 50])
def test_val_size_out_of_range_is_refused(folders, size):
    with pytest.raises(ConfigError, match=f"val would hold {size} of 36 training images") as error:
        load(folders, val_size=size)
    assert "+data.options.val_size" in one_line(error)


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


def test_fingerprint_follows_names_and_sizes(folders, tmp_path):
    first = load(folders)
    assert {split.fingerprint() for split in load(folders).values()} == {s.fingerprint() for s in first.values()}
    assert len({split.fingerprint() for split in first.values()}) == 3
    moved = shutil.copytree(folders, tmp_path / "elsewhere")
    assert load(moved)["train"].fingerprint() == first["train"].fingerprint()
    (moved / "train" / "ant" / "00.JPEG").write_bytes(b"")
    assert load(moved)["train"].fingerprint() != first["train"].fingerprint()
    assert load(folders, val_size=5)["train"].fingerprint() != first["train"].fingerprint()


def test_index_out_of_range_ends_iteration(folders):
    test = load(folders)["test"]
    with pytest.raises(IndexError):
        test[12]
    assert len(list(test)) == 12


# What is missing


def test_no_place_is_refused():
    with pytest.raises(ConfigError, match=r"set data\.path or data\.hub") as error:
        files.load()
    one_line(error)


def test_a_folder_goes_before_the_hub(folders):
    assert len(load(folders, hub="somebody/photos")["test"]) == 12


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is no folder: set data\.path") as error:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in one_line(error)


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "imagenet").mkdir()
    with pytest.raises(ConfigError, match=r"no class folders in train/ and no tables \(found: imagenet\)") as error:
        load(tmp_path)
    one_line(error)


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


# Corrupt images


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


# Hugging Face data sets


def table(values, features=None, image="image", label="label", labels=None) -> datasets.Dataset:
    values = list(values)
    features = features or datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=list(CLASSES))})
    labels = [value // 60 for value in values] if labels is None else labels
    cells = [{"bytes": jpeg(value), "path": f"{value}.JPEG"} for value in values]
    return datasets.Dataset.from_dict({image: cells, label: labels}, features=features)


TRAIN_VALUES = [60 * label + index for index in range(8) for label in range(3)]
TEST_VALUES = [60 * label + 40 + index for index in range(2) for label in range(3)]


def dictionary(**columns) -> datasets.DatasetDict:
    return datasets.DatasetDict(train=table(TRAIN_VALUES, **columns), validation=table(TEST_VALUES, **columns))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


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


# The hub


@pytest.fixture
def online(monkeypatch):
    """As if the user had not asked to stay offline; the hub's address refuses connections at once."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.usefixtures("online")
def test_no_network_and_no_copy(monkeypatch, offline):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ConfigError, match="the hub cannot be reached and the cache has no copy") as error:
        files.load(hub="somebody/photos")
    assert "data.hub=somebody/photos" in one_line(error)
    assert "data.path" in one_line(error)
    assert offline == datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("online")
def test_no_network_but_a_copy_in_the_cache(tmp_path, cache):
    # What an earlier download would have left, made from local files and put under the hub's name.
    source = parquet(tmp_path).rename(tmp_path / "photos")
    datasets.load_dataset(str(source), cache_dir=str(tmp_path / "made"))
    (made,) = (tmp_path / "made" / "photos").iterdir()
    home = cache / "somebody___photos" / "default"
    shutil.copytree(made, home)
    (information,) = home.rglob("dataset_info.json")
    information.write_text(json.dumps(json.loads(information.read_text()) | {"config_name": "default"}))
    splits = files.load(hub="somebody/photos", val_size=4)
    assert len(splits["test"]) == 6
    assert value_of(splits["test"][1][0]) == pytest.approx(100, abs=1)


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.usefixtures("online")
def test_whether_the_hub_is_reachable():
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        assert hub.reachable(f"http://{address}/")
        assert hub.reachable(f"http://{address}/missing")
        assert hub.reachable(f"https://{address}/")  # certificates are left to the hub's library
        server.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not hub.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)
    assert not hub.reachable("http://127.0.0.1:9")


def test_what_the_hub_answers_is_passed_on_in_one_line(monkeypatch):
    def refuse(name, subset):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' is a gated dataset on the Hub.\nLong story.")

    monkeypatch.setattr(hub, "reachable", lambda address: True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ConfigError, match=r"is a gated dataset on the Hub\.\): log in with `hf auth login`") as error:
        files.load(hub="ILSVRC/imagenet-1k")
    one_line(error)


def test_a_folder_given_as_a_name(folders, monkeypatch):
    monkeypatch.chdir(folders.parent)
    with pytest.raises(ConfigError, match=r"set data\.path=photos") as error:
        files.load(hub="photos")
    one_line(error)


# ImageNet-ReaL and ImageNet-V2


def official(root: Path) -> Path:
    """Test images under ImageNet's names, so that the order of files is not the order of classes."""
    for label, name in enumerate(CLASSES):
        for index, file in enumerate(sorted((root / "val" / name).iterdir())):
            file.rename(file.with_name(f"ILSVRC2012_val_{3 * index + label + 1:08}.JPEG"))
    return root


ANSWERS = [[0], [1, 2], [], [2], [0, 1], [2], [], [1], [2], [0], [1], []]


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

"""Images with captions from shards and saved data sets, in small files of the formats that the large ones have."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Sequence, Value
from PIL import Image as Pillow
from tokenizers import Tokenizer, models, pre_tokenizers

from recipes.data import image_text
from recipes.data.pairs import PADS, STARTS
from recipes.errors import ConfigError


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))


def picture(colour: int) -> bytes:
    """A JPEG of one grey."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (40, 30), (colour,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def shard(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    words = {word: number for number, word in enumerate([STARTS[0], PADS[0], "a", "photo", "of", "[UNK]"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([STARTS[0], PADS[0]])
    made.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """A data set as the hub has CIFAR-100 and Pets: images and class labels."""
    features = Features({"image": Image(), "label": ClassLabel(names=["tabby_cat", "dog"])})

    def rows(count: int) -> Dataset:
        columns = {
            "image": [{"bytes": picture(5 * i), "path": None} for i in range(count)],
            "label": [i % 2 for i in range(count)],
        }
        return Dataset.from_dict(columns, features=features)

    DatasetDict({"train": rows(20), "test": rows(6)}).save_to_disk(str(tmp_path / "labelled"))
    return str(tmp_path / "labelled")


@pytest.fixture
def captioned(tmp_path: Path) -> str:
    """A data set as Karpathy's splits: several captions an image."""
    features = Features({"image": Image(), "captions": Sequence(Value("string"))})
    columns = {
        "image": [{"bytes": picture(80 * i), "path": None} for i in range(3)],
        "captions": [["black", "dark"], ["grey"], ["white", "light", "bright"]],
    }
    DatasetDict({"test": Dataset.from_dict(columns, features=features)}).save_to_disk(str(tmp_path / "captioned"))
    return str(tmp_path / "captioned")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "00.tar", {"0.jpg": picture(0), "0.txt": b"black\n", "1.jpg": b"no image", "1.txt": b"broken"})
    members = {
        "a/2.jpg": picture(100),
        "a/2.json": json.dumps({"caption": "grey", "url": "x"}).encode(),
        "a/3.jpg": picture(250),
        "4.txt": b"an image is missing",
        "a/5.png": picture(200),
        "a/5.json": b"{}",
        "a/5.txt": b"light",
    }
    shard(folder / "01.tar", members)
    return folder


def load(path: Path | str, tokenizer: str, labelled: str, **options: Any) -> Any:
    zero_shot = {"pets": {"path": labelled, "val_size": 4}}
    return image_text.load(path=str(path), tokenizer=tokenizer, size=8, zero_shot=zero_shot, **options)


def grey(images: Any, index: int) -> int:
    pixels, _ = images.batch([index])
    return round((pixels.mean().item() + 1) * 127.5)


def test_shards_give_each_image_its_caption_and_leave_out_what_is_half(
    shards: Path, tokenizer: str, labelled: str
) -> None:
    pairs = load(shards, tokenizer, labelled).train
    assert len(pairs.images) == len(pairs.captions) == 4
    assert pairs.captions.batch([0, 2, 3]) == ["black", "grey", "light"]
    assert [grey(pairs.images, i) for i in (0, 2, 3)] == pytest.approx([0, 100, 200], abs=3)


def test_a_broken_image_is_replaced_together_with_its_caption(shards: Path, tokenizer: str, labelled: str) -> None:
    pairs = load(shards, tokenizer, labelled).train
    pixels, taken = pairs.images.batch([1])
    assert list(taken) == [2]
    assert pairs.captions.batch(taken) == ["grey"]
    assert round((pixels.mean().item() + 1) * 127.5) == pytest.approx(100, abs=3)


def test_the_index_of_a_shard_is_made_once_and_follows_the_file(shards: Path, tokenizer: str, labelled: str) -> None:
    first = load(shards, tokenizer, labelled).train.captions.fingerprint()
    whole = tarfile.open
    try:
        tarfile.open = None  # type: ignore[assignment]
        assert load(shards, tokenizer, labelled).train.captions.fingerprint() == first
    finally:
        tarfile.open = whole
    shard(shards / "01.tar", {"9.jpg": picture(9), "9.txt": b"new"})
    changed = load(shards, tokenizer, labelled).train
    assert len(changed.images) == 3
    assert changed.captions.batch([2]) == ["new"]
    assert changed.captions.fingerprint() != first


def test_a_saved_data_set_trains_on_the_first_caption(captioned: str, tokenizer: str, labelled: str) -> None:
    pairs = load(captioned, tokenizer, labelled, train_split="test", caption_column="captions").train
    assert pairs.captions.batch([0, 1, 2]) == ["black", "grey", "white"]
    assert grey(pairs.images, 1) == pytest.approx(80, abs=3)


def test_zero_shot_sets_have_prompts_of_every_class(shards: Path, tokenizer: str, labelled: str) -> None:
    probes = load(shards, tokenizer, labelled, templates=["a {}", "the {}"]).probes
    assert list(probes) == ["val", "test"]
    assert (len(probes["val"].images), len(probes["test"].images)) == (4, 6)
    assert probes["test"].texts.texts == ("a tabby cat", "the tabby cat", "a dog", "the dog")
    assert probes["test"].prompt_class.tolist() == [0, 0, 1, 1]
    assert probes["test"].label.tolist() == [0, 1, 0, 1, 0, 1]


def test_names_of_classes_come_from_a_file_where_asked(
    tmp_path: Path, shards: Path, tokenizer: str, labelled: str
) -> None:
    names = tmp_path / "names.json"
    names.write_text('["kitten", "puppy"]')
    found = image_text.load(
        path=str(shards),
        tokenizer=tokenizer,
        size=8,
        zero_shot={
            "pets": {"path": labelled, "val_size": 4, "names": str(names)},
            "more": {"path": labelled, "val_size": 4},
        },
        templates=["{}"],
    )
    assert found.probes["test"].texts.texts == ("kitten", "puppy")
    assert list(found.probes) == ["val", "test", "more"]
    names.write_text('["kitten"]')
    with pytest.raises(ConfigError, match="must be a list of 2 names"):
        image_text.load(
            path=str(shards),
            tokenizer=tokenizer,
            zero_shot={"pets": {"path": labelled, "val_size": 4, "names": str(names)}},
        )


def test_classes_are_spoken_of_by_one_name(tmp_path: Path, shards: Path, tokenizer: str) -> None:
    """ImageNet's folders are numbers of WordNet, the hub's names lists of synonyms."""
    for split in ("train", "val"):
        for number, name in enumerate(("n01440764", "n99999999", "crane, lifting device")):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for i in range(3):
                (tmp_path / "imagenet" / split / name / f"{i}.jpg").write_bytes(picture(10 * number + i))
    probe = load(shards, tokenizer, str(tmp_path / "imagenet"), templates=["{}"]).probes["test"]
    assert probe.texts.texts == ("crane", "tench", "n99999999")


def test_an_unreadable_labelled_image_is_replaced_together_with_its_class(
    tmp_path: Path, shards: Path, tokenizer: str
) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(4):
                (tmp_path / "pets" / split / name / f"{i}.jpg").write_bytes(picture(9 * i))
    (tmp_path / "pets" / "val" / "cat" / "3.jpg").write_bytes(b"broken")
    probe = load(shards, tokenizer, str(tmp_path / "pets")).probes["test"]
    _, taken = probe.images.batch([2, 3, 4])
    assert list(taken) == [2, 4, 4]
    assert probe.label[list(taken)].tolist() == [0, 1, 1]


def test_retrieval_groups_every_caption_with_its_image(
    shards: Path, tokenizer: str, labelled: str, captioned: str
) -> None:
    retrieval = {"coco": {"path": captioned, "caption_column": "captions"}}
    probe = load(shards, tokenizer, labelled, retrieval=retrieval).probes["coco"]
    assert probe.texts.texts == ("black", "dark", "grey", "white", "light", "bright")
    assert probe.text_group.tolist() == [0, 0, 1, 2, 2, 2]
    assert probe.image_group.tolist() == [0, 1, 2]
    assert np.array_equal(probe.label, [-1, -1, -1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "/nowhere"}, "data.path=/nowhere is no folder: set it to one that holds WebDataset shards"),
        ({"path": None}, "set data.path or data.hub to say where images and captions are"),
        ({"zero_shot": None}, "set data.options.zero_shot"),
        ({"templates": ["a photo"]}, "must hold {} once"),
        ({"retrieval": {"coco": {"path": "x", "captions": "y"}}}, "coco has no option captions; it takes path, hub"),
    ],
)
def test_what_a_user_gets_wrong(
    shards: Path, tokenizer: str, labelled: str, change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"path": str(shards), "zero_shot": {"pets": {"path": labelled, "val_size": 4}}}
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
        image_text.load(**given | {"tokenizer": tokenizer} | change)


@pytest.mark.parametrize("row", [0, 1])
def test_a_row_without_a_caption_is_named(
    tmp_path: Path, shards: Path, tokenizer: str, labelled: str, row: int
) -> None:
    features = Features({"image": Image(), "caption": Value("string")})
    captions: list[str | None] = ["black", "grey"]
    captions[row] = None
    columns = {"image": [{"bytes": picture(0), "path": None}] * 2, "caption": captions}
    DatasetDict({"train": Dataset.from_dict(columns, features=features)}).save_to_disk(str(tmp_path / "half"))
    with pytest.raises(ConfigError, match=f"caption holds no text in row {row}"):
        load(tmp_path / "half", tokenizer, labelled)


def test_a_truncated_shard_and_a_missing_column(shards: Path, tokenizer: str, labelled: str, captioned: str) -> None:
    with pytest.raises(ConfigError, match="has no column caption; it has image, captions"):
        load(captioned, tokenizer, labelled, train_split="test")
    (shards / "02.tar").write_bytes(b"\x1f\x8b compressed")
    with pytest.raises(ConfigError, match=r"02\.tar is no whole, uncompressed tar file"):
        load(shards, tokenizer, labelled)

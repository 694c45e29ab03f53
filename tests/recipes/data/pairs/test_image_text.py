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

from recipes.data.pairs import image_text
from recipes.data.pairs.pairs import PADS, STARTS
from recipes.data.pairs.sources import pairs_of
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
    return round(pixels.float().mean().item())


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
    assert pixels.float().mean().item() == pytest.approx(100, abs=3)


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
    loaded = image_text.load(
        path=str(shards),
        tokenizer=tokenizer,
        size=8,
        zero_shot={
            "pets": {"path": labelled, "val_size": 4, "names": str(names)},
            "more": {"path": labelled, "val_size": 4},
        },
        templates=["{}"],
    )
    assert loaded.probes["test"].texts.texts == ("kitten", "puppy")
    assert list(loaded.probes) == ["val", "test", "more"]
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
        ({"path": "/nowhere"}, "data.path=/nowhere is not a folder: set data.path to one that holds WebDataset shards"),
        ({"path": None}, "set data.path or data.hub to say where the images are"),
        ({"zero_shot": None, "val_size": 2}, "val and test would hold 2 of 4 pairs each: give more pairs, set"),
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
def test_a_row_without_a_caption_is_left_out_and_counted(
    tmp_path: Path, tokenizer: str, labelled: str, row: int, capsys: pytest.CaptureFixture[str]
) -> None:
    features = Features({"image": Image(), "caption": Value("string")})
    captions: list[str | None] = ["black", "grey", "None", " "]
    captions[row] = None
    columns = {"image": [{"bytes": picture(60 * i), "path": None} for i in range(4)], "caption": captions}
    DatasetDict({"train": Dataset.from_dict(columns, features=features)}).save_to_disk(str(tmp_path / "half"))
    pairs = load(tmp_path / "half", tokenizer, labelled).train
    assert pairs.captions.batch(range(len(pairs.captions))) == [captions[1 - row], "None"]
    assert [grey(pairs.images, i) for i in range(2)] == pytest.approx([60 * (1 - row), 120], abs=3)
    assert "(train): left out 2 of 4 pictures, which have no caption\n" in capsys.readouterr().out


NO_CAPTIONS = [b'{"caption": null}', b"{}", b'{"caption": []}', b'{"caption": [null]}', b"[1]", b"null", b"junk", b""]


@pytest.mark.parametrize("content", NO_CAPTIONS)
def test_a_json_file_without_a_caption_is_no_pair(tmp_path: Path, content: bytes) -> None:
    good = {
        "0.jpg": picture(0),
        "0.txt": b"\xef\xbb\xbf a mark\n",
        "1.jpg": picture(9),
        "1.json": b'{"caption": ["b"]}',
    }
    members = good | {"2.jpg": picture(3), "2.json": content, "._3.jpg": b"x", "3.txt": b"\xff", "3.jpg": picture(4)}
    (tmp_path / "tar").mkdir()
    shard(tmp_path / "tar" / "0.tar", members)
    loose = tmp_path / "loose"
    loose.mkdir()
    for name, held in members.items():
        (loose / name).write_bytes(held)
    for folder in (tmp_path / "tar", loose):
        source = pairs_of(None, str(folder))
        pairs = source.pairs(np.arange(len(source)), 8)
        assert pairs.captions.batch(range(len(pairs.captions))) == ["a mark", "b"]


def test_pictures_with_captions_beside_them_are_split(
    tmp_path: Path, tokenizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        (tmp_path / "mine" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / str(number % 3) / f"{number}.JPG").write_bytes(picture(4 * number))
        (tmp_path / "mine" / str(number % 3) / f"{number}.txt").write_text(f"number {number}", encoding="utf-16")
    (tmp_path / "mine" / "0" / "alone.png").write_bytes(picture(3))
    loaded = image_text.load(path=str(tmp_path / "mine"), size=8)
    assert {name: len(probe.images) for name, probe in loaded.probes.items()} == {"val": 6, "test": 6}
    assert len(loaded.train.images) == 48
    seen = []
    for images, captions in (
        (loaded.train.images, loaded.train.captions),
        *((p.images, p.texts) for p in loaded.probes.values()),
    ):
        for index in range(len(images)):
            (text,) = captions.batch([index])
            seen.append(int(text.removeprefix("number ")))
            assert grey(images, index) == pytest.approx(4 * seen[-1], abs=3)
    assert sorted(seen) == list(range(60))
    probe = loaded.probes["val"]
    assert probe.image_group.tolist() == probe.text_group.tolist() == list(range(6))
    assert loaded.tokenizer.token_to_id(PADS[0]) == 1
    said = capsys.readouterr().out
    assert "left out 1 of 61 pictures, which have no caption" in said
    assert "6 of 60 pairs held out for val and as many for test" in said
    again = image_text.load(path=str(tmp_path / "mine"), size=8)
    assert again.probes["val"].fingerprint() == probe.fingerprint()


def test_shards_are_split_as_well_and_a_lone_data_set_is_taken(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "tar").mkdir()
    texts = [f"number {number}" for number in range(20)]
    members = {f"{i}.jpg": picture(9 * i) for i in range(20)} | {f"{i}.txt": texts[i].encode() for i in range(20)}
    shard(tmp_path / "tar" / "0.TAR", members)
    columns = {"picture": [{"bytes": picture(9 * i), "path": None} for i in range(20)], "text": texts}
    features = Features({"picture": Image(), "text": Value("string")})
    Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "lone"))
    for name in ("tar", "lone"):
        loaded = image_text.load(path=str(tmp_path / name), tokenizer=tokenizer, size=8, val_size=3)
        parts = [(loaded.train.images, loaded.train.captions)]
        parts += [(probe.images, probe.texts) for probe in loaded.probes.values()]
        assert [len(images) for images, _ in parts] == [14, 3, 3]
        seen = [(grey(i, n), *c.batch([n])) for i, c in parts for n in range(len(i))]
        assert sorted(text for _, text in seen) == sorted(texts)
        for value, text in seen:
            assert value == pytest.approx(9 * int(text.removeprefix("number ")), abs=3)


def test_a_truncated_shard_and_a_missing_column(shards: Path, tokenizer: str, labelled: str, captioned: str) -> None:
    with pytest.raises(ConfigError, match="has no column caption; it has image, captions"):
        load(captioned, tokenizer, labelled, train_split="test", caption_column="caption")
    (shards / "02.tar").write_bytes(b"\x1f\x8b compressed")
    with pytest.raises(ConfigError, match=r"02\.tar is not a complete, uncompressed tar file"):
        load(shards, tokenizer, labelled)

"""A stream of pairs becomes shards; the hub is a Parquet file, read by datasets' own streaming."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, Features, Image, Sequence, Value

from recipes.data.pairs import image_text, streamed
from recipes.errors import ConfigError
from tests.recipes.data.pairs.test_image_text import cache_of_its_own, grey, labelled, picture, tokenizer

__all__ = ["cache_of_its_own", "labelled", "tokenizer"]  # fixtures

ROWS = 7


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A data set of seven rows, of which the third has no image and the fifth no caption; lists what was asked for."""
    features = Features({"image": Image(), "captions": Sequence(Value("string"))})
    columns = {
        "image": [None if i == 2 else {"bytes": picture(30 * i), "path": None} for i in range(ROWS)],
        "captions": [[] if i == 4 else [f"grey {i}", "again"] for i in range(ROWS)],
    }
    Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    asked: list[Any] = []
    read = datasets.load_dataset

    def load_dataset(name: str, subset: str | None, *, streaming: bool) -> Any:
        asked.append((name, subset))
        return read("parquet", data_files={"train": str(tmp_path / "rows.parquet")}, streaming=streaming)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("recipes.data.hub.reachable", lambda address: True)
    monkeypatch.setattr(streamed, "SHARD", 2)
    return asked


def load(tokenizer: str, labelled: str, **options: Any) -> Any:
    given = {"hub": "some/pairs", "streaming": True, "caption_column": "captions", "size": 8}
    zero_shot = {"pets": {"path": labelled, "val_size": 4}}
    return image_text.load(tokenizer=tokenizer, zero_shot=zero_shot, **given | options).train


def test_pairs_come_in_the_streams_order_without_those_that_are_half(
    hub: list[Any], tokenizer: str, labelled: str
) -> None:
    pairs = load(tokenizer, labelled)
    assert pairs.captions.batch(range(5)) == ["grey 0", "grey 1", "grey 3", "grey 5", "grey 6"]
    assert [grey(pairs.images, i) for i in range(5)] == pytest.approx([0, 30, 90, 150, 180], abs=3)
    again = load(tokenizer, labelled)
    assert again.captions.fingerprint() == pairs.captions.fingerprint()
    assert hub == [("some/pairs", None)]


def test_so_many_pairs_and_no_more(hub: list[Any], tokenizer: str, labelled: str) -> None:
    pairs = load(tokenizer, labelled, train_pairs=3)
    assert pairs.captions.batch(range(len(pairs.captions))) == ["grey 0", "grey 1", "grey 3"]


@pytest.mark.parametrize("kind", [ConnectionResetError, RuntimeError])  # of the system, and of a network's library
def test_a_stream_that_breaks_off_goes_on_behind_the_last_whole_shard(
    hub: list[Any], tokenizer: str, labelled: str, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    rows = datasets.IterableDataset.__iter__
    read: list[int] = []

    def breaks(self: Any) -> Iterator[Any]:
        for number, row in enumerate(rows(self)):
            if number == 4:
                raise kind("the other side went away")
            read.append(number)
            yield row

    with monkeypatch.context() as broken:
        broken.setattr(datasets.IterableDataset, "__iter__", breaks)
        with pytest.raises(ConfigError, match=r"stopped after 2 pairs \(the other side went away\); the same command"):
            load(tokenizer, labelled)
    assert read == [0, 1, 2, 3]

    def counted(self: Any) -> Iterator[Any]:
        for row in itertools.chain(rows(self)):
            read.append(-1)
            yield row

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", counted)
    pairs = load(tokenizer, labelled)
    assert pairs.captions.batch(range(5)) == ["grey 0", "grey 1", "grey 3", "grey 5", "grey 6"]
    assert read.count(-1) == ROWS - 2  # the first two rows are in a shard


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption_column": "text"}, "has no column text; it has image, captions"),
        ({"train_pairs": 0}, "train_pairs=0 must be at least 1"),
        ({"train_split": "dev"}, "has no split dev; it has train"),
        ({"streaming": False, "train_pairs": 3}, "go together with data.hub"),
        ({"path": "/data", "hub": None}, "go together with data.hub"),
    ],
)
def test_what_a_user_gets_wrong(
    hub: list[Any], tokenizer: str, labelled: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tokenizer, labelled, **change)

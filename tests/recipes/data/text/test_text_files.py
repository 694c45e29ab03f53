"""Text files of every encoding."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from recipes.data import listing
from recipes.data.text import documents
from recipes.data.text.text_files import texts_of_files
from tests.recipes.data import made_up
from tests.recipes.data.text.test_documents import refusal


def read_made_up(folder: Path, seed: int, number: int) -> None:
    """Write texts of random encodings under random names, and compare what is read."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    readable, unreadable = [], 0
    for index in range(number):
        made = made_up.text(rng)
        name = made_up.name(rng, str(rng.choice([".txt", ".TXT"])), index)
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(made.content)
        unreadable += made.text is None
        readable += [] if made.text is None else [made.text]
    for split in ("train", "val", "test"):
        (folder / f"{split}.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "row"}\n')
    (folder / "train.jsonl").write_text(json.dumps({"text": "row"}) + "\n", encoding="utf-16")
    texts = texts_of_files(sorted(folder.glob("*.[tT]*")), "text")
    if listing.tolerable(unreadable, number):
        assert sorted(texts) == sorted(readable)
    else:
        assert f"{listing.MAX_UNREADABLE + 1} texts cannot be read" in refusal(lambda: list(texts))
    assert list(texts_of_files(sorted(folder.glob("*.jsonl")), "text")) == ["row"] * 3
    assert "belongs to no split" in refusal(lambda: documents.local(str(folder), "text"))


def test_texts_of_every_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_made_up(tmp_path / "few", seed=0, number=12)
    read_made_up(tmp_path / "many", seed=1, number=60)
    monkeypatch.setattr(listing, "MAX_UNREADABLE", 100)
    read_made_up(tmp_path / "all", seed=2, number=40)


@pytest.mark.slow
def test_two_hundred_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_UNREADABLE", 1000)
    for seed in range(5):
        read_made_up(tmp_path / str(seed), seed=seed, number=200)

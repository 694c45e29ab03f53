"""Texts from files, saved data sets and the hub; the hub is a file here, read by datasets' own code."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Sequence as ListOf

from recipes.data.text import bpe, documents, tokens
from recipes.errors import ConfigError

WORDS = [f"document {number}" for number in range(400)]


def read(path: Path, column: str = "text", holdout: float = 0.1) -> dict[str, list[str]]:
    return {name: list(split.texts()) for name, split in documents.local(str(path), column, holdout).items()}


def prints(path: Path, column: str = "text", holdout: float = 0.1) -> dict[str, str]:
    return {name: split.fingerprint for name, split in documents.local(str(path), column, holdout).items()}


def refusal(call: Any) -> str:
    with pytest.raises(ConfigError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def write(folder: Path, form: str, splits: dict[str, list[str]]) -> Path:
    """A folder of texts in one of the forms that are read."""
    folder.mkdir(parents=True, exist_ok=True)
    if form == "saved":
        DatasetDict({name: Dataset.from_dict({"text": texts}) for name, texts in splits.items()}).save_to_disk(folder)
    for name, texts in splits.items():
        if form == "parquet":
            Dataset.from_dict({"text": texts}).to_parquet(folder / f"{name}-00000-of-00001.parquet")
        elif form == "jsonl":
            (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": each}) + "\n\n" for each in texts))
        elif form == "txt":
            (folder / name).mkdir()
            for number, each in enumerate(texts):
                (folder / name / f"{number}.txt").write_text(each)
    return folder


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b"".join(b'{"text": "%d"}\n' % number for number in range(40)))
    assert sorted((row for rows in read(file).values() for row in rows), key=int) == [
        str(number) for number in range(40)
    ]


@pytest.mark.parametrize("form", ["txt", "jsonl", "parquet", "saved"])
def test_splits_go_by_name(tmp_path: Path, form: str) -> None:
    given = {"train": ["Eins\n", "zwei"], "validation": ["drei"], "test": ["vier", "fünf"]}
    folder = write(tmp_path / "mine", form, given)
    assert read(folder) == {"train": ["Eins\n", "zwei"], "val": ["drei"], "test": ["vier", "fünf"]}


@pytest.mark.parametrize("form", ["jsonl", "parquet", "saved"])
def test_where_only_a_validation_split_is_told_it_tests(tmp_path: Path, form: str) -> None:
    result = read(write(tmp_path / "mine", form, {"train": WORDS, "validation": ["drei"]}))
    assert result["test"] == ["drei"]
    assert sorted(result["train"] + result["val"]) == sorted(WORDS)
    assert len(result["val"]) == pytest.approx(40, abs=20)


def test_what_is_held_out_follows_from_the_text_alone(tmp_path: Path) -> None:
    result = read(write(tmp_path / "mine", "jsonl", {"all": WORDS}))
    assert sorted(each for texts in result.values() for each in texts) == sorted(WORDS)
    assert len(result["val"]) == pytest.approx(20, abs=13)
    assert len(result["test"]) == pytest.approx(20, abs=13)
    other = read(write(tmp_path / "other", "parquet", {"all": WORDS[::-1]}))
    assert {name: sorted(texts) for name, texts in other.items()} == {n: sorted(texts) for n, texts in result.items()}
    more = read(tmp_path / "mine", holdout=0.5)
    assert set(result["val"] + result["test"]) < set(more["val"] + more["test"])


def test_a_single_text_is_cut_at_line_ends(tmp_path: Path) -> None:
    lines = [f"line {number:04d}\n" for number in range(1000)]
    (tmp_path / "all.txt").write_text("".join(lines))
    result = read(tmp_path / "all.txt")
    assert result == {"train": ["".join(lines[:900])], "val": ["".join(lines[900:950])], "test": ["".join(lines[950:])]}
    (tmp_path / "all.txt").write_text("one line")
    assert "+data.options.holdout=" in refusal(lambda: read(tmp_path / "all.txt"))


def test_another_size_time_or_name_makes_another_fingerprint(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "jsonl", {"train": ["aa"], "val": ["b"], "test": ["c"]})
    before, file = prints(folder), folder / "train.jsonl"
    stamp = file.stat().st_mtime_ns
    os.utime(file, ns=(stamp, stamp + 1))
    later = prints(folder)
    assert later["train"] != before["train"]
    assert (later["val"], later["test"]) == (before["val"], before["test"])
    os.utime(file, ns=(stamp, stamp))
    assert prints(folder) == before
    file.rename(folder / "training.jsonl")
    assert prints(folder)["train"] != before["train"]
    assert prints(folder, column="body")["val"] != before["val"]


def test_a_folder_named_like_a_text_is_no_text(tmp_path: Path) -> None:
    write(tmp_path / "mine", "jsonl", {"train": ["a"], "val": ["b"], "test": ["c"]})
    (tmp_path / "mine" / "train_more.txt").mkdir()
    assert read(tmp_path / "mine") == {"train": ["a"], "val": ["b"], "test": ["c"]}
    (tmp_path / "empty").mkdir()
    assert "holds no texts: expected files that end in .txt, .jsonl" in refusal(lambda: read(tmp_path / "empty"))


def test_a_file_of_no_split_beside_splits_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", "jsonl", {"train": ["a"], "notes": ["b"]})
    assert "notes.jsonl belongs to no split" in refusal(lambda: read(folder))
    (folder / "train.jsonl").rename(folder / "validation.jsonl")
    (folder / "notes.jsonl").unlink()
    assert "has no split to train on; found: val" in refusal(lambda: read(folder))


ODD = {
    "numbers": ([1, 2], Value("int64"), "row 1: column text holds int, expected text"),
    "lists": ([["a"]], ListOf(Value("string")), "row 1: column text holds list, expected text"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("form", ["jsonl", "parquet", "saved"])
def test_rows_that_are_no_text_are_named(tmp_path: Path, form: str, kind: str) -> None:
    rows, type_, message = ODD[kind]
    table = Dataset.from_dict({"text": rows}, features=Features({"text": type_}))
    if form == "saved":
        DatasetDict({"train": table, "val": table, "test": table}).save_to_disk(tmp_path)
    else:
        getattr(table, {"jsonl": "to_json", "parquet": "to_parquet"}[form])(tmp_path / f"train.{form}")
    assert message in refusal(lambda: read(tmp_path))


@pytest.mark.parametrize("form", ["jsonl", "parquet", "saved"])
def test_rows_without_a_text_are_left_out_and_counted(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Dataset.from_dict({"text": [None, "a", None, "None"]}, features=Features({"text": Value("string")}))
    if form == "saved":
        DatasetDict({"train": table, "val": table, "test": table}).save_to_disk(tmp_path)
    else:
        for split in ("train", "val", "test"):
            getattr(table, {"jsonl": "to_json", "parquet": "to_parquet"}[form])(tmp_path / f"{split}.{form}")
    assert read(tmp_path) == {name: ["a", "None"] for name in ("train", "val", "test")}
    assert capsys.readouterr().out.count("left out 2 of 4 rows, which have no text in column text\n") == 3


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[
            ("train.txt", "train"),
            ("TRAIN-00000-of-00001.parquet", "train"),
            ("training", "train"),
            ("train2", "train"),
        ],
        *[
            ("val", "val"),
            ("valid.jsonl", "val"),
            ("validation_matched", "val"),
            ("dev.tsv", "val"),
            ("test2014", "test"),
        ],
        *[
            ("genesis.txt", None),
            ("exodus.txt", None),
            ("trainer.txt", None),
            ("value.txt", None),
            ("device.txt", None),
        ],
        *[
            ("developer", None),
            ("testament", None),
            ("Test of courage.txt", None),
            ("trainée", None),
            ("trainval", None),
        ],
    ],
)
def test_names_of_splits_are_whole_words(name: str, split: str | None) -> None:
    assert documents.split_of_name(name) == split


def test_files_of_all_letters_cases_are_read_and_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("UPPER.TXT", "genesis.txt", "device.txt"):
        (tmp_path / name).write_text("".join(f"{name} {line}\n" for line in range(100)))
    (tmp_path / "rows.JSONL").write_text('{"text": "a row"}\n')
    for name in ("._0.txt", ".DS_Store", "book.epub", "book2.epub", "README"):
        (tmp_path / name).write_bytes(b"\xff")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "x.txt").write_bytes(b"\xff")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    result = "".join(each for texts in read(tmp_path).values() for each in texts)
    assert len(result) == 300 * len(" 0\n") + 100 * sum(map(len, ("UPPER.TXT", "genesis.txt", "device.txt"))) + 270 + 5
    assert "left out 4 files: 2 .epub, 1 broken link, 1 without a suffix\n" in capsys.readouterr().out


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": "b \\ud800"}\n')
    assert "row 2: column text holds half of a surrogate pair" in refusal(lambda: read(tmp_path))
    (tmp_path / "train.jsonl").write_text('{"text": "\\ud83d\\ude00"}\n')
    assert [each for texts in read(tmp_path).values() for each in texts] == ["😀"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "inside", "parquet", {"train": WORDS})
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[4:400] = b"\0" * 396
    file.write_bytes(content)
    assert f"{file}: reading stopped after 0 rows" in refusal(lambda: read(folder))
    file.write_bytes(content[:300])
    assert "is not a readable Parquet file" in refusal(lambda: read(folder))
    saved = write(tmp_path / "saved", "saved", {"train": WORDS})
    next((saved / "train").glob("*.arrow")).unlink()
    assert "cannot be read as a Hugging Face data set" in refusal(lambda: read(saved))
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "train.txt").write_bytes(b"abc\xff")
    assert "train.txt is not UTF-8 (byte 3)" in refusal(lambda: read(tmp_path / "bytes"))


class Hub:
    """A data set on the hub: a Parquet file, its commit, and what it was asked for."""

    def __init__(self, file: Path) -> None:
        self.file, self.commit, self.asked = file, "c0ffee", [("", "", "")]
        self.asked.clear()
        self.hold(WORDS)

    def hold(self, texts: list[str]) -> None:
        Dataset.from_dict({"text": texts}).to_parquet(self.file)

    def load_dataset(self, name: str, subset: str, *, revision: str, streaming: bool) -> Any:
        self.asked.append((name, subset, revision))
        files = {"train": str(self.file), "validation": str(self.file)}
        return load_parquet("parquet", data_files=files, streaming=streaming)

    def dataset_info(self, api: Any, name: str, *, revision: str | None) -> Any:
        return SimpleNamespace(sha=f"{revision or 'main'} at {self.commit}")


load_parquet = datasets.load_dataset


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "rows.parquet")
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "load_dataset", made.load_dataset)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *a, **k: made.dataset_info(*a, **k))
    monkeypatch.setattr("recipes.data.hub.reachable", lambda address: True)
    return made


def of_hub(streaming: bool = True, revision: str | None = None) -> dict[str, documents.Documents]:
    return documents.hub("some/texts", "en", revision, "text", streaming, 0.1)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_on_the_hub(hub: Hub, streaming: bool) -> None:
    result = {name: list(split.texts()) for name, split in of_hub(streaming).items()}
    assert result["test"] == WORDS  # its validation split
    assert sorted(result["train"] + result["val"]) == sorted(WORDS)
    assert hub.asked == [("some/texts", "en", "main at c0ffee" if streaming else None)]


def test_new_content_of_a_stream_makes_another_fingerprint(hub: Hub) -> None:
    first, again = of_hub()["test"].fingerprint, of_hub()["test"].fingerprint
    assert first == again
    hub.commit = "decaf"
    assert of_hub()["test"].fingerprint != first
    assert of_hub(revision="v1")["test"].fingerprint != of_hub()["test"].fingerprint


def test_a_hub_that_tells_no_commit_is_read_all_the_same(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*args: Any, **options: Any) -> Any:
        raise TimeoutError("no answer")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", silent)
    assert list(of_hub(revision="v1")["test"].texts()) == WORDS
    assert hub.asked == [("some/texts", "en", "v1")]


def test_a_stream_that_was_tokenised_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(holdout: float = 0.3) -> dict[str, tokens.TokenWindows]:
        return tokens.load(context=4, hub="some/texts", streaming=True, vocab_size=300, holdout=holdout)

    whole = load()
    monkeypatch.setattr("recipes.data.hub.reachable", lambda address: False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("no route")))
    again = load()
    assert {name: split.fingerprint() for name, split in again.items()} == {
        name: split.fingerprint() for name, split in whole.items()
    }
    line = refusal(lambda: load(holdout=0.2))  # other splits, which are not tokenised
    assert "the hub cannot be reached and the cache has no copy" in line
    assert line.endswith("of its tokens the cache does not hold all")


@pytest.mark.parametrize("kind", [ConnectionResetError, RuntimeError])  # of the system, and of a network's library
def test_a_stream_that_breaks_is_named_and_goes_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    rows = datasets.IterableDataset.__iter__

    def breaks(self: Any) -> Iterator[Any]:
        for number, row in enumerate(rows(self)):
            if number == 5:
                raise kind("the other side went away")
            yield row

    def load() -> dict[str, tokens.TokenWindows]:
        return tokens.load(context=4, hub="some/texts", streaming=True, tokenizer=str(maker), holdout=0.3)

    maker = hub.file.with_name("tokenizer.json")
    bpe.trained(lambda: WORDS, "print", 300).save(str(maker))
    with monkeypatch.context() as broken:
        broken.setattr(datasets.IterableDataset, "__iter__", breaks)
        line = refusal(load)
    assert line == (
        "data.hub=some/texts, train: reading stopped after 5 rows (the other side went away); "
        "the same command continues"
    )
    whole = load()
    assert whole["test"].tokens.documents == len(WORDS)
    monkeypatch.setenv("LION_BENCH_CACHE", str(hub.file.with_name("elsewhere")))
    assert load()["train"].fingerprint() == whole["train"].fingerprint()


def test_a_folder_is_no_name_on_the_hub(tmp_path: Path) -> None:
    line = refusal(lambda: documents.hub(str(tmp_path), None, None, "text", True, 0.1))
    assert line == f"data.hub={tmp_path} is a folder here: set data.path={tmp_path}"

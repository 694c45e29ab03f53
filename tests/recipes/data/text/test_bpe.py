"""Published tokenizers, with and without a network."""

from pathlib import Path

import pytest

from recipes.data.text import bpe
from tests.recipes.data.text.test_documents import WORDS, refusal


def test_a_hub_out_of_reach_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))
    asked = []

    def download(name: str, file: str, *, local_files_only: bool) -> str:
        asked.append((name, file, local_files_only))
        if name == "some/cached":
            return str(tmp_path / "tokenizer.json")
        raise FileNotFoundError("no copy")

    maker = bpe.trained(lambda: WORDS, "print", 300)
    maker.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("recipes.data.text.bpe.reachable", lambda address: False)
    assert bpe.published("some/cached").to_str() == maker.to_str()
    line = refusal(lambda: bpe.published("some/other"))
    assert "it cannot be reached and the cache has no copy" in line
    assert asked == [("some/cached", "tokenizer.json", True), ("some/other", "tokenizer.json", True)]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("recipes.data.text.bpe.reachable", lambda address: True)
    assert "(no copy)" in refusal(lambda: bpe.published("some/other"))
    assert asked[-1] == ("some/other", "tokenizer.json", False)
    (tmp_path / "odd.json").write_text("{}")
    assert "odd.json is not a tokenizer" in refusal(lambda: bpe.published(str(tmp_path / "odd.json")))

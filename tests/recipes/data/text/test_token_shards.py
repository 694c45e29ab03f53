from pathlib import Path

import numpy as np
import pytest

from recipes.data.text import token_shards
from recipes.errors import ConfigError


def shard(file: Path, tokens: np.ndarray, header: bool = True, claimed: int | None = None) -> None:
    head = np.zeros(256, np.int32)
    head[:3] = 20240520, 1, len(tokens) if claimed is None else claimed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((head.tobytes() if header else b"") + tokens.astype(np.uint16).tobytes())


TRAIN = np.random.default_rng(1).integers(0, 50257, 1000)
VAL = np.random.default_rng(2).integers(0, 50257, 300)


def llm_c(root: Path) -> Path:
    for number, part in enumerate(np.split(TRAIN, [333, 700]), 1):
        shard(root / f"fineweb_train_{number:06}.bin", part)
    shard(root / "fineweb_val_000000.bin", VAL)
    return root


def all_tokens(split) -> np.ndarray:
    """The tokens of a split's windows, one after another, without what fills the last one."""
    tokens = split.__getitems__([(0, index) for index in range(len(split))])["tokens"].numpy().ravel()
    return tokens[tokens >= 0]


def test_shards_are_one_text(tmp_path: Path) -> None:
    splits = token_shards.load(path=str(llm_c(tmp_path)), context=10, eval_tokens=100)
    assert np.array_equal(all_tokens(splits["train"]), TRAIN)
    assert np.array_equal(all_tokens(splits["test"]), VAL[:100])
    assert np.array_equal(all_tokens(splits["val"]), VAL[100:200])
    assert np.array_equal(splits["train"].tokens.ids[330:705], TRAIN[330:705])
    assert (splits["train"].tokens.vocab_size, splits["train"].tokens.end) == (50257, 50256)


def test_windows_cross_the_borders_of_shards(tmp_path: Path) -> None:
    train = token_shards.load(path=str(llm_c(tmp_path)), context=10)["train"]
    window = train.__getitems__([(0, 33), (1, 70)])["tokens"].numpy()
    assert np.array_equal(window, np.stack([TRAIN[330:340], TRAIN[700:710]]))


def test_a_short_validation_shard_is_halved_and_a_number_of_shards_is_kept(tmp_path: Path) -> None:
    splits = token_shards.load(path=str(llm_c(tmp_path)), context=10, shards=2)
    assert np.array_equal(all_tokens(splits["train"]), TRAIN[:700])
    assert np.array_equal(all_tokens(splits["test"]), VAL[:150])
    assert np.array_equal(all_tokens(splits["val"]), VAL[150:])


def test_files_without_header_and_with_a_test_split(tmp_path: Path) -> None:
    for name, tokens in (("train", TRAIN), ("val", VAL), ("test", VAL[::-1])):
        shard(tmp_path / f"{name}.bin", tokens, header=False)
    splits = token_shards.load(path=str(tmp_path), context=10, eval_tokens=120)
    assert np.array_equal(all_tokens(splits["train"]), TRAIN)
    assert np.array_equal(all_tokens(splits["val"]), VAL[:120])
    assert np.array_equal(all_tokens(splits["test"]), VAL[::-1][:120])


def test_other_tokens_have_another_fingerprint(tmp_path: Path) -> None:
    one = token_shards.load(path=str(llm_c(tmp_path / "one")), context=10)
    same = token_shards.load(path=str(llm_c(tmp_path / "same")), context=10)
    changed = llm_c(tmp_path / "changed")
    shard(changed / "fineweb_train_000002.bin", TRAIN[333:700][::-1])
    other = token_shards.load(path=str(changed), context=10)
    assert one["train"].fingerprint() == same["train"].fingerprint() != other["train"].fingerprint()
    assert one["val"].fingerprint() == other["val"].fingerprint() != one["test"].fingerprint()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shard(f / "fineweb_train_000002.bin", TRAIN, claimed=7), "1000 tokens, its header says 7: get it"),
        (lambda f: shard(f / "fineweb_val_000000.bin", np.full(50, 60000)), r"token 60000, and data\.options\.vocab"),
        (lambda f: (f / "fineweb_val_000000.bin").unlink(), r"needs \.bin files with train and with val"),
        (lambda f: (f / "fineweb_train_000001.bin").write_bytes(b""), "fineweb_train_000001.bin cannot be read"),
    ],
)
def test_damaged_and_missing_shards_are_a_line(damage, message, tmp_path: Path) -> None:
    folder = llm_c(tmp_path)
    damage(folder)
    with pytest.raises(ConfigError, match=message) as error:
        token_shards.load(path=str(folder), context=10)
    assert "\n" not in str(error.value)

"""Published tokens in files of 16-bit integers: the shards of llm.c and of the modded-nanogpt speedrun.

    fineweb_train_000001.bin, fineweb_val_000000.bin    a header of 256 int32 (20240520, 1, tokens), then the tokens
    train.bin, val.bin                                  nanoGPT's: the tokens alone

A shard belongs to the split that its file name contains. Without a `test` shard, the first `eval_tokens` of `val` are
the test split, as in the speedrun, and the next ones the validation split.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.data import cache
from recipes.data.hub import NotAvailableError, first_line
from recipes.data.text.token_cache import Tokens
from recipes.data.text.tokens import TokenWindows, windows
from recipes.errors import ConfigError

HOLDS = "text"  # matched with `learns_from` of recipes
MAGIC, VERSION, HEADER = 20240520, 1, 256  # HEADER in int32
SPLIT = re.compile(r"(?:^|_)(train|val|test)(?:_|\.)")


@dataclass(frozen=True)
class ShardedIds:
    """The tokens of several shards as one array: its length, and its tokens by a slice or an array of indices."""

    shards: tuple[np.ndarray, ...]
    first: int = 0  # token that it begins with
    limit: int | None = None  # tokens

    def __len__(self) -> int:
        left = sum(map(len, self.shards)) - self.first
        return left if self.limit is None else min(self.limit, left)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        ends = np.array(list(itertools.accumulate(map(len, self.shards))))
        flat = index.ravel() + self.first
        shard = np.searchsorted(ends, flat, side="right")
        tokens = np.empty(flat.shape, np.uint16)
        for number in np.unique(shard):
            here = shard == number
            start = ends[number] - len(self.shards[number])
            tokens[here] = self.shards[number][flat[here] - start]
        return tokens.reshape(index.shape)


def load(
    *,
    context: int,
    path: str | None = None,
    hub: str | None = None,
    shards: int | None = None,
    vocab_size: int = 50_257,
    end: int = 50_256,
    eval_tokens: int = 10_485_760,
) -> dict[str, TokenWindows]:
    """The splits `train`, `val` and `test` of a folder of shards, or of a data set of them on the hub.

    Args:
        context: tokens a window.
        path: the folder; it has precedence over `hub`.
        hub: the data set's name on the Hugging Face hub.
        shards: number of shards of the training split; None is all.
        vocab_size: of the tokenizer that made them; by default GPT-2's.
        end: its end-of-text token.
        eval_tokens: tokens of val and of test.

    Raises:
        ConfigError: shards are missing or damaged, or an option is out of range.
    """
    for name, number in (("shards", shards), ("eval_tokens", eval_tokens)):
        if number is not None and number < 1:
            raise ConfigError(f"data.options.{name}={number} must be at least 1")
    if path is None and hub is None:
        raise ConfigError("data needs data.path=, a folder of .bin files, or data.hub=, a name on the Hugging Face hub")
    folder = Path(path).expanduser() if path is not None else _downloaded(str(hub), shards)
    location = f"data.path={path}" if path is not None else f"data.hub={hub}"
    files: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for file in sorted(folder.rglob("*.bin")):
        if match := SPLIT.search(file.name):
            files[match[1]].append(file)
    if not files["train"] or not files["val"]:
        found = ", ".join(sorted(file.name for file in folder.rglob("*.bin"))[:3]) or "none"
        raise ConfigError(f"{location} needs .bin files with train and with val in their names (found: {found})")
    files["train"] = files["train"][:shards]
    arrays_of = {name: tuple(_read(file, vocab_size) for file in listed) for name, listed in files.items() if listed}
    splits = {name: ShardedIds(arrays) for name, arrays in arrays_of.items()}
    if "test" not in splits:
        half = min(eval_tokens, len(splits["val"]) // 2)
        splits["test"] = ShardedIds(arrays_of["val"], 0, half)
        splits["val"] = ShardedIds(arrays_of["val"], half, half)
    else:
        splits |= {name: ShardedIds(arrays_of[name], 0, eval_tokens) for name in ("val", "test")}
    tokens = {}
    for name, ids in splits.items():
        digest = cache.key([_identity(array) for array in ids.shards], ids.first, len(ids), vocab_size)
        as_array: Any = ids  # TokenWindows takes its length and indexes it by arrays
        tokens[name] = Tokens(as_array, 0, 0, digest, vocab_size, end)
    return windows(tokens, context)


def _read(file: Path, vocab_size: int) -> np.ndarray:
    """The tokens of a shard, uint16 [N], mapped into memory."""
    try:
        header = np.fromfile(file, np.int32, HEADER)
        has_header = len(header) == HEADER and header[0] == MAGIC
        tokens = np.memmap(file, np.uint16, "r", offset=4 * HEADER if has_header else 0)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({first_line(error)}): get it again") from None
    if has_header and (header[1] != VERSION or len(tokens) != header[2]):
        raise ConfigError(f"{file} has {len(tokens)} tokens, its header says {header[2]}: get it again")
    if (largest := int(tokens[: 1 << 20].max())) >= vocab_size:
        raise ConfigError(f"{file} has token {largest}, and data.options.vocab_size={vocab_size}")
    return tokens


def _identity(tokens: np.ndarray) -> tuple[int, str]:
    """Length and a hash of the first and the last tokens: reading 20 GB for a fingerprint would take minutes."""
    return len(tokens), cache.key(tokens[: 1 << 16].tobytes().hex(), tokens[-(1 << 16) :].tobytes().hex())


def _downloaded(hub: str, shards: int | None) -> Path:
    """The cached copy from the hub, with this number of shards of the training split."""
    from huggingface_hub import snapshot_download

    wanted = ["*.bin"] if shards is None else ["*val*.bin", *(f"*train_{n:06}.bin" for n in range(1, shards + 1))]
    try:
        return Path(snapshot_download(hub, repo_type="dataset", allow_patterns=wanted))
    except Exception as error:  # the hub's library has no common base class of errors
        raise NotAvailableError(f"data.hub={hub} is not available ({first_line(error)}): set data.path") from None

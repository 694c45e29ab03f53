"""The source of Python's standard library as a corpus: real text on any machine that runs this.

The .py files that CPython ships (1,790 files, 31 MB on 3.11), one document each, split by file: about 90% to train,
5% to choose hyperparameters (val), 5% to report (test). Which file goes where follows from its relative path alone,
and so does the order. Files in other encodings than UTF-8, which the library's own tests hold, are skipped.
"""

import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from recipes.data.text import bpe, tokens
from recipes.data.text.documents import Documents
from recipes.data.text.token_cache import tokenised
from recipes.errors import ConfigError

HOLDS = "text"  # matched with `learns_from` of recipes

VOCABULARY = 2048
# The share of files in each split, in hundredths.
SHARES = {"train": 90, "val": 5, "test": 5}
# Top-level names that CPython ships in addition to its modules.
SHIPPED = (*sys.stdlib_module_names, "test", "__phello__")


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        path: relative to the library's folder, with slashes.
    """

    path: str
    content: str


def split_of(path: str) -> str:
    """The split of a file, from a hash of its relative path."""
    hundredth = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % 100
    return "train" if hundredth < SHARES["train"] else "val" if hundredth < 100 - SHARES["test"] else "test"


@functools.lru_cache(maxsize=2)
def sources(max_files: int | None = None) -> tuple[dict[str, list[Source]], int]:
    """The files of each split in the order of a hash of their paths, and how many were skipped as not UTF-8.

    Args:
        max_files: read only so many, in that order.

    Raises:
        ConfigError: this Python comes without source files, or a split has none.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(_paths(root), key=lambda path: hashlib.sha256(path.encode()).digest()[8:])
    splits: dict[str, list[Source]] = {name: [] for name in SHARES}
    skipped = 0
    for path in paths[:max_files]:
        try:
            splits[split_of(path)].append(Source(path, (root / path).read_bytes().decode()))
        except UnicodeDecodeError:
            skipped += 1
    if empty := [name for name, files in splits.items() if not files]:
        raise ConfigError(
            f"data=stdlib: {len(paths[:max_files])} of the {len(paths)} .py files in {root} leave none for {empty[0]}; "
            "raise data.options.max_files, or use a Python that comes with its library's source"
        )
    return splits, skipped


def _paths(root: Path) -> list[str]:
    """Relative paths of all .py files that belong to CPython: no site-packages, no machine's own build settings."""
    paths = [path.name for path in root.glob("*.py") if path.stem in SHIPPED]
    for top in root.iterdir():
        if top.name in SHIPPED and top.is_dir():
            for folder, _, names in os.walk(top):
                relative = Path(folder).relative_to(root)
                paths += [(relative / name).as_posix() for name in names if name.endswith(".py")]
    return paths


def texts(split: str, max_files: int | None = None) -> list[str]:
    """The documents of `train`, `val` or `test`."""
    return [source.content for source in sources(max_files)[0][split]]


@functools.lru_cache(maxsize=8)
def fingerprint(split: str, max_files: int | None = None) -> str:
    """The first 16 hex digits of a SHA-256 over a split's paths and contents."""
    digest = hashlib.sha256()
    for source in sources(max_files)[0][split]:
        content = source.content.encode()
        digest.update(f"{source.path} {len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def tokenizer(
    vocab_size: int = VOCABULARY, extra_tokens: Sequence[str] = (), max_files: int | None = None
) -> Tokenizer:
    """A byte-level BPE trained on the training split, from the cache after the first time.

    `bpe.END` has index 0 and separates documents; `extra_tokens` have the indices after it.
    """
    return bpe.trained(
        lambda: texts("train", max_files), fingerprint("train", max_files), vocab_size, tuple(extra_tokens)
    )


def documents(max_files: int | None = None) -> dict[str, Documents]:
    """The three splits in the form for `text.tokenised`."""
    return {
        name: Documents(fingerprint(name, max_files), functools.partial(texts, name, max_files), f"data=stdlib, {name}")
        for name in SHARES
    }


def load(
    *,
    context: int,
    vocab_size: int = VOCABULARY,
    extra_tokens: Sequence[str] = (bpe.MASK,),
    max_files: int | None = None,
    eval_documents: int | None = None,
    word_level: bool = False,
) -> dict[str, tokens.TokenWindows]:
    """The splits `train`, `val` and `test` as windows of tokens.

    Args:
        context: tokens a window.
        vocab_size: of the tokenizer.
        extra_tokens: special tokens of the tokenizer.
        max_files: maximum number of files.
        eval_documents: maximum number of documents of val and of test.
        word_level: perplexity by the word instead of the token.

    Raises:
        ConfigError: an option is invalid.
    """
    bpe_tokenizer = tokenizer(vocab_size, extra_tokens, max_files)
    return tokens.windows(
        tokenised(documents(max_files), bpe_tokenizer, eval_documents=eval_documents), context, word_level
    )

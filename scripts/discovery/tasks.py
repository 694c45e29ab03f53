"""Proxy tasks for lion.discovery from the data of this suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lion.discovery.tasks.proxy import Data, Proxy
    from lion.discovery.tasks.transformer import ImageTask, TextTask

NAMES = ("digits", "scaled", "vit", "text")
FRESH_SEEDS = tuple(range(1000, 1012))  # for the score, and for nothing else
SELECTION_SEEDS = tuple(range(500, 512))  # for the choice among the best of a search
SWEEP = tuple(10 ** (k / 4) for k in range(-10, 11))  # factors of the update that every program may have
TRAIN = 2500  # digits to train on; what is left of the training split scores a search
TEXT_FILES, VOCABULARY = 300, 512
LONGER: dict[str, Any] = {"hidden": 64, "steps": 300}  # about ten times the work of the search's own task


@dataclass(frozen=True)
class Tasks:
    """The task of a search, the one to choose its winner on, and the one for the score: three sets of examples."""

    search: Proxy
    selection: Proxy
    fresh: Proxy


def of_search(name: str) -> Tasks:
    """The tasks of a search, by the name of its proxy."""
    makers: dict[str, Callable[..., Proxy]] = {"vit": vit, "text": text, "scaled": partial(digits, scaled=True)}
    make = makers.get(name, digits)
    return Tasks(make("search"), make("val").with_seeds(SELECTION_SEEDS), make("test").with_seeds(FRESH_SEEDS))


def digits(split: str, scaled: bool = False, **options: Any) -> Any:
    """A network of one hidden layer on MNIST's digits in 8 x 8; `scaled`: features of very unequal size."""
    from lion.discovery.tasks.proxy import Task, rescaled

    data = _mnist(split, _small)
    return Task(rescaled(data) if scaled else data, **options)


def vit(split: str, **options: Any) -> ImageTask:
    """A ViT of 3 layers on MNIST's digits."""
    from lion.discovery.tasks.transformer import ImageTask

    return ImageTask(data=_mnist(split, _standard), **options)


def text(split: str, **options: Any) -> TextTask:
    """A language model of 2 layers on the source of Python's standard library, tokens of a byte-level BPE.

    A search is scored on the first half of the validation files' tokens; `val` is the second.
    """
    import numpy as np

    from lion.discovery.tasks.transformer import TextTask
    from recipes.data.text import stdlib
    from recipes.data.text.token_cache import tokenised

    tokens = tokenised(stdlib.documents(TEXT_FILES), stdlib.tokenizer(VOCABULARY, (), TEXT_FILES))
    ids = {name: np.asarray(split.ids) for name, split in tokens.items()}
    half = len(ids["val"]) // 2
    held_out = {"search": ids["val"][:half], "val": ids["val"][half:], "test": ids["test"]}[split]
    return TextTask(train=ids["train"], val=held_out, vocabulary=tokens["train"].vocab_size, **options)


def _mnist(split: str, prepared: Callable[[Any], Any]) -> Data:
    """MNIST's digits: 2,500 to train on; to score on 1,000 others of the training split in a search, or val or test."""
    from lion.discovery.tasks.proxy import Data
    from recipes.data.images import mnist5k

    splits = mnist5k.load()
    train = splits["train"]
    x, y = prepared(train.images), train.labels
    if split == "search":
        return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])
    return Data(x[:TRAIN], y[:TRAIN], prepared(splits[split].images), splits[split].labels)


def _standard(images: Any) -> Any:
    """uint8 [n, 28, 28, 1] to float32 [n, 28, 28], about standardized."""
    import numpy as np

    return ((images[..., 0] / 255 - 0.13) / 0.31).astype(np.float32)


def _small(images: Any) -> Any:
    """uint8 [n, 28, 28, 1] to float32 [n, 64]: the middle 24 x 24 as means of 3 x 3, about standardized."""
    import numpy as np

    blocks = images[:, 2:26, 2:26, 0].reshape(-1, 8, 3, 8, 3).mean((2, 4)).reshape(-1, 64)
    return ((blocks / 255 - 0.2) / 0.3).astype(np.float32)

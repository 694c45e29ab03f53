"""Images with captions for training and evaluation: the types of data sets for contrastive training."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipes.data.text import bpe
from recipes.errors import ConfigError

PAD = "<|pad|>"
PADS = (PAD, "<pad>", "[PAD]", "<|endoftext|>")
STARTS = (bpe.END, "<s>", "[CLS]", "<bos>", "</s>", "<eos>")


class Images(Protocol):
    """Images by index."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def batch(self, index: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        """Images, uint8 [B, C, H, W], and which were taken: others where some are unreadable."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content."""
        ...


class Captions(Protocol):
    """Texts by index."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def batch(self, index: Sequence[int]) -> Sequence[str]:
        """The texts at these numbers."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content."""
        ...


class Texts:
    """Captions in memory."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, index: Sequence[int]) -> list[str]:
        """The texts at these numbers."""
        return [self.texts[i] for i in index]

    def fingerprint(self) -> str:
        """A hash of the texts."""
        return hashlib.sha256(repr(self.texts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Pairs:
    """Training pairs: image i and text i belong together."""

    images: Images
    captions: Captions


@dataclass(frozen=True)
class Probe:
    """An evaluation set: images, texts, and which belong together.

    Attributes:
        label: int64 [images], the class of each; -1 where it takes no part in zero-shot classification.
        prompt_class: int64 [texts], the class that a text is a prompt of, or -1.
        image_group: int64 [images] and
        text_group: int64 [texts]: an image and a text are right for each other where these are equal; -1 takes no part
            in retrieval.
    """

    images: Images
    texts: Texts
    label: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    prompt_class: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    image_group: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    text_group: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        for name, rows in (("label", self.images), ("image_group", self.images)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(rows), -1))
        for name in ("prompt_class", "text_group"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.texts), -1))

    def fingerprint(self) -> str:
        """A hash of images, texts and what belongs together."""
        digest = hashlib.sha256((self.images.fingerprint() + self.texts.fingerprint()).encode())
        for array in (self.label, self.prompt_class, self.image_group, self.text_group):
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class PairData:
    """A training set, the evaluation sets (`val`, `test`, others), and the tokenizer of their texts."""

    train: Pairs
    probes: dict[str, Probe]
    tokenizer: Tokenizer


class Encoder:
    """Texts to rows of token ids of one length: a first token, whose feature stands for the text, then the text.

    Raises:
        ConfigError: the tokenizer has no token to begin with or to fill up with.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        start, pad = bpe.special(tokenizer, STARTS), bpe.special(tokenizer, PADS)
        if start is None or pad is None or start == pad:
            raise ConfigError(
                f"the tokenizer needs two tokens, one to begin with ({', '.join(STARTS)}) and one to fill up with "
                f"({', '.join(PADS)}), and has {'one' if start is not None or pad is not None else 'none'} of them"
            )
        if length < 2:
            raise ConfigError(f"a text of {length} tokens holds nothing; length must be at least 2")
        self.tokenizer, self.length, self.start, self.pad = tokenizer, length, start, pad

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """int64 [texts, length]; longer texts are cut."""
        rows = torch.full((len(texts), self.length), self.pad)
        rows[:, 0] = self.start
        for row, encoding in enumerate(self.tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            ids = encoding.ids[: self.length - 1]
            rows[row, 1 : 1 + len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows


def prompts(class_texts: Sequence[str], templates: Sequence[str], first: int = 0) -> tuple[list[str], np.ndarray]:
    """Every template with every class's text instead of {}, and the class of each, from `first` on.

    Raises:
        ConfigError: a template has no place for the text.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"the prompt template {template!r} must hold {{}} once, where the class's name goes")
    texts = [template.replace("{}", text) for text in class_texts for template in templates]
    return texts, np.repeat(np.arange(first, first + len(class_texts)), len(templates))

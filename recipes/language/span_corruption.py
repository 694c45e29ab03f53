"""Pre-training of T5 by span corruption (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4).

Data: a corpus cut into windows; 15% of a window's tokens, in spans of 3 on average, are hidden behind sentinels.
Model: T5 v1.1. Loss: cross-entropy of the hidden spans. Metric: perplexity of the target's tokens on held-out windows,
corrupted the same way at every evaluation.
"""

from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from recipes.data.text.spans import PAD, SENTINELS, SpanWindows, lengths, spans_in
from recipes.errors import ConfigError
from recipes.language.t5 import T5
from recipes.protocol import load_data
from recipes.training.sampler import Batch, Examples


class Recipe(T5):
    """One model on one corpus."""

    learns_from = "text"
    metric = "perplexity"
    goal = "min"

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.context = int(cfg.data.options.context)
        if self.context < 2 or spans_in(self.context)[1] > len(SENTINELS):
            raise ConfigError(
                f"data.options.context={self.context} must be at least 2 and hold no more than {len(SENTINELS)} spans"
            )

    def examples(self) -> dict[str, Examples]:
        """Windows of the corpus, corrupted as they are accessed.

        A tokenizer that is trained here has the special tokens, a published one must have them under T5's names.

        Raises:
            ConfigError: the tokenizer lacks one, or does not fit the model; a split is shorter than a window.
        """
        data: Any = OmegaConf.to_container(self.cfg.data)
        data["options"] |= {"extra_tokens": (PAD, *SENTINELS), "vocab_size": self.config.vocab_size}
        splits = load_data(OmegaConf.create({"data": data}))
        for name, split in splits.items():
            if (length := len(split.tokens.ids)) < self.context:
                raise ConfigError(
                    f"data.options.context={self.context} is longer than the split {name} of {length} tokens"
                )
        self.tokenizer = splits["train"].tokens.tokenizer
        assert self.tokenizer is not None, "tokens that are made or found in the cache come with theirs"
        special_tokens = {name: self.tokenizer.token_to_id(name) for name in (PAD, *SENTINELS)}
        for name in (PAD, *SENTINELS[: spans_in(self.context)[1]]):
            if special_tokens[name] is None:
                raise ConfigError(
                    f"the tokenizer of data={self.cfg.data.name} has no token {name}; take one of T5's, or leave "
                    "data.options.tokenizer out and one is trained that has it"
                )
        pad, *sentinels = (index for index in special_tokens.values() if index is not None)
        self.check(pad, splits["train"].tokens.vocab_size)
        return {
            name: SpanWindows(
                split.tokens.ids,
                self.context,
                np.array(sentinels),
                split.tokens.end,
                split.tokens.fingerprint,
                self.cfg.seed if name == "train" else None,
            )
            for name, split in splits.items()
        }

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Summed cross-entropy and number of each example's target tokens."""
        return {"loss": self.token_losses(model, batch).sum(1), "tokens": batch["target"].ne(self.pad).sum(1)}

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Mean cross-entropy of a token, and its exponential."""
        loss = figures["loss"].double().sum() / figures["tokens"].double().sum()
        return {"perplexity": loss.exp().item(), "loss": loss.item()}

    def blank_batch(self, size: int) -> Batch:
        """Windows of one token."""
        return self._blank(size, *lengths(self.context))

"""Inputs and targets from windows of tokens: next-token prediction or masking."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from recipes.data.text.tokens import PADDING, TokenWindows
from recipes.training.sampler import Batch, Key

# BERT (Devlin et al. 2019, section 3.1): hide 15% of the tokens; of these, 80% become the mask token, 10% a random one.
HIDDEN, MASKED, RANDOM = 0.15, 0.8, 0.1


class NextTokens:
    """Windows as input and, one token further on, target [B, context] each."""

    def __init__(self, windows: TokenWindows) -> None:
        self.windows = dataclasses.replace(windows, overlap=1)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        batch = self.windows.__getitems__(keys)
        tokens = batch.pop("tokens")
        # Padding follows all tokens of the last window, so that none of them attends to it.
        return {"input": tokens[:, :-1].clamp(min=0), "target": tokens[:, 1:].contiguous(), **batch}

    def fingerprint(self) -> str:
        """The windows' own."""
        return self.windows.fingerprint()


class HiddenTokens:
    """Windows with hidden tokens as input, and these alone as target [B, context] each.

    Args:
        windows: of a text whose tokenizer has a mask token.
        seed: training masks new tokens at each position in the run; None masks the same tokens of a window every time.
    """

    def __init__(self, windows: TokenWindows, seed: int | None) -> None:
        self.windows, self.seed = windows, seed

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        batch, corpus = self.windows.__getitems__(keys), self.windows.tokens
        tokens = batch.pop("tokens").numpy()
        roots = [(0, index) if self.seed is None else (1, self.seed, position) for position, index in keys]
        draws = np.stack([np.random.default_rng(root).random((3, tokens.shape[1])) for root in roots], axis=1)
        hidden = (draws[0] < HIDDEN) & (tokens != PADDING) & (tokens != corpus.end)
        assert corpus.mask is not None, "examples() refuses a tokenizer without a mask"
        inputs = np.where(hidden & (draws[1] < MASKED), corpus.mask, tokens)
        replaced = hidden & (draws[1] >= MASKED) & (draws[1] < MASKED + RANDOM)
        inputs = np.where(replaced, (draws[2] * corpus.vocab_size).astype(np.int64), inputs)
        masked = {
            "input": torch.from_numpy(np.maximum(inputs, 0)),
            "target": torch.from_numpy(np.where(hidden, tokens, PADDING)),
        }
        if (tokens == PADDING).any():
            masked["attention_mask"] = torch.from_numpy((tokens != PADDING).astype(np.int64))
        return {**masked, **batch}

    def fingerprint(self) -> str:
        """The windows' own."""
        return self.windows.fingerprint()

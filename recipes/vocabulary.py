"""What the rows of an embedding stand for: weights are of use only with the tokenizer that they were trained with."""

from pathlib import Path

from omegaconf import DictConfig
from tokenizers import Tokenizer

from recipes import record
from recipes.data import cache
from recipes.errors import ConfigError


def fingerprint(tokenizer: Tokenizer | None) -> str | None:
    """16 hex digits over all tokens and their numbers, or None without a tokenizer."""
    return None if tokenizer is None else cache.key(sorted(tokenizer.get_vocab().items()))


def check(cfg: DictConfig, source: str | Path, own: str | None) -> None:
    """Refuse to start from a run that read its texts in other tokens; only a run's folder tells which it read.

    Args:
        cfg: of the run that starts.
        source: what it starts from.
        own: the fingerprint of its tokenizer.

    Raises:
        ConfigError: the tokens are others.
    """
    theirs = (record.read_summary(Path(source)) or {}).get("tokenizer")
    if own is not None and theirs is not None and own != theirs:
        raise ConfigError(
            f"init_from={cfg.init_from} was trained with another tokenizer ({theirs}) than data={cfg.data.name} has "
            f"here ({own}); choose the data and options that {Path(source) / 'config.yaml'} has"
        )

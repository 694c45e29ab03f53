"""The weights that a run starts from (`init_from=`): of use only with the tokenizer that they were trained with."""

from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from tokenizers import Tokenizer

from recipes.data import cache
from recipes.data.text import bpe
from recipes.errors import ConfigError
from recipes.runs import prerequisite, record
from recipes.training import checkpoint

RUN_DEPTH = 3  # folders above a checkpoint's file, in which a run's record may lie


Weights = dict[str, torch.Tensor]


def loader(cfg: DictConfig) -> Callable[[Tokenizer | None], Callable[[], Weights]] | None:
    """What gives a run its first weights, or None where they are drawn.

    Called with the run's tokenizer, it does the prerequisite run where one is named and not done yet; what it returns
    then reads the weights.
    """
    if cfg.init_from is None:
        return None

    def found(tokenizer: Tokenizer | None) -> Callable[[], Weights]:
        source = prerequisite.source(cfg)

        def weights() -> Weights:
            check(cfg, source, tokenizer)
            return checkpoint.load_weights(source)

        return weights

    return found


def fingerprint(tokenizer: Tokenizer | None) -> str | None:
    """16 hex digits over all tokens and their numbers, or None without a tokenizer."""
    return None if tokenizer is None else cache.key(sorted(tokenizer.get_vocab().items()))


def check(cfg: DictConfig, source: str | Path, tokenizer: Tokenizer | None) -> None:
    """Refuse to start from weights that were trained with other tokens, where what lies beside them tells.

    A run's record has its tokenizer's fingerprint, a folder that transformers saved often its tokenizer.json.

    Args:
        cfg: of the run that starts.
        source: what it starts from.
        tokenizer: its own.

    Raises:
        ConfigError: the tokens are others.
    """
    place = Path(source)
    if tokenizer is None or not place.exists():
        return
    for folder in (place, *place.absolute().parents[:RUN_DEPTH]):
        own, theirs = fingerprint(tokenizer), (record.read_summary(folder) or {}).get("tokenizer")
        if theirs is not None and own != theirs:
            raise ConfigError(
                f"init_from={cfg.init_from} was trained with another tokenizer ({theirs}) than data={cfg.data.name} "
                f"has here ({own}); choose the data and options that {folder / 'config.yaml'} has"
            )
    file = (place if place.is_dir() else place.parent) / "tokenizer.json"
    if not file.exists():
        return
    known = bpe.published(str(file)).get_vocab()
    other = sorted(token for token, number in tokenizer.get_vocab().items() if known.get(token) != number)
    if other:
        raise ConfigError(
            f"init_from={cfg.init_from}: its {file} has {len(other)} of the tokens of data={cfg.data.name} under other "
            f"numbers or not at all, such as {other[0]!r}; set data.options.tokenizer={file}"
        )

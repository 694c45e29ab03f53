"""Tokenizers: byte-level byte-pair encoding trained on a corpus's training split, or a published one.

Byte-level (Radford et al. 2019, GPT-2): the alphabet is the 256 bytes, so no text is outside the vocabulary and
every text is decoded unchanged.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from recipes.data import cache
from recipes.data.hub import first_line, reachable
from recipes.errors import ConfigError
from recipes.files import write_text

END = "<|endoftext|>"  # between documents
MASK = "<|mask|>"  # replaces a hidden token
# Names in published tokenizers.
ENDS = (END, "</s>", "<eos>", "[SEP]", "<|end_of_text|>")
MASKS = (MASK, "[MASK]", "<mask>")
SMALLEST = 256  # the bytes


def trained(
    texts: Callable[[], Iterable[str]], fingerprint: str, vocab_size: int, extra_tokens: Sequence[str] | None = ()
) -> Tokenizer:
    """A byte-level BPE trained on these texts, and cached by their content and its size.

    Args:
        texts: only called if the cache lacks the tokenizer.
        fingerprint: of the texts.
        vocab_size: tokens in all: the special ones, 256 bytes, and merges.
        extra_tokens: further special tokens; `END` has index 0 and they follow in order.

    Raises:
        ConfigError: the vocabulary has no room for the bytes.
    """
    specials = list(dict.fromkeys((END, *(extra_tokens or ()))))
    if vocab_size < SMALLEST + len(specials):
        raise ConfigError(
            f"vocab_size={vocab_size} is too small: {SMALLEST} bytes and {len(specials)} special tokens "
            f"need {SMALLEST + len(specials)}"
        )
    name = cache.key("byte-level BPE", tokenizers.__version__, fingerprint, vocab_size, specials)
    path = cache.folder("tokenizers") / f"{name}.json"
    with cache.locked(path):
        if not path.exists():
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=vocab_size,
                special_tokens=specials,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
            tokenizer.train_from_iterator(texts(), trainer)
            write_text(path, tokenizer.to_str())
    return Tokenizer.from_file(str(path))


def published(name: str) -> Tokenizer:
    """A tokenizer by its file (tokenizer.json, or a folder that holds one) or its name on the Hugging Face hub.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = Path(name).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if path.exists():
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exceptions
            raise ConfigError(
                f"data.options.tokenizer={name}: {path} is not a tokenizer ({first_line(error)})"
            ) from None
    from huggingface_hub import constants, hf_hub_download

    # Without this check, a machine without a network would try for half a minute before it uses the cache.
    offline = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
    try:
        return Tokenizer.from_file(hf_hub_download(name, "tokenizer.json", local_files_only=offline))
    except Exception as error:  # the hub's library has no common base class of errors
        reason = "it cannot be reached and the cache has no copy" if offline else first_line(error)[:120]
        raise ConfigError(
            f"data.options.tokenizer={name}: no such tokenizer.json, and the hub does not give it ({reason}); "
            "name a local file"
        ) from None


def special(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    """The index of the first of these tokens that the vocabulary has."""
    return next((index for name in names if (index := tokenizer.token_to_id(name)) is not None), None)

"""Initial weights: read from a model that transformers saved, and loaded into a model that they must match."""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from recipes.data import cache
from recipes.data.hub import first_line, reachable
from recipes.data.text import bpe
from recipes.errors import ConfigError

# In order of preference; large models have several files.
PATTERNS = ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin", "pytorch_model-*-of-*.bin")
RUN_DEPTH = 3  # a run's record is at most so many folders above a file of its checkpoint


def load_matching(
    model: nn.Module,
    weights: dict[str, torch.Tensor],
    source: str,
    expected: str,
    kind: str = "model",
    optional: Collection[str] = (),
) -> None:
    """Load weights into a model that has tensors of the same names and shapes.

    Args:
        model: keeps its own values of the `optional` tensors that `weights` lacks.
        weights: a state dictionary.
        source: what `init_from=` names.
        expected: the model's name, for the error.
        kind: what the model is, for the error.
        optional: names that `weights` may lack.

    Raises:
        ConfigError: a name or a shape differs.
    """
    current = model.state_dict()
    shared = current.keys() & weights.keys()
    differing = (current.keys() ^ weights.keys()) - (set(optional) - weights.keys())
    differing |= {name for name in shared if current[name].shape != weights[name].shape}
    check_matching(differing, source, expected, kind)
    model.load_state_dict(weights, strict=False)


def check_matching(differing: Collection[str], source: str, expected: str, kind: str = "model") -> None:
    """Refuse weights of which some tensors differ from the model's.

    Args:
        differing: their names.
        source: what `init_from=` names.
        expected: the model's name.
        kind: what the model is.

    Raises:
        ConfigError: there is one.
    """
    if differing:
        raise ConfigError(
            f"init_from={source} is of another {kind} than {expected}: "
            f"{len(differing)} tensors differ, {min(differing)} among them"
        )


def in_folder(folder: Path) -> dict[str, torch.Tensor] | None:
    """All tensors of a saved model, or None if the folder has none.

    Raises:
        ConfigError: a file is damaged.
    """
    files = next((matches for pattern in PATTERNS if (matches := sorted(folder.glob(pattern)))), [])
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            safe = file.suffix == ".safetensors"
            weights |= load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # neither library has a common base class of errors
            raise ConfigError(f"init_from={folder}: {file.name} cannot be read ({first_line(error)})") from None
    return weights or None


def from_hub(name: str) -> dict[str, torch.Tensor]:
    """The weights of a model on the hub, from the cache after the first time.

    Args:
        name: owner/name.

    Raises:
        ConfigError: this is not such a name, or the model is neither on the hub nor in the cache.
    """
    from huggingface_hub import constants, snapshot_download

    expected = "expected a run's folder, a .safetensors file, a folder that transformers saved, or a name on the hub"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) or name.endswith(".safetensors"):
        raise ConfigError(f"init_from={name} does not exist; {expected}")
    # Without this check, a machine without a network would try for a long time before it uses the cache.
    offline = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
    weights, why = None, "it holds no weights in safetensors or PyTorch's format"
    try:
        for pattern in PATTERNS:  # the first existing kind of file
            folder = snapshot_download(name, allow_patterns=[pattern], local_files_only=offline)
            if (weights := in_folder(Path(folder))) is not None:
                return weights
    except ConfigError:
        raise
    except Exception as error:  # the hub's library has no common base class of errors
        why = "the hub cannot be reached and the cache has no copy" if offline else first_line(error)
    raise ConfigError(f"init_from={name} was found neither here nor on the hub ({why}); {expected}")


def weights_fingerprint(model: nn.Module) -> str:
    """16 hex digits over a model's weights and buffers, not over settings without any, such as attention heads."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """A hash of all tokens and their ids, 16 hex digits."""
    return cache.key(sorted(tokenizer.get_vocab().items()))


def check_tokenizer(source: str, tokenizer: Tokenizer, data: str) -> None:
    """Refuse weights that were trained with another tokenizer, as far as the files in their folder tell.

    The record of a run has its tokenizer's fingerprint; a folder that transformers saved often has a tokenizer.json.

    Args:
        source: what `init_from=` names.
        tokenizer: of the new run.
        data: the name of its data set, for the error.

    Raises:
        ConfigError: a token differs.
    """
    place = Path(source)
    if not place.exists():
        return
    fingerprint = tokenizer_fingerprint(tokenizer)
    for folder in (place, *place.absolute().parents[:RUN_DEPTH]):
        recorded = _recorded_tokenizer(folder)
        if recorded is not None and recorded != fingerprint:
            raise ConfigError(
                f"init_from={source} was trained with another tokenizer ({recorded}) than data={data} has here "
                f"({fingerprint}); choose the data and options that {folder / 'config.yaml'} has"
            )
    file = (place if place.is_dir() else place.parent) / "tokenizer.json"
    if not file.exists():
        return
    ids = bpe.published(str(file)).get_vocab()
    differing = sorted(token for token, number in tokenizer.get_vocab().items() if ids.get(token) != number)
    if differing:
        raise ConfigError(
            f"init_from={source}: its {file} has {len(differing)} of the tokens of data={data} under other numbers or "
            f"not at all, such as {differing[0]!r}; set data.options.tokenizer={file}"
        )


def _recorded_tokenizer(folder: Path) -> str | None:
    """The tokenizer's fingerprint in the summary of a run, or None if the folder is not the record of a run."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return summary.get("tokenizer") if isinstance(summary, dict) else None

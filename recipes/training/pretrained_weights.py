"""Weights to start from: read in the form that transformers saves, and loaded into a model that they must match."""

import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from recipes.data.hub import first_line, reachable
from recipes.errors import ConfigError

# In the order of preference; large models come in several files.
PATTERNS = ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin", "pytorch_model-*-of-*.bin")


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
    """All tensors of a saved model, or None where the folder holds none.

    Raises:
        ConfigError: a file is damaged.
    """
    files = next((found for pattern in PATTERNS if (found := sorted(folder.glob(pattern)))), [])
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            safe = file.suffix == ".safetensors"
            weights |= load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # neither library has a common error
            raise ConfigError(f"init_from={folder}: {file.name} cannot be read ({first_line(error)})") from None
    return weights or None


def from_hub(name: str) -> dict[str, torch.Tensor]:
    """The weights of a model on the hub, from the cache after the first time.

    Args:
        name: owner/name.

    Raises:
        ConfigError: this is no such name, or neither hub nor cache give it.
    """
    from huggingface_hub import constants, snapshot_download

    expected = "expected a run's folder, a .safetensors file, a folder that transformers saved, or a name on the hub"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) or name.endswith(".safetensors"):
        raise ConfigError(f"init_from={name} does not exist; {expected}")
    # Without this look, a machine without a network would try for a long time before it turns to the cache.
    offline = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
    weights, why = None, "it holds no weights in safetensors or PyTorch's format"
    try:
        for pattern in PATTERNS:  # the first kind of file that there is
            folder = snapshot_download(name, allow_patterns=[pattern], local_files_only=offline)
            if (weights := in_folder(Path(folder))) is not None:
                return weights
    except ConfigError:
        raise
    except Exception as error:  # the hub's library has no common error
        why = "the hub cannot be reached and the cache has no copy" if offline else first_line(error)
    raise ConfigError(f"init_from={name} does not exist here and is not to be had from the hub ({why}); {expected}")

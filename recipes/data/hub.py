"""Load Hugging Face data sets: from the hub, from its cache without a network, or from a saved folder."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.errors import ConfigError


class NotAvailableError(ConfigError):
    """A data set is neither on the hub nor in its cache."""


def from_hub(name: str, subset: str | None, advice: str, **options: Any) -> Mapping[str, Any]:
    """The splits of a data set on the hub, from the hub's cache if there is no network.

    Args:
        name: such as `allenai/c4`.
        subset: its configuration, such as `en`.
        advice: what an error says to do.
        options: of `datasets.load_dataset`.

    Raises:
        NotAvailableError: the data set is not available.
    """
    from datasets import config, load_dataset

    was_offline = config.HF_HUB_OFFLINE
    # Without this check, a machine without a network would try for half a minute before it uses the cache.
    config.HF_HUB_OFFLINE = was_offline or not reachable(config.HF_ENDPOINT)
    try:
        return load_dataset(name, subset, **options)
    except Exception as error:  # datasets has no common error
        reason = "the hub cannot be reached and the cache has no copy" if config.HF_HUB_OFFLINE else first_line(error)
        location = f"data.hub={name}{f' ({subset})' if subset else ''}"
        raise NotAvailableError(f"{location} is not available ({reason}): {advice}") from None
    finally:
        config.HF_HUB_OFFLINE = was_offline


def commit(name: str, revision: str | None) -> str | None:
    """The current commit of a data set's branch, or None if the hub does not answer.

    Args:
        name: of the data set.
        revision: a branch or commit; None is the main branch.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        return None
    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except Exception:  # reading the data set reports the error
        return None


def load_saved(folder: Path, location: str) -> Mapping[str, Any]:
    """The splits of a folder that `save_to_disk` wrote; a data set without splits is `train`.

    Args:
        folder: that holds it.
        location: how errors call it.

    Raises:
        ConfigError: it is damaged.
    """
    from datasets import Dataset, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # datasets has no common error
        raise ConfigError(f"{location} cannot be read as a Hugging Face data set: {first_line(error)}") from None
    return {"train": loaded} if isinstance(loaded, Dataset) else loaded


def reachable(address: str, seconds: float = 5) -> bool:
    """Whether a server answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True  # it answers
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the hub's library has its own certificates
    except OSError:
        return False
    return True


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

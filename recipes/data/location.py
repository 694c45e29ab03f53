"""How error messages call a data set: `data.path=...` or `data.hub=...`."""

from pathlib import Path

from recipes.errors import ConfigError


def location(hub: str | None, path: str | None, formats: str) -> str:
    """The setting that names a data set; `path` has precedence over `hub`.

    Args:
        hub: a name on the Hugging Face hub.
        path: a local folder.
        formats: what the folder may contain, for the message.

    Raises:
        ConfigError: neither is set, or `path` is not a folder.
    """
    if path is None and hub is None:
        raise ConfigError(f"set data.path or data.hub to say where the images are; data.path holds {formats}")
    if path is None:
        return f"data.hub={hub}"
    if not Path(path).expanduser().is_dir():
        raise ConfigError(f"data.path={path} is not a folder: set data.path to one that holds {formats}")
    return f"data.path={path}"

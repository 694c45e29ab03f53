"""A mirror of the run record in Weights & Biases; the record is the source of truth."""

import logging
import netrc
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from recipes.errors import ConfigError
from recipes.settings.schema import Tracker as TrackerConfig

Line = dict[str, Any]


class Tracker(Protocol):
    """Takes measurements as they are recorded."""

    def log(self, lines: Iterable[Line]) -> None:
        """Mirror measurements of one step."""
        ...

    def picture(self, step: int, name: str, path: Path) -> None:
        """Mirror a picture of one step."""
        ...

    def finish(self, summary: dict[str, Any]) -> None:
        """Mirror the summary and close; called however the run ends."""
        ...


class Silent:
    """No mirror."""

    def log(self, lines: Iterable[Line]) -> None:
        """Do nothing."""

    def picture(self, step: int, name: str, path: Path) -> None:
        """Do nothing."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Do nothing."""


class Wandb:
    """One wandb run under the record's own id; offline unless the user is logged in.

    wandb cannot resume offline runs, so a resumed run logs all its earlier measurements again: each offline folder is
    complete. `scripts/sync_wandb.py` uploads a record at any later time instead.

    Raises:
        ConfigError: the mode is online and wandb cannot be reached; in the mode auto the run is logged offline instead.
    """

    def __init__(self, cfg: TrackerConfig, folder: Path, config: dict[str, Any], created: str | None = None) -> None:
        import wandb

        def start(mode: Literal["online", "offline"]) -> Any:
            return wandb.init(
                # Without wandb's output the run's progress line stays readable.
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
                dir=str(folder),
                mode=mode,
                config=config,
                **identity(cfg.project, cfg.entity, config, folder.name, created),
            )

        try:
            self._run = start("online" if cfg.mode == "online" or (cfg.mode == "auto" and logged_in()) else "offline")
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            if cfg.mode != "auto":
                raise ConfigError(f"tracker.mode={cfg.mode}: {reason}; tracker=none goes without wandb") from None
            print(f"wandb cannot be reached, this run is mirrored offline ({reason})", file=sys.stderr)
            wandb.teardown()  # its process still holds the id
            self._run = start("offline")
        _quiet()

    def log(self, lines: Iterable[Line]) -> None:
        """Mirror measurements, one wandb step a training step."""
        for step, values in by_step(lines):
            self._run.log(values, step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Mirror a picture."""
        import wandb

        self._run.log({name: wandb.Image(str(path))}, step=step)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mirror the summary and close."""
        self._run.summary.update(summary)
        self._run.finish(exit_code=0 if summary.get("status") in ("completed", "diverged") else 1)


def _quiet() -> None:
    """Have wandb's log files fail without stack traces: if the disk is full, the run says so in one line."""
    for handler in logging.getLogger("wandb").handlers:
        handler.handleError = lambda record: None  # type: ignore[method-assign]


def identity(
    project: str, entity: str | None, config: dict[str, Any], run_id: str, created: str | None
) -> dict[str, Any]:
    """The identity of a wandb run, the same for the live mirror and for a later upload.

    The id is the run id and the time when the record was begun (`created`, ISO 8601): a run that starts again from its
    first step is a new run there, and its measurements do not mix with the earlier ones.
    """
    task, optim = config["task"]["name"], config["optim"]
    begun = "".join(filter(str.isalnum, (created or "").partition("+")[0]))
    return {
        "id": f"{run_id}-{begun}" if begun else run_id,
        "project": project,
        "entity": entity,
        "group": task,
        "name": f"{optim['name']}-lr{optim['lr']:g}-wd{optim['weight_decay']:g}-s{config['seed']}",
        "tags": [task, optim["name"], config["scale"]["name"]],
    }


def by_step(lines: Iterable[Line]) -> list[tuple[int, dict[str, float]]]:
    """Measurements in wandb's form: one dictionary of `split/name` for each step, in order."""
    steps: dict[int, dict[str, float]] = {}
    for line in lines:
        steps.setdefault(line["step"], {})[f"{line['split']}/{line['name']}"] = line["value"]
    return sorted(steps.items())


def logged_in() -> bool:
    """Whether wandb would find a key, asked without the network."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC") or None).authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def make(cfg: TrackerConfig, folder: Path, config: dict[str, Any], created: str | None = None) -> Tracker:
    """The tracker that the config names; `created` is when the record in `folder` was begun.

    Raises:
        ConfigError: the name or the mode is unknown.
    """
    if cfg.name == "none":
        return Silent()
    if cfg.name != "wandb":
        raise ConfigError(f"tracker={cfg.name} is unknown; known: none, wandb")
    if cfg.mode not in ("auto", "online", "offline"):
        raise ConfigError(f"tracker.mode={cfg.mode} is unknown; known: auto, online, offline")
    return Wandb(cfg, folder, config, created)

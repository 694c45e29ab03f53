"""The run id: a hash of the settings that decide a run's result, so that the same run is never done twice.

The hash does not depend on how a setting is written or where files are. Settings at their default are left out, so a
new setting changes no id; 0 and 0.0 are the same; a file or folder counts by its content; a run whose weights are used
counts by its id; settings of the execution (device, processes, micro-batches) are left out.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipes.settings import optimizer_arguments, schema
from recipes.settings.schema import Config

# Settings that do not decide a run's result: output, logging and hardware.
EXECUTION = (
    "accumulate",
    "activation_checkpointing",
    "channels_last",
    "checkpoint_every",
    "compile",
    "data.download",
    "data.module",  # implied by data.name
    "data.workers",
    "device",
    "device_memory",
    "dry_run",
    "eval_batch_size",
    "log_every",
    "logit_rows",
    "optim.refuses_shards",
    "optim.variant",
    "output_dir",
    "reduce_every_micro_batch",
    "scale.threads",
    "shard",
    "shard_size",
    "task.recipe",
    "tf32",
    "tracker",
    "tuned",
)
# Settings that name a file or a folder, at any depth. Other texts are never looked for on the disk.
PATHS = frozenset(
    (
        "hub",
        "init_from",
        "judge",
        "path",
        "program",
        "real_labels",
        "reference",
        "scorer",
        "text",
        "tokenizer",
        "v2_path",
    )
)
CONTENT = 64 * 2**20  # bytes; larger ones count by names and sizes of their files: reading them takes too long


def run_id(cfg: DictConfig) -> str:
    """The run id: 12 hex digits, the same for the same settings on every machine."""
    return _hash(choices(cfg))


def conditions(cfg: DictConfig, *, of_place: bool = True) -> str:
    """A hash of the settings other than optimizer and seed: runs that may be compared share it.

    Without `of_place`, the data set counts by its name, wherever it is stored and whatever a user's copy of it holds.
    """
    chosen = {key: value for key, value in choices(cfg).items() if key not in ("optim", "seed")}
    if not of_place:
        chosen["data"] = {key: value for key, value in chosen["data"].items() if key not in ("path", "hub")}
    return _hash(chosen)


def choices(cfg: DictConfig) -> dict[str, Any]:
    """The settings that decide a run's result, as plain values, without those at their default in the schema."""
    values: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    for name in EXECUTION:
        *parents, key = name.split(".")
        node = values
        for parent in parents:
            node = node.get(parent, {})
        node.pop(key, None)
    _leave_out_defaults(values["optim"])
    if values["data"].get("path") is not None:
        values["data"].pop("hub", None)  # the path has precedence
    return _identified(_chosen(values, dataclasses.asdict(Config())), cfg)


def _leave_out_defaults(optim: dict[str, Any]) -> None:
    """Drop arguments that were added with the class's default value, as in `+optim.cautious=false`.

    Those that the optimizer's file sets are kept: a library may change its default.
    """
    try:
        defaults = optimizer_arguments.arguments(str(optim.get("_target_"))) or {}
    except optimizer_arguments.NotAnOptimizerError:
        return
    for name in set(optim) & set(defaults) - _set_by_file(str(optim["name"])):
        if optim[name] == defaults[name].default:
            del optim[name]


@lru_cache
def _set_by_file(name: str) -> frozenset[str]:
    file = schema.CONF / "optim" / f"{name}.yaml"
    return frozenset(OmegaConf.load(file)) if file.is_file() else frozenset()


def _chosen(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The values that differ from their defaults, at any depth."""
    kept = {}
    for key, value in values.items():
        default = defaults.get(key, dataclasses.MISSING)
        if isinstance(value, dict) and isinstance(default, dict):
            if below := _chosen(value, default):
                kept[key] = below
        elif value != default:
            kept[key] = value
    return kept


def _identified(value: Any, cfg: DictConfig, key: str = "") -> Any:
    """A setting with numbers in one spelling, and with the identity of a run, file or folder in place of its name."""
    if isinstance(value, dict):
        return {name: _identified(item, cfg, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_identified(item, cfg, key) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    if value.startswith(schema.RUN):
        return _id_of(value, cfg.scale.name)
    if key == "hub":
        return value.rstrip("/")
    return _place(value) if key in PATHS else value


@lru_cache
def _id_of(named: str, scale: str) -> str:
    return run_id(schema.composed(schema.command_of(named, scale)))


def _place(name: str) -> str:
    """The identity of a path: the run id of a record, else a hash of the content. Other names are unchanged."""
    path = Path(name).expanduser()
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        return str(summary["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return name.rstrip("/")  # a name on the hub, or a mistake that the loader reports
    return _content(str(path.resolve()), stat.st_mtime_ns, stat.st_size)


@lru_cache
def _content(place: str, modified: int, size: int) -> str:
    """A hash of a file or of a folder's files with their relative names; of large ones, only names and sizes."""
    files = list(_files(place))
    digest = hashlib.sha256()
    whole = sum(size for _, _, size in files) <= CONTENT
    for name, path, size in files:
        digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        if whole:
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]


def _files(place: str) -> Iterator[tuple[str, str, int]]:
    """Name, path and size of each file below a folder, sorted by name, without hidden files."""
    if not os.path.isdir(place):  # noqa: PTH112 (a data set has a million files: no Path for each)
        yield Path(place).suffix, place, Path(place).stat().st_size
        return
    entered = set()
    for folder, folders, names in os.walk(place, followlinks=True):  # class folders may be links
        stat = os.stat(folder)  # noqa: PTH116
        if (stat.st_dev, stat.st_ino) in entered:  # a link to a parent folder
            folders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = os.path.join(folder, name)  # noqa: PTH118
            try:
                size = os.stat(path).st_size  # noqa: PTH116
            except OSError:
                continue  # a broken link
            yield os.path.relpath(path, place), path, size


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

"""Check the values of a config: report all impossible ones at once, before slow imports."""

import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.errors import ConfigError
from recipes.files import safe_name
from recipes.settings import from_data, model_names, optimizer_arguments, schema
from recipes.settings.arguments import is_number, near, parse_bytes, typed
from recipes.training import schedule

PLAN = "LION_BENCH_PLAN"  # in the environment: the command had plan=true, and nothing is run
DECAY_RULES = ("weights", "matrices", "all")  # of recipes/training/param_groups.py, which imports torch

COUNT = 2**31 - 1  # no run has so many steps or examples a step, and the product of two still fits 64 bits
LONGEST_PART = 255  # bytes of a file name on common file systems
PROCESSES = 1024  # each is a process or thread of this machine
SEED = 2**53 - 1  # the largest whole number that every reader of the record's JSON holds exactly

WHOLE = {
    "seed": (0, SEED),
    "steps": (1, COUNT),
    "batch_size": (1, COUNT),
    "accumulate": (1, COUNT),
    "eval_every": (1, COUNT),
    "eval_batch_size": (1, COUNT),
    "log_every": (1, COUNT),
    "logit_rows": (0, COUNT),
    "shard_size": (2, PROCESSES),
    "checkpoint_every": (1, COUNT),
    "scale.threads": (1, PROCESSES),
    "data.workers": (0, PROCESSES),
    "augment.shift": (0, COUNT),
    "schedule.warmup_steps": (0, COUNT),
    "schedule.cooldown_steps": (0, COUNT),
    "schedule.timescale": (1, COUNT),
}
ONE_OF = {
    "precision": ("fp32", "bf16"),
    "device": ("auto", "cpu"),
    "compile": ("auto", True, False),
    "decay": DECAY_RULES,
    "schedule.name": tuple(schedule.SHAPES),
    "tracker.name": ("none", "wandb"),
    "tracker.mode": ("auto", "online", "offline"),
}
FOLDERS = ("task.name", "optim.name")  # they name folders of the record
TEXTS = (
    "output_dir",
    "model.name",
    "data.name",
    "data.path",
    "data.hub",
    "init_from",
    "augment.randaugment",
    "tracker.project",
)


def check(cfg: DictConfig) -> None:
    """Refuse impossible values before any work is done.

    Raises:
        ConfigError: with a line for each.
    """
    if lines := problems(cfg):
        raise ConfigError("\n".join(lines))


def problems(cfg: DictConfig, task: str | None = None, typed: Sequence[str] | None = None) -> list[str]:
    """The mistakes in the values of a config: one line each, with what is allowed.

    Args:
        cfg: without Hydra's own node.
        task: the file in conf/task that was chosen, where task.name may say otherwise.
        typed: the settings that the command sets, if known.
    """
    lines: list[str] = []
    values = _readable(cfg, lines)
    for part in (_ranges, _names, _schedule, _optimizer, _together, _places):
        lines += part(values)
    lines += [*_model(values, task or str(values.get("task.name"))), *from_data.problems(cfg, typed)]
    return [*no_gpu(cfg), *lines] if lines else []


def check_device(cfg: DictConfig) -> None:
    """Refuse a run of scale=gpu without a GPU, before its data are read.

    Raises:
        ConfigError: there is none.
    """
    if lines := no_gpu(cfg):
        raise ConfigError(lines[0])


def no_gpu(cfg: DictConfig) -> list[str]:
    """A line where a run of scale=gpu would train on the processor without having been told to; imports torch."""
    scale, device, dry_run = (OmegaConf.select(cfg, key) for key in ("scale.name", "device", "dry_run"))
    if scale != "gpu" or device == "cpu" or dry_run or PLAN in os.environ:
        return []
    import torch

    if torch.accelerator.is_available():
        return []
    return [
        "scale=gpu trains on a GPU, and torch finds none here: device=cpu would compute the same run on the processor, "
        "which takes weeks (dry_run=true has its FLOPs); scale=embedded takes minutes anywhere"
    ]


def warnings(cfg: DictConfig) -> list[str]:
    """Warnings that are printed before a run: settings that are possible but spoil the result."""
    steps, warmup, cooldown = int(cfg.steps), int(cfg.schedule.warmup_steps), int(cfg.schedule.cooldown_steps)
    lines = []
    if warmup > steps:
        lines.append(
            f"schedule.warmup_steps={warmup} is longer than the run of {steps} steps: it never reaches optim.lr"
        )
    if cooldown > max(steps - warmup, 0) and cfg.schedule.name in schedule.WITH_COOLDOWN:
        left = max(steps - warmup, 0)
        lines.append(f"schedule.cooldown_steps={cooldown} is longer than the {left} steps after the warm-up")
    return lines


def _readable(cfg: DictConfig, lines: list[str]) -> dict[str, Any]:
    """Plain values by dotted key, down to the open nodes; unreadable ones are added to `lines` and left out."""
    values: dict[str, Any] = {}

    def walk(node: DictConfig, above: str) -> None:
        for name in map(str, node):
            key = f"{above}{name}"
            try:
                value = node[name]
                if isinstance(value, DictConfig) and key not in ("model.args", "data.options", "optim"):
                    walk(value, f"{key}.")
                    continue
                values[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            except OmegaConfBaseException as error:
                lines.append(f"{key} has no value that can be read: {str(error).splitlines()[0]}")

    walk(cfg, "")
    return values


def _ranges(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, (least, most) in WHOLE.items():
        value = values.get(key, least)
        if value is None and key in ("scale.threads", "logit_rows", "shard_size"):
            continue
        if not least <= value <= most:
            limit = f"at least {least}" if value < least else f"at most {most}"
            lines.append(f"{key}={value} must be {limit}")
    for key, allowed in ONE_OF.items():
        value = values.get(key, allowed[0])
        if value not in allowed:
            known = [str(name).lower() if isinstance(name, bool) else name for name in allowed]
            lines.append(f"{key}={value} is unknown; known: {', '.join(known)}{near(str(value), known)}")
    mixup, clip, ema = (values.get(key) for key in ("augment.mixup", "clip_norm", "ema_decay"))
    if mixup is not None and not 0 <= mixup < math.inf:
        lines.append(f"augment.mixup={mixup} must be at least 0 and finite")
    if clip is not None and not 0 < clip < math.inf:
        lines.append(f"clip_norm={clip} must be above 0, or null for no clipping")
    if ema is not None and not 0 < ema < 1:
        lines.append(f"ema_decay={ema} must lie between 0 and 1, or be null for no averaging")
    final = values.get("schedule.final_factor", 0.0)
    if not 0 <= final <= 1:
        lines.append(f"schedule.final_factor={final} must lie in [0, 1]")
    try:
        parse_bytes(values.get("device_memory", "1GiB"))
    except ConfigError as error:
        lines.append(str(error))
    return lines


def _names(values: Mapping[str, Any]) -> list[str]:
    lines = []
    optim = values.get("optim")
    names = {"task.name": values.get("task.name"), "optim.name": optim.get("name") if isinstance(optim, dict) else None}
    for key in FOLDERS:
        if key == "optim.name" and not isinstance(optim, dict):
            continue
        try:
            safe_name(names[key], key)
        except ConfigError as error:
            lines.append(str(error))
    if isinstance(optim, dict) and (file := schema.CONF / "optim" / f"{optim.get('name')}.yaml").is_file():
        target = _setting(file).get("_target_")
        others = {_setting(other).get("_target_") for other in file.parent.glob("*.yaml")} - {target}
        if optim.get("_target_") in others:  # tables would show its runs under the other's name
            lines.append(f"optim.name={optim['name']} is the name of {target}, not of {optim['_target_']}")
    for key in TEXTS:
        value = values.get(key)
        if value is not None and not str(value).strip():
            lines.append(f"{key}= is empty; give it a value, or leave it out")
    for key, folder in (("task.recipe", "recipes"), ("data.module", "recipes/data")):
        module = str(values.get(key))
        if not (schema.CONF.parent / folder / f"{module.replace('.', '/')}.py").is_file():
            lines.append(f"{key}={module} is not a module in {folder}/")
    return lines


def _optimizer(values: Mapping[str, Any]) -> list[str]:
    optim = values.get("optim")
    lines = optimizer_arguments.problems(optim)
    name = optim.get("schedule") if isinstance(optim, dict) else None
    if name is not None and name not in schedule.SHAPES:
        known = ", ".join(schedule.SHAPES)
        lines.append(f"optim.schedule={typed(name)} is unknown; known: {known}, or null for the task's own")
    return lines


def _schedule(values: Mapping[str, Any]) -> list[str]:
    text = values.get("augment.randaugment")
    if text and not re.fullmatch(r"rand(-(mstd|mmax|inc|p|m|n|w|t)\d[\w.]*)*", str(text)):
        return [f"augment.randaugment={text} cannot be read; expected timm's notation, such as rand-m15-mmax15-n2-p1"]
    return []


def _model(values: Mapping[str, Any], task: str) -> list[str]:
    """Report a wrong model name, and arguments whose type differs from the task's setting."""
    lines = []
    name, models = str(values.get("model.name")), model_names.names(str(values.get("task.recipe")))
    if models is not None and name not in models and name.strip():
        close = difflib.get_close_matches(name, sorted(models), n=3)
        library = "timm" if values["task.recipe"] == "classification" else "transformers"
        lines.append(
            f"model.name={name} is not a model of {library}" + (f"; similar: {', '.join(close)}" if close else "")
        )
    setting = schema.CONF / "setting" / str(values.get("scale.name")) / f"{task}.yaml"
    if setting.is_file() and isinstance(values.get("model.args"), dict):
        example = _setting(setting).get("model", {}).get("args", {})
        lines += _unlike(values["model.args"], example, "model.args")
    return lines


@cache
def _setting(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return read


EITHER = ("samples",)  # one number for all splits, or a number for each
NULLABLE = ("img_size", "in_chans", "num_classes")  # null: as the model or the data have it


def _unlike(value: Any, example: Any, key: str) -> list[str]:
    """Report a value whose type differs from the setting's, or that is impossible."""
    if isinstance(example, dict):
        if key.rpartition(".")[2] in EITHER and not isinstance(value, dict):
            return []
        if not isinstance(value, dict):
            return [f"{key}={value} must hold {', '.join(example)}"]
        return [
            line for name in example if name in value for line in _unlike(value[name], example[name], f"{key}.{name}")
        ]
    if isinstance(example, list) and example and isinstance(value, list):
        return [line for item in value for line in _unlike(item, example[0], key)]
    name = key.rpartition(".")[2]
    if example is None or isinstance(example, list) or (value is None and name in NULLABLE):
        return []
    if isinstance(example, bool):
        return [] if isinstance(value, bool) else [f"{key}={typed(value)} must be true or false"]
    if isinstance(example, int):
        least = 1 if example >= 1 and not name.endswith("_id") else 0
        right = isinstance(value, int) and not isinstance(value, bool) and least <= value <= COUNT
        allowed = f"a whole number of at least {least} and at most {COUNT}"
        return [] if right else [f"{key}={typed(value)} must be {allowed}"]
    if isinstance(example, float):
        if not is_number(value):
            return [f"{key}={typed(value)} must be a finite number"]
        share = "drop" in name
        return [f"{key}={value} must lie in [0, 1)"] if share and not 0 <= value < 1 else []
    return [] if isinstance(value, str | list) else [f"{key}={typed(value)} must be a text, as {example}"]


def _together(values: Mapping[str, Any]) -> list[str]:
    """Report values that contradict each other."""
    lines, optim = [], values.get("optim")
    if values.get("shard") and isinstance(optim, dict) and (reason := optim.get("refuses_shards")):
        lines.append(f"optim={optim.get('name')} does not take shard=true: {reason}; set shard=false")
    return [*lines, *_parts_of_a_batch(values)]


def _parts_of_a_batch(values: Mapping[str, Any]) -> list[str]:
    """Report a batch or a group size that the processes do not divide."""
    size, micro, shard_size = values.get("batch_size", 1), values.get("accumulate", 1), values.get("shard_size")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if shard_size is not None and shard_size > 1 and processes > 1 and processes % shard_size:
        return [f"shard_size={shard_size} does not divide the {processes} processes"]
    if shard_size is not None and not values.get("shard"):
        return [f"shard_size={shard_size} needs shard=true"]
    problem = None if min(size, micro) < 1 else batch_problem(size, processes, micro)
    return [problem] if problem else []


def batch_problem(batch_size: int, processes: int, accumulate: int) -> str | None:
    """Why a batch cannot be split evenly over processes and micro-batches, or None."""
    parts = processes * accumulate
    if batch_size % parts == 0:
        return None
    fewer = batch_size // parts * parts
    nearest = ", ".join(str(size) for size in (fewer, fewer + parts) if size)
    return (
        f"batch_size={batch_size} is not divisible by {processes} processes x accumulate={accumulate}; "
        f"the nearest that are: {nearest}"
    )


def _places(values: Mapping[str, Any]) -> list[str]:
    """Report an output_dir that cannot be written, or initial weights that do not exist."""
    lines = []
    folder = Path(str(values.get("output_dir") or "."))
    if not values.get("dry_run"):
        reason = _unwritable(folder)
        if reason:
            lines.append(f"output_dir={str(folder)[:200]}: cannot write {reason}; choose another with output_dir=")
    source = values.get("init_from")
    if source is None or not str(source).strip():
        return lines
    try:
        _check_source(str(source), str(values.get("scale.name")))
    except ConfigError as error:
        lines.append(str(error))
    return lines


def _unwritable(folder: Path) -> str | None:
    """Which folder of a path cannot be written and why, or None."""
    if any(len(os.fsencode(part)) > LONGEST_PART for part in folder.parts):
        return f"{str(folder)[:40]}... (a name in it is longer than {LONGEST_PART} bytes)"
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not existing.is_dir():
            return f"{folder} ({existing} is not a folder)"
        return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} (permission denied)"
    except (OSError, ValueError) as error:
        return f"{folder} ({getattr(error, 'strerror', None) or error})"


def _check_source(source: str, scale: str) -> None:
    if source.startswith(schema.RUN):
        command = schema.command_of(source, scale)
        try:
            composed = schema.composed(command)
        except Exception as error:  # Hydra's message
            raise ConfigError(f"init_from={source}: {' '.join(str(error).split())}") from None
        if lines := problems(composed):
            raise ConfigError(f"init_from={source}: {'; '.join(lines)}")
        return
    try:
        there = Path(source).exists()
    except (OSError, ValueError):
        there = False
    if not there and (source.endswith(".safetensors") or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source)):
        raise ConfigError(
            f"init_from={source} does not exist; expected a run's folder, a .safetensors file, a folder that "
            "transformers saved, or a name on the hub"
        )

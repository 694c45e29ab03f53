"""The schema of all settings: a misspelt key is refused in a YAML file as on the command line.

The groups in conf/ hold the values. Only the optimizer's node is open: its keys are the arguments of the class
that its `_target_` names.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, DictConfig

from recipes.errors import ConfigError
from recipes.settings.tuned_tables import TunedTables

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
RUN = "run:"  # prefix of a setting that names a run by its command


@dataclass
class Task:
    """What is trained: a name, and the module in recipes/ that implements it."""

    name: str = MISSING
    recipe: str = MISSING


@dataclass
class Scale:
    """How large: `embedded` runs anywhere, `gpu` takes one GPU a day at most, `paper` is the paper's setting."""

    name: str = MISSING
    threads: int | None = None  # intra-op threads of the CPU; None leaves torch's choice


@dataclass
class Model:
    """A model by its library name, with the arguments that change it."""

    name: str = MISSING
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class Data:
    """A data set: the module in recipes/data/ that loads it and that module's options."""

    name: str = MISSING
    module: str = MISSING
    path: str | None = None  # a local folder in a standard format
    hub: str | None = None  # a name on the Hugging Face hub
    download: str | None = None  # what to download, its size and its terms: shown if the data are missing
    workers: int = 0  # loader processes of each training process
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Augment:
    """Augmentation of the training images; None and 0 switch a part off."""

    name: str = "none"
    shift: int = 0  # embedded images: random translation of up to so many pixels, the counterpart of crops
    flip: bool = False  # embedded images: mirrored or not at random
    randaugment: str | None = None  # timm's notation, e.g. rand-m15-mmax15-n2-p1
    mixup: float = 0.0  # alpha of the Beta distribution that draws the mixing weight


@dataclass
class Schedule:
    """The learning-rate schedule, in optimizer steps."""

    name: str = MISSING  # cosine, linear, constant, rsqrt
    warmup_steps: int = 0
    final_factor: float = 0.0  # share of the peak that cosine and linear end at
    timescale: int = 10_000  # rsqrt: steps after which the rate has fallen by the square root of 2
    cooldown_steps: int = 0  # rsqrt, constant: linear descent to final_factor over the last steps


@dataclass
class Tracker:
    """Where a run's record is mirrored."""

    name: str = "none"  # none, wandb
    project: str = "lion-bench"
    entity: str | None = None
    mode: str = "auto"  # auto: online where the user is logged in, else offline


@dataclass
class Tuned:
    """Where the hyperparameters come from: a row of a table in conf/tuned, and its source."""

    file: str = "none"
    source: str = "none"


@dataclass
class Config:
    """One run."""

    task: Task = field(default_factory=Task)
    scale: Scale = field(default_factory=Scale)
    optim: Any = None
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    schedule: Schedule = field(default_factory=Schedule)
    tracker: Tracker = field(default_factory=Tracker)
    tuned: Tuned = field(default_factory=Tuned)

    seed: int = 0
    steps: int = MISSING  # optimizer steps
    batch_size: int = MISSING  # examples a step, over all processes and accumulated micro-batches
    accumulate: int = 1  # micro-batches a step
    precision: str = "fp32"  # fp32, bf16 (autocast)
    clip_norm: float | None = None  # global gradient norm
    decay: str = "weights"  # weights: no biases, norms, position embeddings; matrices: no embeddings, output layer; all
    ema_decay: float | None = None  # Polyak averaging of the weights
    init_from: str | None = None  # a run's folder, .safetensors file, saved transformers folder, hub name, run:command

    eval_every: int = MISSING  # steps
    eval_batch_size: int = 500
    log_every: int = 20
    checkpoint_every: int = 200
    device: str = "auto"  # auto, cpu
    compile: bool | str = "auto"  # torch.compile of the training pass: true, false, auto (on CUDA, beyond embedded)
    tf32: bool = True  # on CUDA, precision=fp32: products of matrices in TensorFloat-32
    channels_last: bool = True  # on CUDA, convolutional models that are not in shards
    activation_checkpointing: bool = False  # compute activations of blocks again instead of keeping them: slower
    logit_rows: int | None = None  # of a language model's loss at a time; None: 256 MiB of them, 0: all
    shard: bool = False  # FSDP: split parameters, gradients and state over the processes
    shard_size: int | None = None  # processes that share a copy, such as those of a machine; None: all of them
    reduce_every_micro_batch: bool = (
        False  # average gradients after each micro-batch: slower; in shards, none is kept whole
    )

    output_dir: str = "outputs"
    dry_run: bool = False
    device_memory: str = "32GiB"  # of one device, for the dry run


def register() -> None:
    """Register with Hydra the schema, under the name `schema`, and the tables of tuned hyperparameters."""
    ConfigStore.instance().store(name="schema", node=Config)
    SourcesRegistry.instance().register(TunedTables)


@contextmanager
def composing() -> Iterator[None]:
    """Let hydra.compose read conf/, also inside a Hydra application."""
    register()
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = running


def quoted(text: str) -> str:
    """A text quoted for Hydra's grammar, whatever characters it has."""
    return '"' + re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), text) + '"'


def literal(value: Any) -> str:
    """A plain value written for Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).lower()


def composed(overrides: list[str]) -> DictConfig:
    """The config of a run with these overrides, as run.py composes it."""
    from recipes.settings import from_data

    with composing():
        cfg = compose("config", overrides=overrides)
    from_data.resolve(cfg, overrides)
    return cfg


def command_of(named: str, scale: str) -> list[str]:
    """The overrides of the run that `run:command` names, at the scale of the run that names it.

    Raises:
        ConfigError: the command has no task, or an open quotation mark.
    """
    try:
        command = shlex.split(named.removeprefix(RUN))
    except ValueError as error:
        raise ConfigError(f"{named} cannot be read as a command ({error})") from None
    if not any(word.startswith("task=") for word in command):
        raise ConfigError(f"{named} names no task; expected as in run:task=t5_pretrain optim=adamw")
    return [f"scale={scale}", *command]

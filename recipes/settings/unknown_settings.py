"""Messages for unknown settings and choices: the known ones, and the one that was probably meant."""

import re

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.settings import optimizer_arguments
from recipes.settings.arguments import near
from recipes.settings.schema import CONF

# Settings by their names in other tools.
ALSO_CALLED = {
    "lr": "optim.lr",
    "learning_rate": "optim.lr",
    "weight_decay": "optim.weight_decay",
    "wd": "optim.weight_decay",
    "betas": "optim.betas",
    "epochs": "steps",
    "num_steps": "steps",
    "max_steps": "steps",
    "iterations": "steps",
    "bs": "batch_size",
    "batch": "batch_size",
    "optimizer": "optim",
    "dataset": "data",
    "model": "task",
    "warmup": "schedule.warmup_steps",
    "warmup_steps": "schedule.warmup_steps",
    "dropout": "model.args.drop_rate",
    "mixup": "augment.mixup",
    "workers": "data.workers",
    "num_workers": "data.workers",
    "path": "data.path",
    "out": "output_dir",
    "output": "output_dir",
    "wandb": "tracker",
    "ema": "ema_decay",
    "fsdp": "shard",
    "torch_compile": "compile",
    "gradient_checkpointing": "activation_checkpointing",
    "grad_clip": "clip_norm",
    "launcher": "hydra/launcher",
    "sweeper": "hydra/sweeper",
} | {
    name: f"hydra.sweeper.{name}"
    for name in ("trials", "seeds", "first_seed", "trial_seed", "rings", "refine", "shortlist", "repeats")
}


def one_line(error: BaseException) -> str:
    """An exception's message in one line, with the known names if a name or key is unknown."""
    text = str(error)
    if "hydra/launcher/submitit" in text:
        return "hydra/launcher=slurm needs the slurm extra: pip install '.[slurm]'"
    if unknown := re.search(r"Could not (?:find|load) '([\w@./]+)/([^/']+)'", text):
        group, name = unknown.groups()
        names = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        if group.startswith("setting/"):
            names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            return f"task={name} has no setting at scale={group.split('/')[1]}; tasks that have: {', '.join(names)}"
        return f"{group}={name} is unknown; known: {', '.join(names)}{near(name, names)}"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        if text.startswith("Could not override") and isinstance(cause.parent_node, DictConfig):
            names = sorted(str(key) for key in cause.parent_node if key != "hydra")
            below = f" below {parent}" if (parent := str(cause.full_key).rpartition(".")[0]) else ""
            return (
                f"{cause.full_key} is unknown; known{below}: {', '.join(names) or 'none'}"
                f"{_adding(cause.parent_node, text)}{near(str(cause.key), names)}"
            )
        text = f"{text}: {str(cause).splitlines()[0]}"
    return " ".join(text.split())


def _adding(node: DictConfig, text: str) -> str:
    """Hydra's advice to add a key with +, if the schema allows it."""
    advice = re.search(r"\+\S.*", text)
    return f"; to add it: {advice[0]}" if advice and OmegaConf.get_type(node) is dict else ""


def unapplied(override: Override, cfg: DictConfig, error: Exception) -> str:
    """Why Hydra cannot set it: usually an unknown name."""
    key = override.key_or_group
    unknown = OmegaConf.select(cfg, key, default=None) is None and not isinstance(error, OmegaConfBaseException)
    if not unknown or not re.match("Could not (override|append)|Error merging", str(error)):
        return f"{override.input_line}: {one_line(error)}"
    if override.is_delete():
        return f"{override.input_line}: there is no {key}"
    above, _, name = key.rpartition(".")
    parent = OmegaConf.select(cfg, above, default=None) if above else cfg
    if above == "optim" and isinstance(parent, DictConfig):
        return optimizer_arguments.unknown_argument(override, parent)
    siblings = sorted(str(k) for k in parent if k != "hydra") if isinstance(parent, DictConfig) else []
    if isinstance(parent, DictConfig) and OmegaConf.get_type(parent) is dict and not override.is_add():
        adding = f"; to add it: +{override.input_line}"
    else:
        adding = ""
    if also := ALSO_CALLED.get(key) or elsewhere(name, cfg):
        return called(key, also, cfg)
    hint = near(name, siblings)
    below = f" below {above}" if above and siblings else ""
    return f"{key} is unknown; known{below}: {', '.join(siblings) or 'none'}{adding}{hint}"


def called(key: str, also: str, cfg: DictConfig) -> str:
    """The setting of this suite for another tool's name, or the script for a setting of the protocol."""
    if also.startswith("hydra.sweeper.") and key not in cfg.hydra.sweeper:
        return f"{key} is unknown; it is for python scripts/tune.py"
    return f"{key} is unknown; did you mean {also}?"


def elsewhere(name: str, cfg: DictConfig) -> str | None:
    """A setting of another node with the same last name."""
    for group in ("optim", "schedule", "data", "augment", "tracker", "model"):
        node = cfg.get(group)
        if isinstance(node, DictConfig) and name in node and name not in ("name", "args", "options"):
            return f"{group}.{name}"
    return None

"""The summary of a run's record: what was run, and how it ended."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipes.figure_format import unit
from recipes.protocol import Recipe
from recipes.runs import build, run_id
from recipes.settings import validation
from recipes.training.run_state import RunState

LIBRARIES = ("torch", "accelerate", "timm", "transformers", "diffusers", "datasets", "hydra-core", "numpy", "wandb")
FIGURES = {"final": "val", "best": "best val", "test": "test"}  # printed at the end of a run, with their labels


def description(cfg: DictConfig, recipe: Recipe) -> dict[str, Any]:
    """The part of a summary that is known before the first step: settings, versions and machine."""
    return {
        "task": cfg.task.name,
        "optim": cfg.optim.name,
        "variant": cfg.optim.get("variant"),
        "optim_class": cfg.optim._target_,
        "scale": cfg.scale.name,
        "model": cfg.model.name,
        "model_args": OmegaConf.to_container(cfg.model.args),
        "data": cfg.data.name,
        "augment": cfg.augment.name,
        "seed": cfg.seed,
        "steps": cfg.steps,
        "batch_size": cfg.batch_size,
        "schedule": cfg.schedule.name,
        "warmup_steps": cfg.schedule.warmup_steps,
        "conditions": run_id.conditions(cfg),
        "metric": recipe.metric,
        "goal": recipe.goal,
        "lr": cfg.optim.lr,
        "weight_decay": cfg.optim.weight_decay,
        "optim_args": build.further_arguments(cfg.optim),
        "tuned": cfg.tuned.file,
        "tuned_source": cfg.tuned.source,
        "versions": versions(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "machine": f"{platform.machine()} {platform.system()}",
        "git_commit": git_commit(),
    }


def outcome(
    state: RunState, status: str, *, cause: str | None = None, diverged_step: int | None = None
) -> dict[str, Any]:
    """The part of a summary that tells how the run went so far; it overrides keys of the description."""
    tests = dict(state.test)
    measured = {
        "status": status,
        "cause": cause,
        "diverged_step": diverged_step,
        "final": state.final,
        "best": state.best,
        "test": tests.pop("test", None),
        "further_tests": tests,
        "steps_per_second": state.steps_per_second,
        "optimizer_step_ms": state.optimizer_step_ms,
        "optimizer_step": state.optimizer_step,
        "optimizer_state_bytes": state.optimizer_state_bytes,
        "execution": state.execution,
        "num_parameters": state.num_parameters,
        "data_fingerprint": state.data_fingerprint,
        "tokenizer": state.tokenizer,
        "seconds": {name: round(value, 3) for name, value in sorted(state.seconds.items())},
    }
    return measured | ({"metric": state.metric} if state.metric else {})


def heading(cfg: DictConfig, folder: Path) -> str:
    """The lines that are printed before the first step: settings, folder and warnings."""
    return (
        f"{cfg.task.name} at scale {cfg.scale.name}: {cfg.model.name} on {cfg.data.name}, {cfg.optim.name} "
        f"lr {cfg.optim.lr:g} weight decay {cfg.optim.weight_decay:g} (hyperparameters: {cfg.tuned.file}), "
        f"{cfg.steps} steps of {cfg.batch_size}, seed {cfg.seed}\n{folder}"
        + "".join(f"\nwarning: {line}" for line in validation.warnings(cfg))
    )


def figures(summary: dict[str, Any]) -> str:
    """The main figures of a summary as text."""
    values = {label: summary[name] for name, label in FIGURES.items() if summary.get(name) is not None}
    in_unit = unit(summary.get("goal"), values.values())
    shown = [f"{label} {summary['metric']} {in_unit.figure(value)}" for label, value in values.items()]
    if summary.get("steps_per_second"):
        shown.append(f"{summary['steps_per_second']:.1f} steps/s")
    return ", ".join(shown) or "no figure yet"


def versions() -> dict[str, str]:
    """Versions of the libraries on which a result depends."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """The commit of this code, marked `-dirty` if the working tree differs from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None

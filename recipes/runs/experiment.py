"""One run from its config to its summary: nothing done twice, nothing lost, every end recorded."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipes import protocol
from recipes.distributed import processes
from recipes.errors import ConfigError
from recipes.runs import build, record, run_id, startup
from recipes.settings import from_data, validation
from recipes.training.timers import Clock

LIBRARIES = (
    "torch",
    "accelerate",
    "timm",
    "transformers",
    "diffusers",
    "datasets",
    "hydra-core",
    "numpy",
    "wandb",
)


def run(cfg: DictConfig) -> str:
    """Do one run, or go on with it, or skip it because its record is complete.

    Returns:
        How it ended: completed, diverged, skipped or dry run.

    Raises:
        ConfigError: a user's mistake, found before any work is lost.
        KeyboardInterrupt: the run was asked to stop; its checkpoint is written.
    """
    with processes.together():
        if not cfg.dry_run:
            processes.join(cpu=cfg.device == "cpu")
        processes.by_all(lambda: validation.check(cfg))
        processes.by_all(lambda: from_data.resolve(cfg))
        if cfg.dry_run:
            from recipes.runs.dry_run import cost

            if processes.is_first():
                cost.run(cfg)
            return "dry run"
        folder = processes.by_first(lambda: record.folder_of(cfg))
        done = processes.by_first(lambda: record.read_summary(folder))
        if done is not None and done.get("status") in record.FINISHED:
            _say(f"{folder} is {done['status']} already: {_figures(done)}")
            return "skipped"
        if done is not None and done.get("cause") == record.NOT_WHOLE:
            _say(f"{folder}/summary.json lacks what a finished run has: this run is done again")
        return _run(cfg, folder)


def _run(cfg: DictConfig, folder: Path) -> str:
    clock = Clock("startup")  # before the imports, which take seconds
    from accelerate.state import AcceleratorState

    from recipes.distributed import devices
    from recipes.runs import prerequisite, tracker
    from recipes.runs.metric_logger import RecordLogger
    from recipes.training.loop import Trainer
    from recipes.training.run_state import DivergedError, InterruptedRunError, RunState

    AcceleratorState._reset_state()  # a sweep's earlier run in this process may have had another precision
    accelerator, recipe, make_optimizer = processes.by_all(
        lambda: (devices.start(cfg), protocol.make(cfg), build.optimizer_factory(cfg.optim))
    )
    startup.interruptible()  # what begins here is ended in order
    logger, state = RecordLogger(), RunState()
    status, cause, diverged_step, mistake = "failed", None, None, False
    summary: dict[str, Any] = {}

    def begin() -> None:
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        logger.record = record.Record(cfg)
        try:
            logger.tracker = tracker.make(cfg.tracker, folder, config, logger.record.created)
        except BaseException:
            logger.record.discard()
            raise
        logger.record.summarise(_summary(cfg, state, "interrupted", cause="the process ended without a word"))
        _say(_heading(cfg, folder))

    def end() -> None:
        nonlocal summary
        if logger.record is None or logger.tracker is None:
            return
        summary = _summary(cfg, state, status, cause=cause, diverged_step=diverged_step)
        try:
            if logger.record.is_there() or status == "completed":
                logger.record.summarise(summary)
            if status == "completed":
                from recipes.training import checkpoint

                checkpoint.trim(folder / "checkpoint")
        finally:
            if not mistake:
                logger.record.close()
            try:
                logger.tracker.finish(summary)  # a mirror that fails or hangs finds the record whole
            finally:
                if mistake:  # found before the first step, it leaves no record
                    logger.record.discard()

    processes.by_first(begin)
    known_to_all = False
    try:
        resolved = prerequisite.resolved(cfg)
        if resolved != cfg:  # the first one has refused mistakes before such a run takes minutes
            recipe = processes.by_all(lambda: protocol.make(resolved))
        Trainer(resolved, recipe, make_optimizer, accelerator, logger, folder, clock, state).train()
        status, known_to_all = "completed", True
    except DivergedError as error:
        status, cause, diverged_step, known_to_all = "diverged", error.cause, error.step, True
    except ConfigError as error:
        mistake = not processes.is_lost(error)
        status = "failed" if mistake else "interrupted"
        cause, known_to_all = str(error), processes.is_agreed(error)
        raise
    except InterruptedRunError as error:
        status, cause, known_to_all = "interrupted", str(error), True
        raise KeyboardInterrupt(f"{error}; the same command goes on from there") from None
    except BaseException as error:
        lost = processes.is_lost(error)
        cause = str(processes.LostProcessError()) if lost else f"{type(error).__name__}: {error}".splitlines()[0]
        status = "interrupted" if lost or isinstance(error, KeyboardInterrupt) else "failed"
        known_to_all = processes.is_agreed(error)
        raise
    finally:
        clock.switch("logging")
        state.seconds = dict(clock.seconds)
        if known_to_all:
            processes.by_first(end)  # whoever reads records next, after a run of a sweep, finds this one whole
        else:
            end()
    _say(f"{status}{f' ({cause} at step {diverged_step})' if cause else ''}: {_figures(summary)}")
    _say(f"record {folder}")
    return status


def _summary(
    cfg: DictConfig, state: Any, status: str, *, cause: str | None = None, diverged_step: int | None = None
) -> dict[str, Any]:
    """The summary as the run record fixes it."""
    recipe_class = protocol.recipe_class(cfg.task.recipe)
    tests = dict(state.test)
    return {
        "status": status,
        "cause": cause,
        "diverged_step": diverged_step,
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
        "conditions": run_id.conditions(cfg),
        "metric": state.metric or recipe_class.metric,
        "goal": recipe_class.goal,
        "final": state.final,
        "best": state.best,
        "test": tests.pop("test", None),
        "further_tests": tests,
        "lr": cfg.optim.lr,
        "weight_decay": cfg.optim.weight_decay,
        "optim_args": build.further_arguments(cfg.optim),
        "tuned": cfg.tuned.file,
        "tuned_source": cfg.tuned.source,
        "steps_per_second": state.steps_per_second,
        "optimizer_step_ms": state.optimizer_step_ms,
        "optimizer_step": state.optimizer_step,
        "optimizer_state_bytes": state.optimizer_state_bytes,
        "num_parameters": state.num_parameters,
        "data_fingerprint": state.data_fingerprint,
        "tokenizer": state.tokenizer,
        "seconds": {name: round(value, 3) for name, value in sorted(state.seconds.items())},
        "versions": versions(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "machine": f"{platform.machine()} {platform.system()}",
        "git_commit": git_commit(),
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that a result depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of this code, marked where the working tree differs from it."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _heading(cfg: DictConfig, folder: Path) -> str:
    return (
        f"{cfg.task.name} at scale {cfg.scale.name}: {cfg.model.name} on {cfg.data.name}, {cfg.optim.name} "
        f"lr {cfg.optim.lr:g} weight decay {cfg.optim.weight_decay:g} (hyperparameters: {cfg.tuned.file}), "
        f"{cfg.steps} steps of {cfg.batch_size}, seed {cfg.seed}\n{folder}"
        + "".join(f"\nwarning: {line}" for line in validation.warnings(cfg))
    )


def _figures(summary: dict[str, Any]) -> str:
    """The figures of a summary that a person looks for."""
    shown = []
    for name in ("final", "best", "test"):
        if summary.get(name) is not None:
            label = {"final": "val", "best": "best val", "test": "test"}[name]
            shown.append(f"{label} {summary['metric']} {summary[name]:.4f}")
    if summary.get("steps_per_second"):
        shown.append(f"{summary['steps_per_second']:.1f} steps/s")
    return ", ".join(shown) or "no figure yet"


def _say(text: str) -> None:
    if processes.is_first():
        print(text, flush=True)

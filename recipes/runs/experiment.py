"""Run an experiment from its config to its record: check, skip or resume, train, and record how it ended."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes import protocol
from recipes.distributed import processes
from recipes.errors import ConfigError, DeviceMemoryError
from recipes.runs import build, expectation, record, startup, summary
from recipes.settings import from_data, validation
from recipes.training.timers import PhaseTimer


def run(cfg: DictConfig) -> str:
    """Do one run: start it, resume it, or skip it if its record is complete.

    Returns:
        How it ended: completed, diverged, skipped or dry run.

    Raises:
        ConfigError: a user's mistake, found before any work is lost.
        KeyboardInterrupt: the run was asked to stop; its checkpoint is written.
    """
    timer = PhaseTimer("startup")  # before the imports, which take seconds
    with processes.together():
        if not cfg.dry_run:
            processes.join(cpu=cfg.device == "cpu")
        processes.on_all(validation.check, cfg)
        processes.on_all(validation.check_device, cfg)
        processes.on_all(from_data.resolve, cfg)
        if cfg.dry_run:
            from recipes.runs.dry_run import cost

            if processes.is_first():
                cost.run(cfg)
            return "dry run"
        folder = processes.on_first(record.folder_of, cfg)
        done = processes.on_first(record.read_summary, folder)
        if done is not None and done.get("status") in record.FINISHED:
            _say(f"{folder} is {done['status']} already: {summary.figures(done)}")
            _say_expected(cfg, done)
            return "skipped"
        if done is not None and done.get("cause") == record.NOT_WHOLE:
            _say(f"{folder}/summary.json lacks what a finished run has: this run is done again")
        if done is None and processes.on_first((folder / "summary.json").exists):
            _say(f"{folder}/summary.json cannot be read: this run goes on from its checkpoint, or from its first step")
        return _run(cfg, folder, timer)


def _run(cfg: DictConfig, folder: Path, timer: PhaseTimer) -> str:
    import torch

    from recipes.distributed import devices
    from recipes.runs import prerequisite
    from recipes.runs.metric_logger import RecordLogger
    from recipes.training.loop import Trainer
    from recipes.training.run_state import DivergedError, InterruptedRunError, RunState

    accelerator = processes.on_all(devices.start, cfg)
    recipe = processes.on_all(protocol.recipe_class(cfg.task.recipe), cfg)
    make_optimizer = processes.on_all(build.optimizer_factory, cfg.optim)
    startup.interruptible()  # from here on Ctrl-C closes record and tracker
    logger, state = RecordLogger(), RunState()
    processes.on_first(logger.open, folder, cfg, recipe)
    _say(summary.heading(cfg, folder))
    status, cause, diverged_step, mistake = "failed", None, None, False
    known_to_all = False
    try:
        resolved = prerequisite.resolved(cfg)
        if resolved != cfg:  # the first recipe has reported mistakes before the needed run takes minutes
            recipe = processes.on_all(protocol.recipe_class(resolved.task.recipe), resolved)
        Trainer(resolved, recipe, make_optimizer, accelerator, logger, folder, timer, state).train()
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
        raise KeyboardInterrupt(f"{error}; the same command continues from there") from None
    except torch.OutOfMemoryError as error:
        from recipes.runs.dry_run import memory_advice

        cause, known_to_all = memory_advice.after(error, cfg), processes.is_of_all(error)
        too_small = DeviceMemoryError(cause)
        raise (processes.agreed(too_small) if known_to_all else too_small) from None  # a sweep's next run may fit
    except BaseException as error:
        lost = processes.is_lost(error)
        cause = str(processes.lost(error)) if lost else f"{type(error).__name__}: {error}".splitlines()[0]
        status = "interrupted" if lost or isinstance(error, KeyboardInterrupt) else "failed"
        known_to_all = processes.is_agreed(error)
        raise
    finally:
        timer.switch("logging")
        state.seconds = dict(timer.seconds)
        outcome = summary.outcome(state, status, cause=cause, diverged_step=diverged_step)
        if known_to_all:  # all wait for it, so that the next run of a sweep finds this record complete
            written = processes.on_first(logger.close, outcome, discard=mistake)
        else:
            written = logger.close(outcome, discard=mistake)
    _say(f"{status}{f' ({cause} at step {diverged_step})' if cause else ''}: {summary.figures(written)}")
    _say_expected(cfg, written)
    _say(f"record {folder}")
    return status


def _say_expected(cfg: DictConfig, written: dict[str, Any]) -> None:
    if processes.is_first() and (expected := expectation.line(cfg, written)):
        print(expected, flush=True)


def _say(text: str) -> None:
    if processes.is_first():
        print(text, flush=True)

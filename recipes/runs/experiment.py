"""One run from its config to its summary: nothing done twice, nothing lost, every end recorded."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipes import protocol
from recipes.distributed import processes
from recipes.errors import ConfigError, DeviceMemoryError
from recipes.runs import build, record, startup, summary
from recipes.settings import from_data, validation
from recipes.training.timers import PhaseTimer


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
        processes.by_all(lambda: _check_device(cfg))
        processes.by_all(lambda: from_data.resolve(cfg))
        if cfg.dry_run:
            from recipes.runs.dry_run import cost

            if processes.is_first():
                cost.run(cfg)
            return "dry run"
        folder = processes.by_first(lambda: record.folder_of(cfg))
        done = processes.by_first(lambda: record.read_summary(folder))
        if done is not None and done.get("status") in record.FINISHED:
            _say(f"{folder} is {done['status']} already: {summary.figures(done)}")
            return "skipped"
        if done is not None and done.get("cause") == record.NOT_WHOLE:
            _say(f"{folder}/summary.json lacks what a finished run has: this run is done again")
        return _run(cfg, folder)


def _check_device(cfg: DictConfig) -> None:
    """Refuse a run of scale=gpu without a GPU, before its data are looked at."""
    if lines := validation.no_gpu(cfg):
        raise ConfigError(lines[0])


def _run(cfg: DictConfig, folder: Path) -> str:
    timer = PhaseTimer("startup")  # before the imports, which take seconds
    import torch
    from accelerate.state import AcceleratorState

    from recipes.distributed import devices
    from recipes.runs import prerequisite, tracker
    from recipes.runs.metric_logger import RecordLogger
    from recipes.training.loop import Trainer
    from recipes.training.run_state import DivergedError, InterruptedRunError, RunState

    AcceleratorState._reset_state()  # a sweep's earlier run in this process may have had another precision
    accelerator, recipe, make_optimizer = processes.by_all(
        lambda: (devices.start(cfg), protocol.recipe_class(cfg.task.recipe)(cfg), build.optimizer_factory(cfg.optim))
    )
    startup.interruptible()  # what begins here is ended in order
    logger, state = RecordLogger(), RunState()
    status, cause, diverged_step, mistake = "failed", None, None, False
    description: dict[str, Any] = {}
    written: dict[str, Any] = {}

    def begin() -> None:
        nonlocal description
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        logger.record = record.Record(folder, cfg)
        try:
            logger.tracker = tracker.make(cfg.tracker, folder, config, logger.record.created)
        except BaseException:
            logger.record.discard()
            raise
        description = summary.description(cfg, recipe)
        begun = summary.outcome(state, "interrupted", cause="the process ended without a word")
        logger.record.summarise(description | begun)
        _say(_heading(cfg, folder))

    def end() -> None:
        nonlocal written
        if logger.record is None or logger.tracker is None:
            return
        written = description | summary.outcome(state, status, cause=cause, diverged_step=diverged_step)
        try:
            if logger.record.is_there() or status == "completed":
                logger.record.summarise(written)
            if status == "completed":
                from recipes.training import checkpoint

                checkpoint.trim(folder / "checkpoint")
        finally:
            if not mistake:
                logger.record.close()
            try:
                logger.tracker.finish(written)  # a mirror that fails or hangs finds the record whole
            finally:
                if mistake:  # found before the first step, it leaves no record
                    logger.record.discard()

    processes.by_first(begin)
    known_to_all = False
    try:
        resolved = prerequisite.resolved(cfg)
        if resolved != cfg:  # the first one has refused mistakes before such a run takes minutes
            recipe = processes.by_all(lambda: protocol.recipe_class(resolved.task.recipe)(resolved))
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
        raise KeyboardInterrupt(f"{error}; the same command goes on from there") from None
    except torch.OutOfMemoryError as error:
        from recipes.runs.dry_run import memory_advice

        cause = memory_advice.after(error, cfg)
        raise DeviceMemoryError(cause) from None
    except BaseException as error:
        lost = processes.is_lost(error)
        cause = str(processes.LostProcessError()) if lost else f"{type(error).__name__}: {error}".splitlines()[0]
        status = "interrupted" if lost or isinstance(error, KeyboardInterrupt) else "failed"
        known_to_all = processes.is_agreed(error)
        raise
    finally:
        timer.switch("logging")
        state.seconds = dict(timer.seconds)
        if known_to_all:
            processes.by_first(end)  # whoever reads records next, after a run of a sweep, finds this one whole
        else:
            end()
    _say(f"{status}{f' ({cause} at step {diverged_step})' if cause else ''}: {summary.figures(written)}")
    _say(f"record {folder}")
    return status


def _heading(cfg: DictConfig, folder: Path) -> str:
    return (
        f"{cfg.task.name} at scale {cfg.scale.name}: {cfg.model.name} on {cfg.data.name}, {cfg.optim.name} "
        f"lr {cfg.optim.lr:g} weight decay {cfg.optim.weight_decay:g} (hyperparameters: {cfg.tuned.file}), "
        f"{cfg.steps} steps of {cfg.batch_size}, seed {cfg.seed}\n{folder}"
        + "".join(f"\nwarning: {line}" for line in validation.warnings(cfg))
    )


def _say(text: str) -> None:
    if processes.is_first():
        print(text, flush=True)

"""What to say where a device's memory was too small for a run: the dry run's figures, and the settings that fit."""

import torch
from omegaconf import DictConfig

from recipes.distributed import processes
from recipes.runs.dry_run import cost, gpus

NOTHING_FITS = "shard=true over several GPUs, an optimizer with a smaller state or a larger GPU"


def after(error: torch.OutOfMemoryError, cfg: DictConfig) -> str:
    """A line on an error that PyTorch raised for want of memory, whatever else may go wrong in saying it."""
    memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    try:
        return advice(cfg, memory)
    except Exception:  # the figures are a help; what happened has to be said
        return f"the device's memory is too small for this run ({str(error).splitlines()[0][:120]}): raise accumulate="


def advice(cfg: DictConfig, memory: int) -> str:
    """What fits on a device of so many bytes, in one line that begins with what did not.

    Args:
        cfg: of the run that did not fit.
        memory: of one device.
    """
    result = cost.of_config(cfg, {cfg.optim.name: cfg.optim})
    f, share = result.footprint, cfg.batch_size // processes.launched()
    state = f.optimizer_state_bytes[cfg.optim.name]
    if not isinstance(state, int):
        raise ValueError(state)
    again = f.activations_checkpointed
    kept = again if cfg.activation_checkpointing and again is not None else f.activations
    now = share // cfg.accumulate
    needed = f.fixed + state + kept.constant + kept.peak(now)
    usable = memory * (1 - cost.ALLOWANCE)
    said = f"the device's memory of {_gib(memory)} is too small: {now:,} examples at a time take {_gib(needed)}, "
    said += f"{_gib(f.fixed + state)} of it whatever their number is (dry_run=true has the figures); "
    plain = gpus.accumulation(f.fixed + state, kept, share, usable)
    checkpointed = None if again is None or again is kept else gpus.accumulation(f.fixed + state, again, share, usable)
    choices = []
    if plain is not None and plain <= cfg.accumulate:
        return said + f"by that it fits, so something else uses the device (see nvidia-smi), or set {_parts(cfg, 2)}"
    if plain is not None:
        choices.append(_parts(cfg, plain / cfg.accumulate))
    if checkpointed is not None:
        factor = max(checkpointed / cfg.accumulate, 1)
        choices.append("activation_checkpointing=true" + (f" {_parts(cfg, factor)}" if factor > 1 else ""))
    return said + "set " + (", or ".join(choices) or NOTHING_FITS)


def _parts(cfg: DictConfig, factor: float) -> str:
    """The setting that divides a batch into so many times more parts."""
    if cfg.task.recipe == "contrastive.recipe":  # compares all pairs of a batch, however they are embedded
        return f"model.args.micro_batch={max(1, int(cfg.batch_size / factor))}"
    return f"accumulate={round(cfg.accumulate * factor)}"


def _gib(size: float) -> str:
    return f"{size / gpus.GIB:.3g} GiB"

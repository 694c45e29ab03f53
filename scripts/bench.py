"""Benchmark optimizer steps: time, state, and distance from the memory bandwidth limit, in one process.

    python scripts/bench.py                          # all Lions and baselines, ViT-S/16's tensors
    python scripts/bench.py vit_b16 --threads 2
    python scripts/bench.py many-small-tensors --optim lion,lion-bf16,timm,adamw-fused
    python scripts/bench.py vit_s16 --train          # within whole training steps: forward, backward, step

In each round every contender is timed, in an order that changes from round to round, so that variations of the
machine's speed affect all alike. All step the same float32 weights with the same gradients, into which schedule-free's
library adds the decay in place; each has its own state.
Times are medians over rounds with quartiles.

Each row names its step: fused (one pass), foreach (lists of tensors), loop (tensor by tensor), or own, if another
library does not tell. The ratio is to AdamW with the same step in the same round; to fused AdamW for an own step and
for the stream. --reference compares all with one.

GB/s counts the least bytes that a step moves (weights and state read and written, gradients read) and is compared with
an in-place stream that is timed in the same rounds: three float32 arrays read, two written, by the same C library. Peak
memory is what a step allocates in addition to weights, gradients and state. Missing libraries are named:
pip install '.[recipes,bench]' installs them.

Writes <out>/<model>.csv, .md and .png. With --device cuda the stream is the device's own copy of one array to another.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

from scripts.benchmark.contenders import (
    LIKE,
    MODELS,
    TRAINED,
    BenchError,
    contender,
    contender_names,
    kind_of_step,
    state_tensors,
    training,
)
from scripts.benchmark.round_robin import quartiles, ratios, round_robin
from scripts.benchmark.tables import STREAM, table, write_figure

WARM = 2  # untimed steps that create the state and warm up caches


def allocated(step: Callable[[], Any]) -> int:
    """The most bytes that a call had allocated at one time, by torch's operations."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class LiveBytes(TorchDispatchMode):
        now, peak = 0, 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = {t.untyped_storage()._cdata for t in tensors((args, kwargs))}
            result = func(*args, **(kwargs or {}))
            for storage in {t.untyped_storage()._cdata: t.untyped_storage() for t in tensors(result)}.values():
                if storage._cdata not in before:
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.freed, storage.nbytes())
            self.peak = max(self.peak, self.now)
            return result

        def freed(self, size: int) -> None:
            self.now -= size

    def tensors(nested: Any) -> Iterator[Any]:
        if isinstance(nested, torch.Tensor):
            yield nested
        elif isinstance(nested, list | tuple | dict):
            for item in nested.values() if isinstance(nested, dict) else nested:
                yield from tensors(item)

    with LiveBytes() as counter:
        step()
    return counter.peak


def slot(
    step: Callable[[], Any], steps: int, before: Callable[[], None] | None, wait: Callable[[], None] = lambda: None
) -> Callable[[], float]:
    """Seconds a step: after an untimed one, or with the computation of its gradients, which is timed too.

    `wait` returns when the device has finished its work.
    """

    def timed() -> float:
        if before is None:
            step()
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            if before is not None:
                before()
            step()
        wait()
        return (time.perf_counter() - start) / steps

    return timed


def affordable(names: list[str], state: int, chosen: bool, device: str = "cpu") -> list[str]:
    """The first names whose states fit into memory together; all of them if the user chose them.

    Raises:
        BenchError: the chosen ones do not fit, or not even two do.
    """
    room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device == "cuda":
        import torch

        room = torch.cuda.mem_get_info()[0]
    most = room // state
    if len(names) <= most:
        return names
    needed = f"{len(names)} optimizers may keep {state * len(names) / 1e9:.0f} GB of state"
    if chosen or most < 2:
        raise BenchError(f"{needed}, and {room / 1e9:.0f} GB are free: choose some with --optim")
    print(f"left out, since {needed} and {room / 1e9:.0f} GB are free: {', '.join(names[most:])}; see --optim")
    return names[:most]


def measure(
    model: str, names: list[str], against: dict[str, str], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], int]:
    """A row of figures for each contender, the fastest first; and the number of rounds.

    Args:
        model: whose tensors are stepped.
        names: the contenders.
        against: for each, the name of the contender that its time is divided by.
        options: the command line's.
    """
    import torch

    device: str = options.device
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    before: Callable[[], None] | None = None
    if options.train:
        params, before = training(model, options.batch_size)
        before()
    else:
        random = torch.Generator().manual_seed(0)
        shapes = MODELS[model]()
        params = [torch.nn.Parameter(torch.randn(shape, generator=random).to(device)) for shape in shapes]
        for p in params:
            p.grad = torch.randn(p.shape, generator=random).to(device)
    elements = sum(p.numel() for p in params)
    names = affordable(names, 8 * elements, options.optim is not None, device)
    slots: dict[str, Callable[[], float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        rows[name] = {"optimizer": name, "step": kind_of_step(name, device)}
        optimizer = warmed_up(name, params)
        if isinstance(optimizer, str):
            rows[name]["note"] = optimizer
            continue
        state = sum(t.nbytes for t in state_tensors(optimizer))
        rows[name] |= {"state_mb": state / 1e6, "bytes_per_parameter": state / elements}
        rows[name] |= {"peak_mb": allocated(optimizer.step) / 1e6, "moved": 12 * elements + 2 * state}
        slots[name] = slot(optimizer.step, options.steps, before, wait)
    for reference in dict.fromkeys(against[name] for name in slots):
        if reference not in slots:
            reason = rows[reference]["note"] if reference in rows else "the memory is too small for it"
            raise BenchError(f"the reference {reference} did not run: {reason}")
    if before is not None:
        slots["forward and backward"] = slot(lambda: None, options.steps, before)
    elif (stream := _stream(elements, device)) is not None:
        slots[STREAM] = slot(stream[0], options.steps, None, wait)
        rows[STREAM] = {"optimizer": STREAM, "moved": stream[1]}
    timings = round_robin(slots, options.rounds, seconds=options.seconds)
    for name, seconds in timings.items():
        row = rows.setdefault(name, {"optimizer": name})
        row |= times(seconds, timings, against.get(name, options.reference or LIKE["fused"]))
        if before is None:
            row["gb_per_s"] = row["moved"] / statistics.median(seconds) / 1e9
            if STREAM in timings:  # in the same round, as the ratio: a machine's bandwidth changes by the minute
                share = statistics.median(ratios(timings[STREAM], seconds))
                row["of_stream"] = share * row["moved"] / rows[STREAM]["moved"]
    order = sorted(rows.values(), key=lambda row: row.get("ms", float("inf")))
    return [{k: v for k, v in row.items() if k != "moved"} for row in order], min(map(len, timings.values()))


def warmed_up(name: str, params: list[Any]) -> Any:
    """The contender after its first steps, or a text that says why it does not run here."""
    try:
        optimizer = contender(name, params)
        for _ in range(WARM):
            optimizer.step()
    except PackageNotFoundError as missing:
        return f"{missing.name} is not installed"
    except Exception as error:  # another's library, in whatever state
        return f"{type(error).__name__}: {error}".splitlines()[0][:90]
    return optimizer


def times(seconds: list[float], timings: dict[str, list[float]], reference: str) -> dict[str, Any]:
    """Milliseconds, and the ratio to the reference's in the same round: medians with quartiles."""
    low, median, high = quartiles([1e3 * s for s in seconds])
    row: dict[str, Any] = {"ms": median, "ms_low": low, "ms_high": high}
    if reference in timings:
        low, median, high = quartiles(ratios(seconds, timings[reference]))
        row |= {"against": reference, "ratio": median, "ratio_low": low, "ratio_high": high}
    return row


def _stream(elements: int, device: str) -> tuple[Callable[[], Any], int] | None:
    """The time of a copy (on a GPU) or an in-place stream over as many elements, and the bytes moved.

    None if the C library is not available.
    """
    import torch

    from lion.kernels import cpu

    if device == "cuda":
        source, target = torch.zeros(elements, device=device), torch.empty(elements, device=device)
        return lambda: target.copy_(source), 8 * elements

    if isinstance(cpu.library(), str):
        return None
    a, b, c = torch.zeros(elements), torch.full((elements,), 1e-9), torch.zeros(elements)
    return lambda: cpu.stream(a, b, c), 20 * elements


def writable(folder: Path) -> None:
    """Make a folder for the results, before minutes are spent on them.

    Raises:
        BenchError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BenchError(f"--out {folder}: {error.strerror or error}; choose another folder") from None


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("model", nargs="?", default="vit_s16", help=f"{', '.join(MODELS)} (%(default)s)")
    command.add_argument("--optim", help="names, separated by commas (all; with --train: a few)")
    command.add_argument("--reference", help="whose time is 1 for all (default: AdamW with the same step as each)")
    command.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(%(default)s)")
    command.add_argument("--threads", type=int, help="of torch (default: as many as torch takes)")
    command.add_argument("--rounds", type=int, default=9, help="at most (%(default)s)")
    command.add_argument("--steps", type=int, default=3, help="of each contender in a round (%(default)s)")
    command.add_argument(
        "--seconds",
        type=float,
        default=80,
        help="time budget; no further round starts that would exceed it (%(default)s)",
    )
    command.add_argument("--train", action="store_true", help="whole training steps")
    command.add_argument("--batch-size", type=int, default=4, help="with --train (%(default)s)")
    command.add_argument("--out", type=Path, default=Path("outputs/bench"), help="folder to write to (%(default)s)")
    return command


def checked_names(options: argparse.Namespace) -> list[str]:
    """The names of the contenders, after a check of all options.

    Raises:
        BenchError: an option has a value that cannot be timed here.
    """
    if options.model not in MODELS:
        raise BenchError(f"no model {options.model}; there are {', '.join(MODELS)}")
    names = (options.optim or (TRAINED if options.train else ",".join(contender_names()))).split(",")
    names = [*([options.reference] if options.reference else []), *names]
    if unknown := [name for name in names if name not in contender_names()]:
        raise BenchError(f"no optimizer {unknown[0]}; there are {', '.join(contender_names())}")
    for option, least in (("rounds", 2), ("steps", 1), ("batch_size", 1), ("threads", 1)):
        value = getattr(options, option)
        if value is not None and value < least:
            raise BenchError(f"--{option.replace('_', '-')} must be at least {least}, not {value}")
    if not options.seconds > 0:
        raise BenchError(f"--seconds must be above 0, not {options.seconds:g}")
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BenchError("--device cuda: torch finds no GPU here")
        if options.train:
            raise BenchError("--device cuda times steps alone; scripts/maintenance/gpu_report.py trains on a GPU")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    options = parser().parse_args(arguments)
    try:
        names = checked_names(options)
        writable(options.out)
        against = {name: options.reference or LIKE[kind_of_step(name, options.device)] for name in names}
        against |= {name: options.reference or name for name in against.values()}
        names = list(dict.fromkeys([*against.values(), *names]))  # what others are divided by comes first
        import torch

        if options.threads:
            torch.set_num_threads(options.threads)
        rows, rounds = measure(options.model, names, against, options)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    import pandas as pd

    what = f"{options.model}, training steps of {options.batch_size}" if options.train else options.model
    place = f"{torch.get_num_threads()} threads" if options.device == "cpu" else torch.cuda.get_device_name()
    heading = f"{what}, float32, {place}, {rounds} rounds of {options.steps} steps"
    compared = options.reference or "AdamW with the same step"
    note = f"{heading}; ratio to {compared}; torch {torch.__version__}"
    print(f"{note}\n{table(rows, 'simple')}")
    path = options.out / f"{options.model}{'-train' if options.train else ''}"
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
    path.with_suffix(".md").write_text(f"{note}\n\n{table(rows, 'github')}\n")
    write_figure(rows, heading, path.with_suffix(".png"))
    print(f"{path}.csv, .md and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

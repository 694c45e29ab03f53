"""How fast an optimizer's step is, what it keeps, and how far it is from what the memory allows, all in one process.

    python scripts/bench.py                          # every Lion to be had and every baseline, ViT-S/16's tensors
    python scripts/bench.py vit_b16 --threads 2
    python scripts/bench.py many-small-tensors --optim lion,lion-bf16,timm,adamw-fused
    python scripts/bench.py vit_s16 --train          # within whole training steps: forward, backward, step

In each round every contender gets its turn, in an order that changes from round to round, so that the machine's moods
hit all alike. All step the same float32 weights with the same gradients; each has its own state. Times are medians over
rounds with quartiles.

Each row names its step: fused (one pass), foreach (lists of tensors), loop (tensor by tensor), or own, where another
library does not say. The ratio is to AdamW with the same step in the same round; to fused AdamW for an own step and for
what is no optimizer. --reference compares all with one.

GB/s counts what a step has to move at least (weights and state read and written, gradients read) and is held against an
in-place stream that is timed in the same rounds: three float32 arrays read, two written, by the same C library. Peak
memory is what a step allocates beside weights, gradients and state. Libraries that are missing are named:
pip install '.[recipes,bench]' gets them.

Writes <out>/<model>.csv, .md and .png. On the CPU.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

ROOT = Path(__file__).resolve().parent.parent
LR = 1e-9  # the weights stay where they are, however many steps
WARM = 2  # steps before any is timed: state is made, caches are warm
STREAM = "stream"
LIONS: dict[str, dict[str, Any]] = {  # ours
    "lion": {"fused": True},
    "lion-bf16": {"fused": True, "momentum_dtype": "bfloat16"},
    "lion-int8": {"fused": True, "momentum_dtype": "int8"},
    "lion-plain": {"fused": False},
    "lion-lists": {"fused": False, "foreach": True},
}
LIBRARIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {  # name: package, module, class, arguments
    "timm": ("timm", "timm.optim.lion", "Lion", {"foreach": False}),
    "timm-foreach": ("timm", "timm.optim.lion", "Lion", {"foreach": True}),
    "lion-pytorch": ("lion-pytorch", "lion_pytorch", "Lion", {}),
    "pytorch_optimizer": ("pytorch_optimizer", "pytorch_optimizer", "Lion", {}),
    "optimi": ("torch-optimi", "optimi", "Lion", {}),
    "bitsandbytes-32bit": ("bitsandbytes", "bitsandbytes.optim", "Lion32bit", {}),
    "bitsandbytes-8bit": ("bitsandbytes", "bitsandbytes.optim", "Lion8bit", {}),
    "adamw-fused": ("torch", "torch.optim", "AdamW", {"fused": True}),
    "adamw-foreach": ("torch", "torch.optim", "AdamW", {"foreach": True}),
}
LOOPS = ("lion-pytorch",)  # libraries that have no other step on the CPU
LIKE = {"fused": "adamw-fused", "foreach": "adamw-foreach", "loop": "adamw", "own": "adamw-fused"}  # by step
TRAINED = "lion,lion-bf16,lion-plain,adamw-fused,adamw,adafactor"  # by default with --train, where a step takes seconds
Shapes = list[tuple[int, ...]]


class BenchError(Exception):
    """A mistake of the user's, in one line."""


# What is stepped


def vit(width: int, depth: int = 12, classes: int = 1000) -> Shapes:
    """ViT with patches of 16 on images of 224 (Dosovitskiy et al. 2021, table 1), as timm has it."""
    block: Shapes = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    ends: Shapes = [(1, 1, width), (1, 197, width), (width, 3, 16, 16), (width,)]
    return [*ends, *block * depth, (width,), (width,), (classes, width), (classes,)]


def gpt2(width: int = 768, depth: int = 12) -> Shapes:
    """GPT-2 (Radford et al. 2019), the smallest, its head tied to the embedding."""
    block: Shapes = [(width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(50257, width), (1024, width), *block * depth, (width,), (width,)]


MODELS: dict[str, Callable[[], Shapes]] = {
    "vit_s16": lambda: vit(384),
    "vit_b16": lambda: vit(768),
    "gpt2_124m": gpt2,
    "many-small-tensors": lambda: [(1000,)] * 2000,
    "one-large-tensor": lambda: [(20_000_000,)],
}


def training(model: str, batch_size: int) -> tuple[list[Any], Callable[[], None]]:
    """The parameters of a model, and what computes their gradients on a random batch."""
    import torch

    torch.manual_seed(0)
    if model.startswith("vit"):
        import timm

        names = {"vit_s16": "vit_small_patch16_224", "vit_b16": "vit_base_patch16_224"}
        network = timm.create_model(names[model])
        batch = {"x": torch.randn(batch_size, 3, 224, 224)}
        loss = lambda: network(**batch).logsumexp(1).mean()  # noqa: E731
    elif model == "gpt2_124m":
        from transformers import GPT2Config, GPT2LMHeadModel

        network = GPT2LMHeadModel(GPT2Config())
        tokens = torch.randint(50257, (batch_size, 256))
        loss = lambda: network(input_ids=tokens, labels=tokens).loss  # noqa: E731
    else:
        raise BenchError(f"{model} cannot be trained: --train takes vit_s16, vit_b16 or gpt2_124m")

    def gradients() -> None:
        for p in network.parameters():
            p.grad = None
        loss().backward()

    return list(network.parameters()), gradients


# Who steps it


def known() -> list[str]:
    """Every contender's name: our Lions, those of others, the baselines of conf/optim."""
    configured = sorted(path.stem for path in (ROOT / "conf/optim").glob("*.yaml"))
    return [*LIONS, *LIBRARIES, *(name for name in configured if name != "lion")]


def kind_of_step(name: str) -> str:
    """fused, foreach, loop or own: how a contender goes over the tensors, on the CPU."""
    from omegaconf import OmegaConf

    from lion.kernels import cpu

    options: dict[str, Any]
    if name in LIBRARIES:
        options = LIBRARIES[name][-1]
        if not {"fused", "foreach"} & options.keys():
            return "loop" if name in LOOPS else "own"
    elif name in LIONS:
        options = LIONS[name] | ({"fused": False} if isinstance(cpu.library(), str) else {})
    else:  # torch and timm take the loop on the CPU unless told otherwise, and so do our baselines
        options = dict(OmegaConf.load(ROOT / f"conf/optim/{name}.yaml"))
        if str(options["_target_"]) == "lion.Lion":
            options = {"fused": not isinstance(cpu.library(), str)} | options
    return next((kind for kind in ("fused", "foreach") if options.get(kind)), "loop")


def contender(name: str, params: list[Any]) -> Any:
    """An optimizer over the parameters.

    Raises:
        PackageNotFoundError: its library is not installed.
    """
    import importlib

    given: dict[str, Any] = {"lr": LR, "weight_decay": 0.1}
    if name in LIONS:
        from lion import Lion

        return Lion(params, **given, **LIONS[name])
    if name in LIBRARIES:
        package, module, kind, options = LIBRARIES[name]
        version(package)
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that no optimizer uses
        return getattr(importlib.import_module(module), kind)(params, **given, **options)
    from omegaconf import OmegaConf

    from recipes.runs import build

    described: Any = OmegaConf.load(ROOT / f"conf/optim/{name}.yaml")
    described.lr = LR
    return build.optimizer_factory(described)([{"params": params, "weight_decay": described.weight_decay}])


def state_tensors(optimizer: Any) -> Iterator[Any]:
    """Tensors of the state, shared ones once, step counters left out."""
    import torch

    seen = set()
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.ndim and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                yield value


# Measuring


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


def in_turn(slots: dict[str, Callable[[], float]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Call each slot once a round for its time, in an order that changes, for `rounds` or until time is up."""
    names = list(slots)
    taken: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            taken[name].append(slots[name]())
        if number >= 2 and (time.perf_counter() - start) * (number + 2) / (number + 1) > seconds:
            break
    return taken


def slot(step: Callable[[], Any], steps: int, before: Callable[[], None] | None) -> Callable[[], float]:
    """Seconds a step: after an untimed one, or each after what makes its gradients, which is timed too."""

    def timed() -> float:
        if before is None:
            step()
        start = time.perf_counter()
        for _ in range(steps):
            if before is not None:
                before()
            step()
        return (time.perf_counter() - start) / steps

    return timed


def affordable(names: list[str], state: int, chosen: bool) -> list[str]:
    """The first so many names for whose states the memory is enough; all of them, where the user chose them.

    Raises:
        BenchError: there is not enough for the chosen ones, or for two.
    """
    room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
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

    before: Callable[[], None] | None = None
    if options.train:
        params, before = training(model, options.batch_size)
        before()
    else:
        random = torch.Generator().manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in MODELS[model]()]
        for p in params:
            p.grad = torch.randn(p.shape, generator=random)
    elements = sum(p.numel() for p in params)
    names = affordable(names, 8 * elements, options.optim is not None)
    slots: dict[str, Callable[[], float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        rows[name] = {"optimizer": name, "step": kind_of_step(name)}
        try:
            optimizer = contender(name, params)
            for _ in range(WARM):
                optimizer.step()
        except PackageNotFoundError as missing:
            rows[name]["note"] = f"{missing.name} is not installed"
            continue
        except Exception as error:  # another's library, in whatever state
            rows[name]["note"] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
            continue
        state = sum(t.nbytes for t in state_tensors(optimizer))
        rows[name] |= {"state_mb": state / 1e6, "bytes_per_parameter": state / elements}
        rows[name] |= {"peak_mb": allocated(optimizer.step) / 1e6, "moved": 12 * elements + 2 * state}
        slots[name] = slot(optimizer.step, options.steps, before)
    for reference in dict.fromkeys(against[name] for name in slots):
        if reference not in slots:
            reason = rows[reference]["note"] if reference in rows else "the memory is too small for it"
            raise BenchError(f"the reference {reference} did not run: {reason}")
    if before is not None:
        slots["forward and backward"] = slot(lambda: None, options.steps, before)
    elif (stream := _stream(elements)) is not None:
        slots[STREAM] = slot(stream, options.steps, None)
        rows[STREAM] = {"optimizer": STREAM, "moved": 20 * elements}
    taken = in_turn(slots, options.rounds, options.seconds)
    for name, seconds in taken.items():
        row = rows.setdefault(name, {"optimizer": name})
        low, middle, high = statistics.quantiles([1e3 * s for s in seconds], n=4, method="inclusive")
        row |= {"ms": middle, "ms_low": low, "ms_high": high}
        if (reference := against.get(name, options.reference or LIKE["fused"])) in taken:
            ratios = [ours / theirs for ours, theirs in zip(seconds, taken[reference], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            row |= {"against": reference, "ratio": middle, "ratio_low": low, "ratio_high": high}
        if before is None:
            row["gb_per_s"] = row["moved"] / statistics.median(seconds) / 1e9
            if STREAM in taken:  # in the same round, as the ratio: a machine's bandwidth changes by the minute
                shares = [theirs / ours for ours, theirs in zip(seconds, taken[STREAM], strict=True)]
                row["of_stream"] = statistics.median(shares) * row["moved"] / (20 * elements)
    order = sorted(rows.values(), key=lambda row: row.get("ms", float("inf")))
    return [{k: v for k, v in row.items() if k != "moved"} for row in order], min(map(len, taken.values()))


def _stream(elements: int) -> Callable[[], None] | None:
    """The in-place stream over as many elements, or None where the C library cannot be had."""
    import torch

    from lion.kernels import cpu

    if isinstance(cpu.library(), str):
        return None
    a, b, c = torch.zeros(elements), torch.full((elements,), 1e-9), torch.zeros(elements)
    return lambda: cpu.stream(a, b, c)


# Telling


HEADERS = {
    "optimizer": "optimizer",
    "step": "step",
    "ms": "ms a step",
    "quartiles": "quartiles",
    "against": "against",
    "ratio": "ratio",
    "ratio_quartiles": "quartiles ",
    "gb_per_s": "GB/s",
    "of_stream": "of stream",
    "state_mb": "state, MB",
    "bytes_per_parameter": "bytes/param",
    "peak_mb": "peak, MB",
    "note": "",
}


def table(rows: list[dict[str, Any]], style: str) -> str:
    """The figures as text, empty columns left out."""
    from tabulate import tabulate

    digits = {"ms": 2, "ratio": 3, "gb_per_s": 1, "of_stream": 2, "state_mb": 2, "bytes_per_parameter": 3, "peak_mb": 2}
    told = []
    for row in rows:
        line = {k: f"{row[k]:.{n}f}" for k, n in digits.items() if row.get(k) is not None}
        line |= {name: row.get(name, "") for name in ("optimizer", "step", "against", "note")}
        if "ms" in row:
            line["quartiles"] = f"{row['ms_low']:.2f} to {row['ms_high']:.2f}"
        if "ratio" in row:
            line["ratio_quartiles"] = f"{row['ratio_low']:.3f} to {row['ratio_high']:.3f}"
        told.append(line)
    used = [column for column in HEADERS if any(line.get(column) for line in told)]
    cells = [[line.get(column, "") for column in used] for line in told]
    right = ["left" if column in ("optimizer", "step", "against", "note") else "right" for column in used]
    return tabulate(cells, [HEADERS[c] for c in used], tablefmt=style, disable_numparse=True, colalign=right)


def picture(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Bars of the median time with the quartiles, and the stream's time as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    timed = [row for row in rows if "ms" in row and row["optimizer"] != STREAM][::-1]
    names, middle = [row["optimizer"] for row in timed], [row["ms"] for row in timed]
    spread = [[row["ms"] - row["ms_low"] for row in timed], [row["ms_high"] - row["ms"] for row in timed]]
    colours = ["C1" if name in LIONS else "C0" if "adamw" in name else "0.7" for name in names]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.28 * len(timed)), layout="constrained")
    axes.barh(names, middle, xerr=spread, color=colours, ecolor="0.3")
    for row in rows:
        if row["optimizer"] == STREAM:
            axes.axvline(row["ms"], color="k", linestyle=":", label="in-place stream of Lion's float32 traffic")
            axes.legend(loc="lower right")
    if max(middle) > 20 * min(middle):
        axes.set_xscale("log")
    axes.set(xlabel="milliseconds a step (median, quartiles)", title=title)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


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


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="vit_s16", help=f"{', '.join(MODELS)} (%(default)s)")
    parser.add_argument("--optim", help="names, separated by commas (all; with --train: a few)")
    parser.add_argument("--reference", help="whose time is 1 for all (default: AdamW with the same step as each)")
    parser.add_argument("--threads", type=int, help="of torch (default: as many as torch takes)")
    parser.add_argument("--rounds", type=int, default=9, help="at most (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of each contender in a round (%(default)s)")
    parser.add_argument("--seconds", type=float, default=80, help="no round begins that would end later (%(default)s)")
    parser.add_argument("--train", action="store_true", help="whole training steps")
    parser.add_argument("--batch-size", type=int, default=4, help="with --train (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"), help="folder to write to (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        if options.model not in MODELS:
            raise BenchError(f"no model {options.model}; there are {', '.join(MODELS)}")
        names = (options.optim or (TRAINED if options.train else ",".join(known()))).split(",")
        names = [*([options.reference] if options.reference else []), *names]
        if unknown := [name for name in names if name not in known()]:
            raise BenchError(f"no optimizer {unknown[0]}; there are {', '.join(known())}")
        for option, least in (("rounds", 2), ("steps", 1), ("batch_size", 1), ("threads", 1)):
            value = getattr(options, option)
            if value is not None and value < least:
                raise BenchError(f"--{option.replace('_', '-')} must be at least {least}, not {value}")
        if not options.seconds > 0:
            raise BenchError(f"--seconds must be above 0, not {options.seconds:g}")
        writable(options.out)
        against = {name: options.reference or LIKE[kind_of_step(name)] for name in names}
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
    heading = f"{what}, float32, {torch.get_num_threads()} threads, {rounds} rounds of {options.steps} steps"
    compared = options.reference or "AdamW with the same step"
    note = f"{heading}; ratio to {compared}; torch {torch.__version__}"
    print(f"{note}\n{table(rows, 'simple')}")
    path = options.out / f"{options.model}{'-train' if options.train else ''}"
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
    path.with_suffix(".md").write_text(f"{note}\n\n{table(rows, 'github')}\n")
    picture(rows, heading, path.with_suffix(".png"))
    print(f"{path}.csv, .md and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare steps per second of several optimizers, timed in turn in one process.

    python scripts/speed.py task=vit_b16
    python scripts/speed.py task=vit_b16 optim=lion,adamw --rounds 31 --out reports/published/speed
    python scripts/speed.py task=lit_b16_b --against model.args.cache_features=false

Every optimizer trains its own copy of the same model on the same batches. A round gives each, in an order that changes
from round to round, a block of steps; what is reported is the median over rounds of its speed over the reference's in
the same round, with the quartiles. Writes <out>/<task>.speed.json, which the tables read.

Each row names its kind of step (fused: one pass over memory; foreach: operations on lists of tensors; loop: tensor by
tensor), detected from the operations that run, and is compared with the reference's step of the same kind. Lion and
AdamW are timed fused, their fastest, and in plain PyTorch. "step, ms" is the step alone, without clipping and averaging
of weights.

With --against, two settings of one optimizer are timed instead, and nothing is written.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

from reports.protocol import REFERENCE, SUBJECT
from scripts.benchmark.round_robin import quartiles, ratios, round_robin
from scripts.tune import ALL

if TYPE_CHECKING:
    from recipes.minimal_loop import MinimalLoop

FUSED = (REFERENCE, SUBJECT)  # also timed with their fused step
KINDS = {  # what asks torch's optimizers and Lion for a kind of step
    "fused": ["++optim.fused=true"],
    "foreach": ["++optim.fused=false", "++optim.foreach=true"],
    "loop": ["++optim.fused=false", "++optim.foreach=false"],
}
Figures = dict[str, float | str | None]


def measure(
    contenders: "Mapping[str, MinimalLoop]", against: Mapping[str, str], rounds: int, block: int
) -> dict[str, Figures]:
    """Time all in turn.

    Args:
        contenders: by their names.
        against: the contender with which each is compared; those that it lacks are not compared.
        rounds: each has a block of every contender's steps.
        block: steps in a row.
    """
    from recipes.minimal_loop import Rounds

    for contender in contenders.values():
        contender.steps(block)  # creates the state and warms up caches
    timings = round_robin(
        {name: partial(contender.steps, block) for name, contender in contenders.items()},
        rounds,
        progress=Rounds(rounds).done,
    )
    seconds = {name: [total for total, _ in timed] for name, timed in timings.items()}
    figures: dict[str, Figures] = {}
    for name, contender in contenders.items():
        figures[name] = {"against": against.get(name), "ratio": None, "low": None, "high": None}
        if name in against:
            low, median, high = quartiles(ratios(seconds[against[name]], seconds[name]))
            figures[name] |= {"ratio": round(median, 4), "low": round(low, 4), "high": round(high, 4)}
        figures[name] |= {
            "steps_per_second": round(block / statistics.median(seconds[name]), 2),
            "optimizer_step_ms": round(1e3 * statistics.median(step for _, step in timings[name]), 4),
            "state_bytes": contender.state_bytes(),
        }
    return figures


def by_kind(
    names: list[str], overrides: list[str], reference: str, cfg: Any
) -> "tuple[dict[str, MinimalLoop], dict[str, str]]":
    """Each optimizer by its name and kind of step, and the contender with which each is compared.

    Raises:
        ConfigError: a setting is none.
    """
    from recipes.minimal_loop import MinimalLoop, device_of
    from recipes.settings import schema

    device = device_of(cfg)
    contenders: dict[str, MinimalLoop] = {}

    def add(name: str, more: list[str]) -> None:
        made = MinimalLoop(schema.composed([*overrides, f"optim={name}", *more]), device)
        made.steps(1)
        contenders.setdefault(f"{name} ({made.step_kind()})", made)  # a kernel that is not there gives a plain step

    for name in dict.fromkeys([reference, *names]):
        if name in FUSED:
            add(name, KINDS["fused"])
            add(name, ["++optim.fused=false"])
        else:
            add(name, [])
    kinds = {label: label.rpartition(" (")[2].removesuffix(")") for label in contenders}
    for kind in dict.fromkeys(kinds.values()):
        if reference in FUSED and f"{reference} ({kind})" not in contenders:
            add(reference, KINDS[kind])
    against = {label: f"{reference} ({kind})" for label, kind in kinds.items()}
    against |= {label: label for label in contenders if label not in kinds}
    return contenders, {label: other for label, other in against.items() if other in contenders}


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--rounds", type=int, default=31)
    command.add_argument("--block", type=int, default=10, help="steps of each optimizer in a round (%(default)s)")
    command.add_argument("--reference", default=REFERENCE, help="whose speed is 1 (%(default)s)")
    command.add_argument("--against", help="compare the run with the same run under these overrides")
    command.add_argument("--out", type=Path, default=Path("outputs/speed"), help="folder to write to (%(default)s)")
    command.add_argument("overrides", nargs="*", help="as for run.py: task=vit_b16 optim=lion,adamw ...")
    return command


def main(arguments: list[str] | None = None) -> int:
    """Compose the configs, time, print and write."""
    command = parser()
    options = command.parse_intermixed_args(arguments)
    if options.rounds < 2 or options.block < 1:
        command.error("--rounds must be at least 2 and --block at least 1")

    from recipes.runs import cli

    try:
        result = timed(options)
    except Exception as error:
        if (line := cli.user_message(error)) is None:
            raise
        print(*(f"error: {text}" for text in line.splitlines()), sep="\n", file=sys.stderr)
        return 2
    show(result, "optimizer" if options.against is None else "")
    return 0 if options.against is not None else write(result, options.out)


def timed(options: argparse.Namespace) -> dict[str, Any]:
    """Compose the configs and time them: what the file of timings holds.

    Raises:
        ConfigError: a setting is none.
    """
    import torch

    from recipes.minimal_loop import MinimalLoop, device_of
    from recipes.runs.summary import versions
    from recipes.settings import command_line, schema

    choice = next((text for text in options.overrides if text.startswith("optim=")), f"optim={ALL}")
    names = (ALL if choice == "optim=all" else choice.removeprefix("optim=")).split(",")
    rest = [text for text in options.overrides if text != choice]
    command_line.check([*rest, f"optim={names[0]}"])
    first = schema.composed([*rest, f"optim={options.reference}"] if options.against is None else options.overrides)
    device = device_of(first)
    if first.scale.threads:
        torch.set_num_threads(first.scale.threads)
    if options.against is None:
        contenders, against = by_kind(names, rest, options.reference, first)
    else:
        other = schema.composed([*options.overrides, *options.against.split()])
        contenders = {options.against: MinimalLoop(other, device), "as given": MinimalLoop(first, device)}
        against = dict.fromkeys(contenders, options.against)
    figures = measure(contenders, against, options.rounds, options.block)
    return {
        "task": first.task.name,
        "scale": first.scale.name,
        "model": first.model.name,
        "batch_size": first.batch_size,
        "threads": torch.get_num_threads(),
        "device": str(device),
        "reference": options.reference,
        "rounds": options.rounds,
        "block": options.block,
        "trained_parameters": next(iter(contenders.values())).trained_parameters(),
        "processor": processor(),
        "versions": versions(),
        "optimizers": figures,
    }


def show(result: dict[str, Any], heading: str) -> None:
    """Print a row for each contender."""
    from reports.number_format import columns, laid_out

    print(
        f"{result['task']} at scale {result['scale']}, batch {result['batch_size']}, "
        f"{result['rounds']} rounds of {result['block']} steps"
    )
    rows = [
        {
            heading: name,
            "steps/s": f"{f['steps_per_second']:.1f}",
            "ratio": "-" if f["ratio"] is None else f"{f['ratio']:.3f}",
            "quartiles": "-" if f["ratio"] is None else f"{f['low']:.3f} to {f['high']:.3f}",
            "step, ms": f"{f['optimizer_step_ms']:.2f}",
            "state, MB": f"{float(f['state_bytes'] or 0) / 1e6:.2f}",
        }
        for name, f in result["optimizers"].items()
    ]
    print("\n".join(laid_out(rows, columns())))


def write(result: dict[str, Any], folder: Path) -> int:
    """Write <task>.speed.json; returns the exit status."""
    from recipes.files import write_json

    path = folder / f"{result['task']}.speed.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
    except OSError as error:
        print(f"error: cannot write to {folder}: {error.strerror}; the figures stand above", file=sys.stderr)
        return 1
    print(path)
    return 0


def processor() -> str:
    """The processor's name, as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

"""Steps per second of several optimizers, timed in turn in one process, so that the machine's moods hit all alike.

    python scripts/speed.py task=vit_b16
    python scripts/speed.py task=vit_b16 optim=lion,adamw --rounds 31 --out reports/published/speed
    python scripts/speed.py task=lit_b16_b --against model.args.cache_features=false

Every optimizer trains its own copy of the same model on the same batches. A round gives each, in an order that changes
from round to round, a block of steps; what is reported is the median over rounds of its speed over the reference's in
the same round, with the quartiles. Writes <out>/<task>.speed.json, which the tables read.

Lion and AdamW have a fused step each; like is held against like: rows by an optimizer's name are plain PyTorch steps,
"lion (fused)" and "adamw (fused)" stand beside them.

With --against, two settings of one optimizer are timed instead, and nothing is written.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipes.bare import BareLoop

ALL = "adamw,lion,adafactor,radam,nadam,adabelief,amsgrad,adamw (fused),lion (fused)"
OPTIONS = {
    "lion": ["optim=lion", "+optim.fused=false"],
    "lion (fused)": ["optim=lion", "+optim.fused=true"],
    "adamw (fused)": ["optim=adamw", "+optim.fused=true"],
}


def measure(contenders: dict[str, "BareLoop"], reference: str, rounds: int, block: int) -> dict[str, dict[str, float]]:
    """Time all in turn."""
    names = list(contenders)
    for contender in contenders.values():
        contender.steps(block)  # state is made and caches are warm
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            taken[name].append(contenders[name].steps(block))
    found = {}
    for name, contender in contenders.items():
        ratios = [theirs[0] / ours[0] for ours, theirs in zip(taken[name], taken[reference], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        found[name] = {
            "ratio": round(median, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "steps_per_second": round(block / statistics.median(total for total, _ in taken[name]), 2),
            "optimizer_step_ms": round(1e3 * statistics.median(inside for _, inside in taken[name]) / block, 4),
            "state_bytes": contender.state_bytes(),
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Compose the configs, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--block", type=int, default=10, help="steps of each optimizer in a round (%(default)s)")
    parser.add_argument("--reference", default="adamw", help="whose speed is 1 (%(default)s)")
    parser.add_argument("--against", help="hold the run as given against the same with these overrides")
    parser.add_argument("--out", type=Path, default=Path("outputs/speed"), help="folder to write to (%(default)s)")
    parser.add_argument("overrides", nargs="*", help="as for run.py: task=vit_b16 optim=lion,adamw ...")
    options = parser.parse_intermixed_args(arguments)
    if options.rounds < 2 or options.block < 1:
        parser.error("--rounds must be at least 2 and --block at least 1")

    from recipes import cli, config
    from recipes.bare import BareLoop
    from recipes.experiment import versions
    from recipes.files import write_json

    given = next((text for text in options.overrides if text.startswith("optim=")), f"optim={ALL}")
    names = (ALL if given == "optim=all" else given.removeprefix("optim=")).split(",")
    rest = [text for text in options.overrides if text != given]
    reference = options.against or options.reference
    chosen = {n: [*rest, *OPTIONS.get(n, [f"optim={n}"])] for n in (reference, *(n for n in names if n != reference))}
    if options.against is not None:
        chosen = {reference: [*options.overrides, *reference.split()], "as given": options.overrides}
    try:
        configs = {name: config.composed(overrides) for name, overrides in chosen.items()}
        first = configs[reference]
        import torch

        if first.scale.threads:
            torch.set_num_threads(first.scale.threads)
        found = measure({n: BareLoop(cfg) for n, cfg in configs.items()}, reference, options.rounds, options.block)
    except Exception as error:
        if (line := cli.mistake(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2
    result = {
        "task": first.task.name,
        "scale": first.scale.name,
        "model": first.model.name,
        "batch_size": first.batch_size,
        "threads": torch.get_num_threads(),
        "reference": reference,
        "rounds": options.rounds,
        "block": options.block,
        "processor": processor(),
        "versions": versions(),
        "optimizers": found,
    }
    print(
        f"{result['task']} at scale {result['scale']}, batch {result['batch_size']}, "
        f"{options.rounds} rounds of {options.block} steps"
    )
    wide = max(15, *(len(name) + 1 for name in found))
    heading = "optimizer" if options.against is None else ""
    print(f"{heading:<{wide}}{'steps/s':>9}{'ratio':>8}{'quartiles':>18}{'step, ms':>10}{'state, MB':>11}")
    for name, f in found.items():
        quartiles = f"{f['low']:.3f} to {f['high']:.3f}"
        print(
            f"{name:<{wide}}{f['steps_per_second']:>9.1f}{f['ratio']:>8.3f}{quartiles:>18}"
            f"{f['optimizer_step_ms']:>10.2f}{f['state_bytes'] / 1e6:>11.2f}"
        )
    if options.against is not None:
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"{first.task.name}.speed.json", result)
    print(options.out / f"{first.task.name}.speed.json")
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
    sys.exit(main())

"""Measure this machine's GPU and write reports/published/gpu: report.json and README.md. `make test-gpu` calls it.

    python scripts/maintenance/gpu_report.py                     # some five minutes on one GPU
    python scripts/maintenance/gpu_report.py --out outputs/gpu   # elsewhere
    python scripts/maintenance/gpu_report.py --device cpu --small --out outputs/gpu   # whether it works, in a minute

Optimizer steps on the tensors of ViT-B/16 and GPT-2, with fused AdamW, other libraries' Lions and the device's copy for
comparison; training steps of both models at the paper's size on synthetic images and tokens, with their share of the
device's peak FLOP/s; and the suite's speed as a share of a minimal loop's. Without a GPU it writes nothing.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

OUT = Path(__file__).resolve().parents[2] / "reports" / "published" / "gpu"
OPTIMIZERS = (
    "lion,lion-bf16,lion-plain,lion-lists,adamw-fused,adamw-foreach,timm-foreach,pytorch_optimizer,lion-pytorch"
)
TRAINED = {"gpt2_124m": ["task=gpt2_124m", "scale=gpu"], "vit_b16": ["task=vit_b16", "scale=paper"]}
BATCH = {"gpt2_124m": 16, "vit_b16": 128}
LOOPS = ("vit_b16", "gpt2_small", "resnet50")  # embedded tasks
NOT_MEASURED = """\
# One GPU

Not measured: no machine with a GPU has run `make test-gpu` on this version yet. It writes this page and report.json.
"""


def measured(device: Any, small: bool) -> dict[str, Any]:
    """All figures; `small`: sizes and numbers of steps that a processor manages in a minute."""
    from recipes.settings import schema
    from scripts import bench
    from scripts.benchmark import device as measuring

    report = measuring.described(device) | {"small": small}
    report["copy"] = measuring.copy_bandwidth(device, 10**6 if small else 2 * 10**8)
    options = argparse.Namespace(train=False, device=device.type, reference="adamw-fused", optim=OPTIMIZERS)
    options.steps, options.rounds, options.seconds = (1, 3, 10) if small else (10, 9, 40)
    names = OPTIMIZERS.split(",")
    names.sort(key=lambda name: name != options.reference)  # what others are divided by comes first
    against = dict.fromkeys(names, options.reference)
    models = ["many-small-tensors"] if small else list(TRAINED)
    report["optimizer_steps"] = {model: bench.measure(model, names, against, options)[0] for model in models}
    settings = {"vit_b16": ["task=vit_b16"]} if small else TRAINED
    report["training"] = {
        name: [
            measuring.training_speed(
                schema.composed([*overrides, f"optim={optim}", "dry_run=true"]),
                device,
                8 if small else BATCH[name],
                2 if small else 30,
            )
            for optim in ("lion", "adamw")
        ]
        for name, overrides in settings.items()
    }
    rounds, block = (3, 5) if small else (15, 50)
    steps = (rounds + 1) * block + 1
    fixed = [f"steps={steps}", f"eval_every={steps}", f"checkpoint_every={steps}", "tracker=none", "optim=lion"]
    fixed += ["device=cpu"] if device.type == "cpu" else []
    tasks = LOOPS[:1] if small else LOOPS
    report["loop"] = [measuring.loop_share(schema.composed([f"task={task}", *fixed]), rounds, block) for task in tasks]
    return report


def page(report: dict[str, Any]) -> str:
    """The figures as Markdown."""
    from tabulate import tabulate

    from scripts.benchmark.tables import table

    versions = ", ".join(f"{name} {report[name]}" for name in ("torch", "python", "cuda", "triton") if name in report)
    copied = report["copy"]["bytes_per_second"] / 1e9
    lines = ["# One GPU", "", f"{report['device']}, {versions}. It copies {copied:,.0f} GB/s, read and written.", ""]
    lines += ["Written by `make test-gpu`; report.json has the figures.", ""]
    for model, rows in report["optimizer_steps"].items():
        lines += [f"## Optimizer steps on the tensors of {model}", "", "Ratio to fused AdamW; stream: the copy.", ""]
        lines += [table(rows, "github"), ""]
    speeds = []
    for name, runs in report["training"].items():
        for run in runs:
            share = f"{run['share_of_peak']:.1%}" if "share_of_peak" in run else "unknown"
            pace = f"{run['steps_per_second']:.3g}", f"{run['flops_per_second'] / 1e12:.3g}"
            speeds.append([name, run["optimizer"], run["batch"], *pace, share])
    headers = ["model", "optimizer", "batch", "steps/s", "TFLOP/s", "of the peak"]
    lines += ["## Training steps on made-up data", "", tabulate(speeds, headers, "github", disable_numparse=True), ""]
    kept = [[r["task"], f"{r['kept']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}"] for r in report["loop"]]
    headers = ["task", "of a minimal loop's speed", "quartiles"]
    lines += ["## The suite's loop", "", tabulate(kept, headers, "github", disable_numparse=True), ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(%(default)s)")
    parser.add_argument("--small", action="store_true", help="small sizes, to see whether it works")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to (%(default)s)")
    options = parser.parse_args(arguments)
    import torch

    if options.device == "cpu" and options.out == OUT:
        parser.error("--device cpu: the published report is of a GPU; choose another folder with --out")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing is measured and nothing written")
        return 0
    from recipes.files import write_json, write_text

    report = measured(torch.device(options.device), options.small)
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "report.json", report)
    write_text(options.out / "README.md", page(report))
    print(f"{options.out}/README.md and report.json")
    return 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

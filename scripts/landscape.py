"""Training loss under Gaussian noise on the weights (Lion paper, Table 10), of the runs that a comparison chose.

    python scripts/landscape.py outputs --task vit_b16
    python scripts/landscape.py outputs --task vit_b16 --noise 0.01,0.02 --repeats 100 --out reports/published/landscape

Each optimizer's chosen setting is taken as in the tables; every fresh seed of it with a checkpoint is measured: the
mean loss over training images without augmentation, at the weights and as a mean over perturbed ones, the same draws
for every run. The paper does not print its standard deviation, so several are measured; and since noise of one size
means less to large weights than to small ones, noise relative to each tensor's root mean square is measured too.
`bound` is the largest decayed weight times λ. Writes <out>/<task>.landscape.json.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

from reports.protocol import REFERENCE, SUBJECT

RELATIVE = 10.0  # relative levels: weights of these models are about a tenth in size


def perturbed_loss(
    model: Any, loss: Callable[[], float], noise: float, repeats: int, *, relative: bool = False, seed: int = 0
) -> float:
    """Return the mean of `loss()` over `repeats` draws of noise N(0, noise²) added to every parameter.

    `relative` noise is in units of each parameter tensor's own root mean square.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())
    kept = [p.detach().clone() for p in parameters]
    sizes = [noise * float(value.square().mean().sqrt()) if relative else noise for value in kept]
    total = 0.0
    with torch.no_grad():
        for _ in range(repeats):
            for p, value, size in zip(parameters, kept, sizes, strict=True):
                p.copy_(value + size * torch.randn(value.shape, generator=generator).to(value))
            total += loss()
        for p, value in zip(parameters, kept, strict=True):
            p.copy_(value)
    return total / repeats


def bound(model: Any, rule: str, weight_decay: float) -> float:
    """Return the largest decayed weight times λ: at most 1 where the weights stay within 1/λ."""
    from recipes.training.param_groups import parameter_groups

    groups = parameter_groups(model, rule, weight_decay)
    return max(
        (float(p.detach().abs().max()) * weight_decay for g in groups if g["weight_decay"] for p in g["params"]),
        default=0.0,
    )


def measure(folder: Path, noises: Sequence[float], repeats: int, examples: int) -> list[dict[str, Any]]:
    """Measure one run; a row a noise level."""
    import torch
    from omegaconf import OmegaConf

    from recipes import protocol
    from recipes.runs import prerequisite
    from recipes.training.checkpoint import load_weights
    from recipes.training.execution.device_layout import Placement

    cfg: Any = prerequisite.resolved(OmegaConf.load(folder / "config.yaml"))  # type: ignore[arg-type]
    cfg.augment = {"name": "none", "shift": 0, "flip": False, "randaugment": None, "mixup": 0.0}
    the_recipe = protocol.make(cfg)
    model = the_recipe.model().eval()
    model.load_state_dict(load_weights(folder))
    train = the_recipe.examples()["train"]
    keys = [(number, number * len(train) // examples) for number in range(min(examples, len(train)))]
    batch = Placement(torch.device("cpu"))(train.__getitems__(keys))

    def loss() -> float:
        with torch.no_grad():
            return float(the_recipe.loss(model, batch)["loss"])

    about = {"task": cfg.task.name, "optim": cfg.optim.name, "seed": cfg.seed, "run_id": folder.name, "loss": loss()}
    about["bound"] = bound(model, cfg.decay, cfg.optim.weight_decay)
    rows = []
    for relative, levels in ((False, noises), (True, [RELATIVE * noise for noise in noises])):
        for noise in levels:
            perturbed = perturbed_loss(model, loss, noise, repeats, relative=relative)
            rows.append({**about, "noise": noise, "relative": relative, "perturbed_loss": perturbed})
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Choose the runs, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="where runs were written")
    parser.add_argument("--task", required=True)
    parser.add_argument("--optim", default=f"{REFERENCE},{SUBJECT}", help="optimizers, with commas (%(default)s)")
    parser.add_argument("--noise", default="0.01,0.02,0.05", help="standard deviations, with commas (%(default)s)")
    parser.add_argument("--repeats", type=int, default=50, help="draws of the noise (%(default)s)")
    parser.add_argument("--examples", type=int, default=500, help="training examples (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/landscape"), help="folder to write to (%(default)s)")
    options = parser.parse_intermixed_args(arguments)
    try:
        noises = [float(text) for text in options.noise.split(",")]
    except ValueError:
        parser.error(f"--noise {options.noise}: expected numbers with commas between them")
    if options.repeats < 1 or options.examples < 1 or min(noises) <= 0:
        parser.error("--repeats and --examples must be at least 1, --noise above 0")

    from recipes.errors import ConfigError
    from recipes.files import write_json
    from reports.claims.evidence import main_kind
    from reports.records.reader import read_records
    from reports.tables.comparison import build_tables
    from reports.tables.paper_comparison import main_table

    table = main_table(build_tables(read_records(options.folders).runs, REFERENCE), options.task)
    if table is None:
        print(f"landscape.py: no runs of task {options.task}", file=sys.stderr)
        return 2
    file = options.out / f"{options.task}.landscape.json"
    contenders = {name: main_kind(table, name) for name in options.optim.split(",")}
    if absent := [name for name, contender in contenders.items() if contender is None]:
        present = ", ".join(contender.label for contender in table.comparison.contenders)
        print(f"landscape.py: no runs of {', '.join(absent)} on {options.task}; there are {present}", file=sys.stderr)
        return 2
    paths = [path for contender in contenders.values() if contender for path in contender.at_choice()["path"]]
    rows: list[dict[str, Any]] = []
    for path in map(Path, paths):
        try:
            rows += measure(path, noises, options.repeats, options.examples)
        except (ConfigError, OSError, RuntimeError) as error:
            print(f"landscape.py: {path}: {str(error).splitlines()[0]}: left out", file=sys.stderr)
            continue
        options.out.mkdir(parents=True, exist_ok=True)  # a run takes minutes: write each result at once
        write_json(file, {"task": options.task, "repeats": options.repeats, "examples": options.examples, "rows": rows})
        last = rows[-2 * len(noises) :]
        levels = [f"{row['perturbed_loss']:.3f} at {row['noise']:g}{' rms' * row['relative']}" for row in last]
        losses = ", ".join(levels)
        name = f"{last[0]['optim']} seed {last[0]['seed']}"
        print(f"{name}: loss {last[0]['loss']:.4f}, {losses}; bound {last[0]['bound']:.2f}")
    if not rows:
        print(f"landscape.py: no chosen run of {options.optim} has a checkpoint", file=sys.stderr)
        return 2
    print(file)
    return 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

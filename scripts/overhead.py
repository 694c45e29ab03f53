"""How much of a bare PyTorch loop's speed the suite keeps, both in turn in one process.

    python scripts/overhead.py
    python scripts/overhead.py --rounds 9 --steps 200 task=resnet50 optim=adamw

Each round trains the same model on the same data with the same optimizer twice: through the suite (record, clocks,
schedule, seeding; no tracker) and through a loop of a dozen lines without any of it, in alternating order. Printed
are the median of the rounds' ratios, and the suite's own steps per second against a stopwatch outside of it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def bare(cfg: Any) -> float:
    """Steps per second of a plain loop: random batches from tensors in memory, forward, backward, step."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from recipes import build, checkpoint, recipe

    the_recipe = recipe.make(cfg)
    train = the_recipe.examples()["train"]
    torch.manual_seed(cfg.seed)
    model = the_recipe.model().train()
    if cfg.init_from is not None:
        the_recipe.initialise(model, checkpoint.load_weights(cfg.init_from))
    optimizer = build.optimizer_factory(cfg.optim)(build.parameter_groups(model, cfg.decay, cfg.optim.weight_decay))
    average = None
    if cfg.ema_decay is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(cfg.ema_decay), use_buffers=True)
    order = torch.randint(len(train), (cfg.steps, cfg.batch_size)).tolist()
    start = time.perf_counter()
    for step in range(cfg.steps):
        batch = train.__getitems__([(step * cfg.batch_size + i, index) for i, index in enumerate(order[step])])
        with torch.autocast("cpu", torch.bfloat16, enabled=cfg.precision == "bf16"):
            loss = the_recipe.loss(model, batch)["loss"]
        loss.backward()
        if cfg.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if average is not None:
            average.update_parameters(model)
    return float(cfg.steps / (time.perf_counter() - start))


def suite(cfg: Any, folder: Path) -> tuple[float, float]:
    """Steps per second of the suite's loop: by a stopwatch around its steps, and as its summary would say."""
    from recipes import build, devices, recipe, tracker
    from recipes.clock import Clock
    from recipes.loop import Trainer
    from recipes.outcome import Journal, Outcome
    from recipes.record import Record

    outcome, clock = Outcome(), Clock("startup")
    placed = cfg.copy()  # runs that the recipe needs are still looked for where the user said
    placed.output_dir = str(folder)
    record = Record(placed)
    journal = Journal(record, tracker.Silent())
    accelerator = devices.start(cfg)
    trainer = Trainer(
        cfg, recipe.make(cfg), build.optimizer_factory(cfg.optim), accelerator, journal, record.folder, clock, outcome
    )
    start = time.perf_counter()
    trainer.train()
    wall = time.perf_counter() - start - clock.seconds["evaluation"] - clock.seconds["checkpoint"]
    record.close()
    return cfg.steps / wall, outcome.steps_per_second or 0.0


def main() -> int:
    """Compose the config, run the rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("overrides", nargs="*", help="as for run.py: task=vit_b16 optim=lion ...")
    arguments = parser.parse_intermixed_args()

    import contextlib
    import io

    from hydra import compose, initialize_config_dir

    from recipes import config, forerunner

    config.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        fixed = [f"steps={arguments.steps}", f"eval_every={arguments.steps}", f"checkpoint_every={arguments.steps}"]
        cfg = compose("config", overrides=[*arguments.overrides, *fixed, "tracker=none"])
    if cfg.init_from is not None:
        cfg.init_from = str(forerunner.source(cfg))  # made once, where it is not there yet, and not for every round
    ratios, reported = [], []
    bare(cfg)  # warms caches and the allocator up
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            if number % 2:
                plain, (ours, said) = bare(cfg), suite(cfg, Path(folder))
            else:
                (ours, said), plain = suite(cfg, Path(folder)), bare(cfg)
        ratios.append(ours / plain)
        reported.append(said / ours)
        print(
            f"round {number + 1}: bare {plain:.1f} steps/s, suite {ours:.1f} ({said:.1f} reported), {ours / plain:.3f}"
        )
    print(
        f"{cfg.task.name} {cfg.optim.name}: the suite keeps {statistics.median(ratios):.3f} of a bare loop's speed "
        f"(median of {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f}); it reports "
        f"{statistics.median(reported):.3f} of what the stopwatch says"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

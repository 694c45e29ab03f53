"""Measure the suite's speed as a share of a minimal PyTorch loop's, timed in turn in one process.

    python scripts/maintenance/overhead.py
    python scripts/maintenance/overhead.py --rounds 31 --block 20 task=resnet50 optim=adamw

One run of the suite (record, timers, schedule, seeding; no tracker) stops after every block of steps to let a loop of
a dozen lines, without any of it, train a copy of the same model on the same data and device with the same optimizer.
Each block of the suite is compared with the minimal blocks before and after it, so that changes of the machine's speed
affect both. It prints the median of these ratios with the quartiles, and the steps per second that the suite reports,
compared with a timer outside of it. Evaluation and checkpoints come after the last block: a minimal loop has none.
"""

import argparse
import contextlib
import io
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

from scripts.benchmark.round_robin import between, quartiles, ratios


def measure(cfg: Any, folder: Path, rounds: int, block: int) -> tuple[list[float], list[float], float]:
    """Take turns.

    Returns:
        Seconds of each block of the suite's; of the minimal ones before, between and after them; and the steps per
        second that the suite's summary would say.
    """
    import torch

    from recipes import protocol
    from recipes.distributed import devices
    from recipes.minimal_loop import MinimalLoop
    from recipes.runs import build, tracker
    from recipes.runs.metric_logger import RecordLogger
    from recipes.runs.record import Record
    from recipes.training.loop import Trainer
    from recipes.training.run_state import RunState
    from recipes.training.timers import PhaseTimer

    minimal_seconds: list[float] = []
    marks: list[tuple[float, float]] = []  # of each turn: when it began and when it ended

    class TakingTurns(Trainer):
        """A training run that pauses after each block so that the minimal loop can run one."""

        def _step(self, step: int, *arguments: Any) -> Any:
            if step and step % block == 0:
                if accelerator.device.type != "cpu":  # its asynchronous work counts as its time
                    torch.accelerator.synchronize()
                began = time.perf_counter()
                with self.timer.during("turn"):
                    minimal_seconds.append(minimal.steps(block)[0])
                marks.append((began, time.perf_counter()))
            return super()._step(step, *arguments)

    state, timer = RunState(), PhaseTimer("startup")
    record = Record(folder / "record", cfg)
    logger = RecordLogger(record, tracker.Silent())
    accelerator = devices.start(cfg)
    minimal = MinimalLoop(cfg, accelerator.device)
    minimal.steps(block)  # warms caches and the allocator up, as the suite's first block does
    make_optimizer = build.optimizer_factory(cfg.optim)
    trainer = TakingTurns(cfg, protocol.make(cfg), make_optimizer, accelerator, logger, record.folder, timer, state)
    trainer.train()
    record.close()
    ours = [after[0] - before[1] for before, after in itertools.pairwise(marks)]
    return ours, minimal_seconds, state.steps_per_second or 0.0


def main() -> int:
    """Compose the config, run the rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="blocks of the suite's (%(default)s)")
    parser.add_argument("--block", type=int, default=20, help="steps of each in a round (%(default)s)")
    parser.add_argument("overrides", nargs="*", help="as for run.py: task=vit_b16 optim=lion ...")
    arguments = parser.parse_intermixed_args()
    rounds, block = arguments.rounds, arguments.block
    if rounds < 2 or block < 1:
        parser.error("--rounds must be at least 2 and --block at least 1")

    from recipes.runs import cli, prerequisite
    from recipes.settings import command_line, schema

    try:
        command_line.check(arguments.overrides)
        steps = (rounds + 1) * block + 1  # one block to warm up; the turn after the last needs one step more
        fixed = [f"steps={steps}", f"eval_every={steps}", f"checkpoint_every={steps}", "tracker=none"]
        cfg = prerequisite.resolved(schema.composed([*arguments.overrides, *fixed]))
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            ours, minimal, reported = measure(cfg, Path(folder), rounds, block)
    except Exception as error:
        if (line := cli.user_message(error)) is None:
            raise
        print(*(f"error: {text}" for text in line.splitlines()), sep="\n", file=sys.stderr)
        return 2
    low, kept, high = quartiles(ratios(between(minimal), ours))
    pace = block / statistics.median(ours)
    print(
        f"{cfg.task.name} {cfg.optim.name}, {rounds} rounds of {block} steps: "
        f"minimal loop {block / statistics.median(minimal):.1f} steps/s, suite {pace:.1f} ({reported:.1f} reported)"
    )
    print(
        f"the suite keeps {kept:.3f} of a minimal loop's speed (median; quartiles {low:.3f} and {high:.3f}); "
        f"it reports {reported / pace:.3f} of what the stopwatch says"
    )
    return 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

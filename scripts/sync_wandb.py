"""Upload run records to Weights & Biases under their own run ids, at any time after the runs.

    python scripts/sync_wandb.py outputs
    python scripts/sync_wandb.py outputs/vit_b16/lion --project lion-bench --entity my-team

Twice does no harm: wandb is asked how far it has got, and only later steps are sent. A run that is still being
written is uploaded as far as it has come.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml


def upload(folder: Path, project: str, entity: str | None, mode: str) -> int:
    """Upload one record; returns how many steps were sent."""
    import wandb

    from recipes.record import read_metrics, read_summary
    from recipes.tracker import by_step, identity

    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    run = wandb.init(
        **identity(project, entity, config, folder.name),
        config=config,
        mode=mode,  # type: ignore[arg-type]
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )
    # wandb counts from the step after the last one that it has; a new run counts from 0.
    steps = [(step, values) for step, values in by_step(read_metrics(folder / "metrics.jsonl")) if step >= run.step]
    pictures = {path.stem: wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
    for step, values in steps:
        run.log(values | pictures if step == steps[-1][0] else values, step=step)
    run.summary.update(read_summary(folder) or {})
    run.finish()
    return len(steps)


def main() -> int:
    """Find the records and upload them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders that hold run records, at any depth")
    parser.add_argument("--project", default="lion-bench")
    parser.add_argument("--entity", help="wandb user or team; your default one otherwise")
    parser.add_argument("--offline", action="store_true", help="write offline runs under ./wandb instead of uploading")
    arguments = parser.parse_args()
    records = sorted(path.parent for folder in arguments.folders for path in folder.rglob("summary.json"))
    if not records:
        print(f"no run record (summary.json) under {', '.join(map(str, arguments.folders))}", file=sys.stderr)
        return 2
    if not arguments.offline:
        from recipes.tracker import logged_in

        if not logged_in():
            print("not logged in to wandb: run `wandb login`, or use --offline", file=sys.stderr)
            return 1
    for number, record in enumerate(records, 1):
        sent = upload(record, arguments.project, arguments.entity, "offline" if arguments.offline else "online")
        print(f"{number}/{len(records)} {record}: {sent} steps sent", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

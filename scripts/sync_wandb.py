"""Upload run records to Weights & Biases under their own run ids, at any time after the runs.

    python scripts/sync_wandb.py outputs
    python scripts/sync_wandb.py outputs/vit_b16/lion --project lion-bench --entity my-team

It can be repeated: only steps that wandb does not have yet are sent. A run that is still being written is uploaded as
far as it is, and one that was started again from its first step becomes a new run. A record that cannot be uploaded is
named, the others follow, and the exit status is then 1.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout


def upload(folder: Path, project: str, entity: str | None, mode: str) -> int:
    """Upload one record; returns how many steps were sent.

    Raises:
        ConfigError: the record's config or summary cannot be read.
    """
    import wandb

    from recipes.errors import ConfigError
    from recipes.runs.record import read_summary
    from recipes.runs.tracker import identity

    summary = read_summary(folder)
    if summary is None:
        raise ConfigError("summary.json is torn")
    try:
        config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        named = identity(project, entity, config, folder.name, summary.get("created"))
    except FileNotFoundError:
        raise ConfigError("config.yaml is missing; a restored record has none") from None
    except OSError as error:
        raise ConfigError(f"config.yaml: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        raise ConfigError("config.yaml is not the config of a run") from None
    run = wandb.init(
        **named,
        config=config,
        mode=mode,  # type: ignore[arg-type]
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )
    try:
        return _send(run, folder, summary)
    finally:
        run.finish()  # or the next one would continue it


def _send(run: Any, folder: Path, summary: dict[str, Any]) -> int:
    import wandb

    from recipes.metrics_file import read_metrics
    from recipes.runs.tracker import by_step

    # wandb's step counter is one after its last step; a new run counts from 0.
    steps = [(step, values) for step, values in by_step(read_metrics(folder / "metrics.jsonl")) if step >= run.step]
    pictures = {path.stem: wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
    for step, values in steps:
        run.log(values | pictures if step == steps[-1][0] else values, step=step)
    run.summary.update(summary)
    return len(steps)


def main() -> int:
    """Find the records and upload them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders that hold run records, at any depth")
    parser.add_argument("--project", default="lion-bench")
    parser.add_argument("--entity", help="wandb user or team; your default one otherwise")
    parser.add_argument("--offline", action="store_true", help="write offline runs under ./wandb instead of uploading")
    arguments = parser.parse_args()
    from recipes.settings.unknown_settings import one_line
    from reports.records.folders import walk

    records = sorted(folder for folder, names in walk(arguments.folders) if "summary.json" in names)
    if not records:
        print(f"no run record (summary.json) under {', '.join(map(str, arguments.folders))}", file=sys.stderr)
        return 2
    if not arguments.offline:
        from recipes.runs.tracker import logged_in

        if not logged_in():
            print("not logged in to wandb: run `wandb login`, or use --offline", file=sys.stderr)
            return 1
    failed = 0
    for number, record in enumerate(records, 1):
        try:
            sent = upload(record, arguments.project, arguments.entity, "offline" if arguments.offline else "online")
        except Exception as error:  # whatever wandb or a damaged record raises: the others are still uploaded
            failed += 1
            print(f"{number}/{len(records)} {record}: not uploaded ({one_line(error)})", file=sys.stderr, flush=True)
            continue
        print(f"{number}/{len(records)} {record}: {sent} steps sent", flush=True)
    if failed:
        print(f"{failed} of {len(records)} records could not be uploaded", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

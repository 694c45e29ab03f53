"""Turn the records of a learning-rate sweep at scale=embedded into conf/tuned/embedded/ and a table to commit.

    python run.py -m task=vit_b16 optim=adamw optim.lr=1e-3,3e-3,1e-2 optim.weight_decay=0.1 output_dir=outputs/centres
    python scripts/maintenance/make_centres.py outputs/centres     # read records, write their table, then conf/tuned
    python scripts/maintenance/make_centres.py                     # conf/tuned from the committed table alone

The setting with the best final validation metric is chosen; test metrics are not used. A task without a sweep takes the
values of the most similar task with one, and its table says so. The values are the centres of a comparison's grids; the
comparison itself tunes every optimizer.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

from reports.protocol import REFERENCE, SUBJECT

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "reports" / "published" / "centres.csv"
FOLDER = ROOT / "conf" / "tuned" / "embedded"
COLUMNS = [
    "task",
    "optim",
    "scale",
    "model",
    "data",
    "metric",
    "goal",
    "steps",
    "batch_size",
    "seed",
    "lr",
    "weight_decay",
    "status",
    "diverged_step",
    "final",
    "git_commit",
]
# Tasks without a sweep, and the tasks whose values they start from.
NEAREST = {
    "vit_l16": "vit_b16",
    "vit_h14": "vit_b16",
    "mixer_s16": "mixer_b16",
    "coatnet_1": "vit_s16",
    "coatnet_3": "vit_b16",
}


def read(folder: Path) -> list[dict[str, str]]:
    """One row a record, in a fixed order."""
    from recipes.runs.record import read_summary
    from reports.records.folders import walk

    summaries = [read_summary(place) for place, names in walk([folder]) if "summary.json" in names]
    rows = [{name: "" if s.get(name) is None else str(s[name]) for name in COLUMNS} for s in summaries if s]
    return sorted(rows, key=lambda row: (row["task"], row["optim"], float(row["lr"]), float(row["weight_decay"])))


def files(rows: list[dict[str, str]]) -> dict[Path, str]:
    """Every table's path and text."""
    texts = {}
    tasks = {row["task"] for row in rows}
    for task in sorted(tasks | set(NEAREST)):
        source_task = task if task in tasks else NEAREST[task]
        lines = [
            f"# python run.py task={task} optim=lion",
            f"# Where the learning rates and weight decays of task={task} begin at scale=embedded, optimizers side by "
            "side.",
            "# Written by scripts/maintenance/make_centres.py.",
        ]
        for optim in sorted({row["optim"] for row in rows if row["task"] == source_task}, key=_place):
            trials = [row for row in rows if row["task"] == source_task and row["optim"] == optim]
            ended = [row for row in trials if row["status"] == "completed"]
            if not ended:
                continue
            sign = 1 if ended[0]["goal"] == "max" else -1
            best = max(ended, key=lambda row: sign * float(row["final"]))
            source = (
                f"{len(trials)} trials of {best['steps']} steps on {source_task}, best validation {best['metric']} "
                f"{float(best['final']):.3f} (reports/published/centres.csv)"
            )
            if source_task != task:
                source += f"; {task} has no sweep of its own"
            lines += [
                f"{optim}:",
                f"  lr: {float(best['lr']):g}",
                f"  weight_decay: {float(best['weight_decay']):g}",
                f'  source: "{source}"',
            ]
        texts[FOLDER / f"{task}.yaml"] = "\n".join(lines) + "\n"
    return texts


def _place(optim: str) -> tuple[int, str]:
    """The reference and the studied optimizer first."""
    return (REFERENCE, SUBJECT, optim).index(optim), optim


def main() -> int:
    """Write the table if records are given, then the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="?", type=Path, help="a folder of run records; without it the table is used")
    records = parser.parse_args().records
    if records is not None:
        rows = read(records)
        if not rows:
            print(f"no run record (summary.json) under {records}", file=sys.stderr)
            return 2
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    with TABLE.open(newline="") as file:
        texts = files(list(csv.DictReader(file)))
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(texts)} tables written to {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

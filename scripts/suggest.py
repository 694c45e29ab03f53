"""Suggest Lion's learning rate, weight decay and betas from AdamW's, with trials in order and the sweep to type.

python scripts/suggest.py --adamw-lr 3e-4 --adamw-weight-decay 0.1 --betas 0.9 0.95 --batch 256 --steps 20000
python scripts/suggest.py --adamw-lr 1e-3 --adamw-weight-decay 0.1 --domain language
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

ROOT = Path(__file__).resolve().parent.parent
EPILOG = """\
Lion's learning rate and weight decay are predicted from those of a tuned AdamW; docs/evidence.md has the rule and its
accuracy on held-out studies. Weight decay is decoupled: lr times weight decay times weights, with the scheduled lr.
"""


def main(arguments: list[str] | None = None) -> int:
    """Print a suggestion; returns the exit status."""
    options = parser().parse_args(arguments)

    from reports.evidence import ledger
    from reports.evidence.suggestion import Asked, described, suggest
    from reports.evidence.tuned_pairs import collect

    betas = (options.betas[0], options.betas[1]) if options.betas else None
    asked = Asked(options.adamw_lr, options.adamw_weight_decay, betas, options.batch, options.steps, options.domain)
    asked.check()
    pairs, _ = collect(ledger.read(options.ledger), options.records)
    print("\n".join(described(suggest(asked, pairs))))
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = argparse.ArgumentParser(
        prog="suggest.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--adamw-lr", type=float, required=True, metavar="LR", help="AdamW's peak learning rate")
    command.add_argument(
        "--adamw-weight-decay", type=float, required=True, metavar="DECAY", help="AdamW's decay, 0 too"
    )
    command.add_argument("--betas", type=float, nargs=2, metavar=("BETA1", "BETA2"), help="AdamW's betas")
    command.add_argument("--batch", type=int, help="examples or sequences a step")
    command.add_argument("--steps", type=int, help="optimizer steps")
    command.add_argument("--domain", help="images, language, image_text or diffusion; default: ranges of all of them")
    evidence, published = ROOT / "reports" / "evidence", ROOT / "reports" / "published"
    command.add_argument("--ledger", type=Path, default=evidence, help="the ledger of outside evidence")
    command.add_argument("--records", type=Path, default=published / "records", help="this suite's run records")
    return command


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

"""Read the ledger of other studies, print a summary, and write its tables.

python scripts/evidence.py            # write reports/published/evidence
python scripts/evidence.py --check    # write nothing; exit 1 where a file would change
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "reports" / "evidence"
PUBLISHED = ROOT / "reports" / "published"


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="studies.yaml, claims.yaml and tables")
    parser.add_argument("--records", type=Path, default=PUBLISHED / "records", help="this suite's run records")
    parser.add_argument("--out", type=Path, default=PUBLISHED / "evidence", help="where files are written")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file would change")
    options = parser.parse_args(arguments)

    from recipes.errors import ConfigError
    from reports.evidence import tables

    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"{options.out}: no folder; choose another place with --out")
    results = tables.read_results(options.ledger, options.records)
    texts = tables.files(results)
    if options.check:
        changed = [name for name, text in texts.items() if _content(options.out / name) != text.encode()]
        for name in changed:
            print(f"evidence.py: {options.out / name} is not what the ledger and the records give", file=sys.stderr)
        return 1 if changed else 0
    print("\n".join(tables.summary(results)))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (options.out / name).write_text(text, encoding="utf-8", newline="\n")
        print(options.out / name)
    return 0


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

"""Write the published tables, figures and page from the committed records: the same records give the same bytes.

python scripts/maintenance/make_reports.py            # write reports/published
python scripts/maintenance/make_reports.py --check    # exit 1 where a file differs from what is there
python scripts/maintenance/make_reports.py --folder outputs/mine   # records/, speed/ and about.yaml of another folder
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "reports" / "published"


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PUBLISHED, help="folder of records/, where files are written")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file would change")
    options = parser.parse_args(arguments)
    if not (options.folder / "records").is_dir():
        print(f"make_reports.py: {options.folder}/records: no such folder; see scripts/collect.py", file=sys.stderr)
        return 2

    from reports import documents, expectations
    from reports.publish import write_all
    from reports.results import read_results

    results = read_results(options.folder)
    for problem in results.problems:
        print(f"make_reports.py: {problem}", file=sys.stderr)
    texts: dict[Path, str] = {}
    if options.folder == PUBLISHED:
        texts = documents.fill(ROOT, results) | expectations.files(ROOT, results)
    if not options.check:
        for path in write_all(results, options.folder):
            print(path)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = {path.relative_to(folder): path.read_bytes() for path in write_all(results, Path(folder))}
    expected = {options.folder / name: content for name, content in made.items()}
    expected |= {path: text.encode() for path, text in texts.items()}
    changed = [path for path, content in expected.items() if _content(path) != content]
    for path in changed:
        print(f"make_reports.py: {path} is not what the records give", file=sys.stderr)
    return 1 if changed else 0


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    from recipes.runs import cli

    sys.exit(cli.guard(main))

"""Find a Chromium for the tests of the results page, or install one if possible.

python scripts/maintenance/get_browser.py    # prints its path; exit 0 in any case, the tests say what they skip

Tried in turn: one on the path, one that Playwright has downloaded, the package of the system (as root, by apt-get), a
download by Playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAYS = (
    ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium"],
    [sys.executable, "-m", "playwright", "install", "chromium"],
)
SECONDS = 300  # that an installation may take: without a network some only end by this


def main() -> int:
    """Find or install a browser, and say which."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    path = find() or install()
    print(path or "get_browser.py: no Chromium, so the tests of the page are skipped; apt-get install chromium")
    return 0


def install() -> str | None:
    """Install a browser in the first way that succeeds; return its path, or None."""
    for way in filter(may_run, WAYS):
        if run(way) and (path := find()):
            return path
    return None


def find() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    on_path = next(filter(None, map(shutil.which, NAMES)), None)
    return on_path or next((str(path) for path in downloaded() if os.access(path, os.X_OK)), None)


def downloaded() -> list[Path]:
    """Return where Playwright keeps the browsers that it has downloaded, the newest first."""
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    return sorted(cache.glob("chromium-*/chrome-linux*/chrome"), key=_revision, reverse=True)


def _revision(path: Path) -> int:
    number = path.parent.parent.name.removeprefix("chromium-")
    return int(number) if number.isdecimal() else 0


def may_run(way: list[str]) -> bool:
    """Say whether a way to install is open to this user."""
    return shutil.which(way[0]) is not None and (way[0] != "apt-get" or os.geteuid() == 0)


def run(way: list[str]) -> bool:
    """Run a command without its output, and return whether it succeeded."""
    try:
        return subprocess.run(way, capture_output=True, timeout=SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(main())

"""List the data files of a folder: one rule for images and texts.

Files with a known suffix are listed, in upper or lower case, at any depth and through symbolic links. Hidden files and
folders (`._x`, `.DS_Store`, `.ipynb_checkpoints`) and `__MACOSX` are skipped. Everything else is counted by its suffix,
with broken links and unreadable folders, and reported in one line.
"""

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

PICTURES = (
    *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
TEXTS = (".txt", ".jsonl", ".parquet")

MAX_UNREADABLE = 10  # unreadable files that may be left out of any data set
MAX_UNREADABLE_SHARE = 0.01  # and of a large one, this share; more means a broken copy
TOLERATED = f"{MAX_UNREADABLE} or {MAX_UNREADABLE_SHARE:.0%}"  # for messages


@dataclass
class Listing:
    """The files of a folder.

    Attributes:
        paths: relative to the folder, sorted by their bytes.
        left_out: the number of other files of each kind.
    """

    paths: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def say(self, location: str) -> None:
        """Print what is left out, if anything is.

        Args:
            location: how messages call the data.
        """
        if self.left_out:
            total = sum(self.left_out.values())
            say(f"{location}: left out {total} {'file' if total == 1 else 'files'}: {self.summary()}")

    def summary(self) -> str:
        """The kinds and numbers of what is left out, the most frequent first."""
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{number} {kind}" for kind, number in kinds[:6]) + (", ..." if len(kinds) > 6 else "")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped."""
    return name.startswith(".") or name == "__MACOSX"


def list_files(folder: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Listing:
    """The files of a folder with these suffixes, at any depth.

    Args:
        folder: where to look.
        suffixes: in lower case, each with its dot.
    """
    listing, root = Listing(), os.fspath(folder)
    start = len(root.rstrip(os.sep)) + 1
    for path in _walk(root, suffixes, listing.left_out):
        listing.paths.append(path[start:])
    listing.paths.sort(key=os.fsencode)
    return listing


def has_files(folder: str | os.PathLike[str], suffixes: tuple[str, ...]) -> bool:
    """Whether a folder has any file with one of these suffixes."""
    return next(_walk(os.fspath(folder), suffixes, Counter()), None) is not None


def _walk(root: str, suffixes: tuple[str, ...], left_out: Counter[str]) -> Iterator[str]:
    """Full paths of the listed files."""
    folders: list[tuple[str, tuple[tuple[int, int], ...]]] = [(root, ())]
    while folders:
        folder, ancestors = folders.pop()
        try:
            info = os.stat(folder)  # noqa: PTH116 (a million files)
            identity = (info.st_dev, info.st_ino)
            if identity in ancestors:
                left_out["link to a folder above"] += 1
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    if entry.is_dir():
                        folders.append((entry.path, (*ancestors, identity)))
                    elif (kind := _left_out(entry, suffixes)) is None:
                        yield entry.path
                    else:
                        left_out[kind] += 1
        except OSError:
            left_out["unreadable folder"] += 1


def _left_out(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> str | None:
    """Why a file is left out, or None if it is listed."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a million files)
    if suffix not in suffixes:
        return printable(suffix[:20]) if suffix else "without a suffix"
    if entry.is_file():
        return None
    if entry.is_symlink():
        return "broken link"
    mode = entry.stat().st_mode
    return "named pipe" if stat.S_ISFIFO(mode) else "special file"


def tolerable(unreadable: float, total: float) -> bool:
    """Whether this number of unreadable files may be left out of a data set."""
    return unreadable <= max(MAX_UNREADABLE, MAX_UNREADABLE_SHARE * total)


def printable(name: str | os.PathLike[str]) -> str:
    """A file's name or path for a message: one line of printable characters."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print a line about the data once, on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        _say(text)


@cache
def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)

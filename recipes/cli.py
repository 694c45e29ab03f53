"""Between the command line and the runs: a user's mistake ends as one line, a run of a sweep ends alone."""

import difflib
import errno
import os
import re
import select
import sys
import traceback
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes import sweep
from recipes.config import CONF
from recipes.errors import ConfigError

INTERRUPTED = 130  # the shell's convention for a process that SIGINT ended
CLOSED = 141  # and for one that wrote to a pipe that nobody reads
FULL_TRACE = "HYDRA_FULL_ERROR" in os.environ  # read before guard() sets it


def guard(main: Callable[[], None]) -> None:
    """Call a Hydra main function; turn users' mistakes into one line on standard error and status 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us whole; what is shown is decided here
    try:
        main()
    except BrokenPipeError:
        if not _reader_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more as it ends
        sys.exit(CLOSED)
    except Exception as error:
        line = mistake(error)
        if FULL_TRACE or line is None:
            raise
        sys.exit(f"error: {line}")
    except KeyboardInterrupt as error:
        print(f"\n{error or 'interrupted'}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _reader_gone() -> bool:
    """Whether nobody reads what we print any more, such as `head` after its lines; other pipes may break, too."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLERR)
    return bool(output.poll(0))


def run(cfg: DictConfig) -> None:
    """Do one run. In a sweep, its end is noted, and after a failure the next run begins."""
    from recipes import experiment, record

    sweep.end_with_parent()
    try:
        status, cause = experiment.run(cfg), None
    except Exception as error:
        line = mistake(error)
        if not sweep.active():
            if FULL_TRACE or line is None:
                raise
            sys.exit(f"error: {line}")  # an exception would have Hydra print a line of its own
        if line is None:
            traceback.print_exc()
        else:
            print(f"error: {line}", file=sys.stderr)
        status, cause = "failed", line or f"{type(error).__name__}: {error}".splitlines()[0]
    if sweep.active():
        sweep.note(status, record.folder_of(cfg), cause)


def mistake(error: Exception) -> str | None:
    """What to tell the user in one line, or None where the mistake may be ours and the trace is due."""
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left on the disk ({error.filename or 'a record'}); make room and start the same "
            "command again: it goes on from its last checkpoint"
        )
    return None


def one_line(error: BaseException) -> str:
    """An exception's message in one line; a name or key that is not known gets the known ones beside it."""
    text = str(error)
    if unknown := re.search(r"Could not find '([\w@./]+)/([^/']+)'", text):
        group, name = unknown.groups()
        known = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        if group.startswith("setting/"):
            known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            return f"task={name} has no setting at scale={group.split('/')[1]}; tasks that have: {', '.join(known)}"
        return f"{group}={name} is unknown; known: {', '.join(known)}{_hint(name, known)}"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        if text.startswith("Could not override") and isinstance(cause.parent_node, DictConfig):
            known = sorted(str(key) for key in cause.parent_node if key != "hydra")
            below = f" below {parent}" if (parent := str(cause.full_key).rpartition(".")[0]) else ""
            return (
                f"{cause.full_key} is unknown; known{below}: {', '.join(known) or 'none'}"
                f"{_adding(cause.parent_node, text)}{_hint(str(cause.key), known)}"
            )
        text = f"{text}: {str(cause).splitlines()[0]}"
    return " ".join(text.split())


def _adding(node: DictConfig, text: str) -> str:
    """Hydra's advice to add a key with +, where the schema leaves the keys open."""
    advice = re.search(r"\+\S.*", text)
    return f"; to add it: {advice[0]}" if advice and OmegaConf.get_type(node) is dict else ""


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""

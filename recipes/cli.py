"""Between the command line and the runs: a user's mistake ends as one line, a run of a sweep ends alone."""

import difflib
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recipes import sweep
from recipes.errors import ConfigError

CONF = Path(__file__).resolve().parent.parent / "conf"
INTERRUPTED = 130  # the shell's convention for a process that SIGINT ended


def guard(main: Callable[[], None]) -> None:
    """Call a Hydra main function; turn users' mistakes into one line on standard error and status 1."""
    full_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us whole; what is shown is decided here
    try:
        main()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        if full_trace:
            raise
        sys.exit(f"error: {one_line(error)}")
    except OSError as error:
        if full_trace or error.errno != errno.ENOSPC:
            raise
        sys.exit(
            f"error: no space left on the disk ({error.filename or 'a record'}); make room and start the same "
            "command again: it goes on from its last checkpoint"
        )
    except KeyboardInterrupt as error:
        print(f"\n{error or 'interrupted'}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def run(cfg: DictConfig) -> None:
    """Do one run. In a sweep, a failure is noted and the next run begins."""
    from recipes import experiment, record

    try:
        status = experiment.run(cfg)
        if status == "skipped":
            sweep.note(status, record.folder_of(cfg))
    except Exception as error:
        if not sweep.active():
            raise
        if isinstance(error, ConfigError):
            print(f"error: {one_line(error)}", file=sys.stderr)
            sweep.note("failed", record.folder_of(cfg), one_line(error))
        else:
            traceback.print_exc()


def one_line(error: BaseException) -> str:
    """An exception's message in one line; a name that Hydra does not know gets the known ones beside it."""
    cause = error
    while isinstance(cause.__cause__, HydraException | OmegaConfBaseException | ConfigError):
        cause = cause.__cause__
    text = str(error) if isinstance(error, ConfigError) else f"{error}"
    unknown = re.search(r"Could not find '([\w@./]+)/([^/']+)'", text)
    if unknown:
        group, name = unknown.groups()
        known = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        near = difflib.get_close_matches(name, known, n=1)
        if group.startswith("setting/"):
            known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            return f"task={name} has no setting at scale={group.split('/')[1]}; tasks that have: {', '.join(known)}"
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{group}={name} is unknown; known: {', '.join(known)}{hint}"
    return " ".join(str(error).split())

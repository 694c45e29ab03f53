"""Run a command: users' mistakes are printed as one line each, and a failed run does not end its sweep."""

import errno
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recipes.distributed import device_slots, processes
from recipes.errors import BUSY, ConfigError, DeviceMemoryError
from recipes.runs import startup, sweep
from recipes.runs.startup import INTERRUPTED
from recipes.settings import choices, command_line, from_data, unknown_settings, validation

CLOSED = 141  # the shell's convention for a process killed by SIGPIPE
FULL_TRACE = "HYDRA_FULL_ERROR" in os.environ  # read before guard() sets it
# Errors of the operating system about a path that a user gave; other errors may be bugs.
OF_THE_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


def guard(main: Callable[[], int | None]) -> int:
    """Call a main function; users' mistakes are printed as one line each on standard error, with exit status 1.

    Returns:
        What `main` returned, 0 for None.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us whole; what is shown is decided here
    startup.begin()
    try:
        return main() or 0
    except BrokenPipeError:
        if not _reader_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more as it ends
        sys.exit(CLOSED)
    except Exception as error:
        lines = user_message(error)
        if FULL_TRACE or lines is None:
            raise
        _fail(error, lines)
    except KeyboardInterrupt as error:
        if processes.is_first():
            print(f"\n{error or 'interrupted'}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def start(main: Callable[[], int | None]) -> int:
    """Check the whole command line, then let Hydra run it."""
    choices.register()

    def checked() -> int | None:
        arguments = [command_line.expanded(text) for text in command_line.ordered(sys.argv[1:])]
        mistakes: list[str] = []
        arguments, planned = command_line.plan(arguments, mistakes)
        os.environ.pop(validation.PLAN, None)
        if planned:
            os.environ[validation.PLAN] = "1"
        sys.argv[1:] = arguments
        parser = get_args_parser()
        parser.error = _refuse  # type: ignore[method-assign]
        flags = parser.parse_args(arguments)
        other_config = flags.config_path or flags.config_name or flags.config_dir or flags.experimental_rerun
        shows_help = flags.help or flags.hydra_help or flags.shell_completion or flags.info
        if not (other_config or shows_help):
            mistakes += command_line.mistakes(flags.overrides, flags.multirun)
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return main()

    return guard(checked)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; python run.py --help shows commands that work")


def _fail(error: Exception, lines: str) -> NoReturn:
    """Print the lines and exit with status 1; of several processes, only the first prints.

    Errors that only one process may have are printed there: those of the operating system, and before the processes are
    connected those of the first process of each machine, such as a missing file.
    """
    first = processes.is_first()
    first_here = os.environ.get("LOCAL_RANK") == "0" and not processes.joined()
    if first or first_here or isinstance(error, OSError):
        for line in lines.splitlines():
            print(f"error: {line}" if first else f"error: process {os.environ['RANK']}: {line}", file=sys.stderr)
    sys.stderr.flush()
    if isinstance(error, OSError):  # silence libraries' threads, which report the same disk error as the process exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(1)


def _reader_gone() -> bool:
    """Whether the reader of standard output is gone, such as `head` after its lines; other pipes may break, too."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLERR)
    return bool(output.poll(0))


def run(cfg: DictConfig) -> None:
    """Do one run, or print its plan. A sweep lists the run's status, and a failure does not end it."""
    from recipes.runs import record

    if sweep.planned():
        validation.check(cfg)
        from_data.resolve(cfg)
        print(sweep.plan_line(cfg))
        return
    device_slots.take_slot()
    from recipes.runs import experiment

    sweep.end_with_parent()
    try:
        status, cause = experiment.run(cfg), None
    except Exception as error:
        lines = user_message(error)
        if not sweep.active():
            if FULL_TRACE or lines is None:
                raise
            _fail(error, lines)  # Hydra would add a line to an exception
        status = sweep.ELSEWHERE if isinstance(error, ConfigError) and BUSY in str(error) else "failed"
        if lines is None:
            traceback.print_exc()
        elif status == "failed" and processes.is_first():
            for line in lines.splitlines():
                print(f"error: {line}", file=sys.stderr)
        cause = "; ".join(lines.splitlines()) if lines else f"{type(error).__name__}: {error}".splitlines()[0]
    if sweep.active():
        sweep.note(status, record.folder_of(cfg), cause)


def user_message(error: Exception) -> str | None:
    """The message for the user, one line for each mistake; None if it may be a bug, which needs its stack trace."""
    if isinstance(error, ConfigError | DeviceMemoryError):
        return "\n".join(" ".join(line.split()) for line in str(error).splitlines() if line.strip())
    if isinstance(error, HydraException | OmegaConfBaseException):
        return unknown_settings.one_line(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left on the disk ({error.filename or 'a record'}); make room and start the same "
            "command again: it continues from its last checkpoint"
        )
    if isinstance(error, OSError) and error.errno in OF_THE_PLACE and error.filename:
        return f"{error.filename}: {error.strerror}; choose another place, or change its permissions"
    return None

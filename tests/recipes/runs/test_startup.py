"""Where a command prints, how it reads names and how Ctrl-C ends it, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# As run.py begins, with something to do in the place of a run.
GUARDED = """
import sys
from recipes.runs import startup
startup.begin()
from recipes.runs import cli
def main():
    {}
sys.exit(cli.guard(main))
"""


def command(body: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", GUARDED.format(body), *arguments]


def environment(**given: str) -> dict[str, str]:
    hidden = ("HYDRA_FULL_ERROR", "PYTHONUTF8", "PYTHONIOENCODING", "RANK")
    return {k: v for k, v in os.environ.items() if k not in hidden} | {"PYTHONPATH": str(ROOT)} | given


def run(body: str, *arguments: str, shell: str = "", **given: str) -> subprocess.CompletedProcess[str]:
    made = command(body, *arguments)
    if shell:
        made = ["bash", "-c", f'"$@" {shell}', "bash", *made]
    return subprocess.run(made, env=environment(**given), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_no_files_number(tmp_path: Path, closed: str) -> None:
    """A file opened afterwards is not what `print` writes to."""
    body = "file = open(sys.argv[1], 'w'); print('lost', flush=True); file.write('kept')"
    done = run(body, str(tmp_path / "file"), shell=closed)
    assert done.returncode == 0
    assert done.stderr == ""
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "given",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_a_terminal_in_ascii_takes_any_name(tmp_path: Path, given: dict[str, str]) -> None:
    place = tmp_path / "größe-漢"
    done = run(
        "from recipes.files import write_text; from pathlib import Path; place = Path(sys.argv[1]); place.mkdir();"
        " write_text(place / 'a', str(place)); print(place)",
        str(place),
        **given,
    )
    assert done.returncode == 0, done.stderr
    assert (place / "a").read_text(encoding="utf-8") == str(place)


def test_arguments_that_are_no_text_are_a_users_mistake() -> None:
    made = [sys.executable, str(ROOT / "run.py"), b"output_dir=/tmp/\xff"]
    done = subprocess.run(made, env=environment(), capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"holds bytes that are no UTF-8 text" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_ctrl_c_before_anything_has_begun_ends_at_once() -> None:
    """Within an import, KeyboardInterrupt may become another error; so it is not raised there."""
    body = "print('up', flush=True)\n    while True:\n        try:\n            import time; time.sleep(60)"
    body += "\n        except BaseException: pass"
    process = subprocess.Popen(
        command(body), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "\ninterrupted before the first step\n")


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_the_start_is_one_line(tmp_path: Path) -> None:
    for tenth in range(1, 31):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "tracker=none", "steps=2000"],
            cwd=tmp_path,
            env=environment(OMP_NUM_THREADS="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(tenth / 5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT), (tenth, err)  # the latter before Python's first line
        assert "Traceback" not in err, (tenth, err)


@pytest.mark.parametrize(("rank", "lines"), [("0", 2), ("1", 0)])
def test_the_first_of_several_processes_speaks_for_all(rank: str, lines: int) -> None:
    body = "from recipes.errors import ConfigError; raise ConfigError('one\\ntwo')"
    done = run(body, RANK=rank, WORLD_SIZE="2")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: one", "error: two"][:lines]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("OSError(28, 'No space left on device', '/x/y')", "error: no space left on the disk (/x/y); make room"),
        ("PermissionError(13, 'Permission denied', '/x/y')", "error: /x/y: Permission denied; choose another place"),
        ("OSError(30, 'Read-only file system', '/x/y')", "error: /x/y: Read-only file system; choose"),
    ],
)
def test_what_the_machine_says_of_a_place_is_one_line(error: str, said: str) -> None:
    done = run(f"raise {error}")
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_a_real_bug_keeps_its_trace_and_so_does_a_mistake_for_who_asks() -> None:
    assert "Traceback" in run("raise FileNotFoundError(2, 'No such file', 'ours')").stderr
    asked = run("from recipes.errors import ConfigError; raise ConfigError('one')", HYDRA_FULL_ERROR="1")
    assert "Traceback" in asked.stderr


def test_a_scripts_status_is_its_own() -> None:
    assert run("return 3").returncode == 3

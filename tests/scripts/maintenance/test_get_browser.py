"""A Chromium is found where it is, installed where that is possible, and else the page's tests say that they skip."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.maintenance import get_browser

ROOT = Path(__file__).resolve().parents[3]
SHELL = "/bin/sh"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without a browser and installers: a folder for commands, and one for what Playwright downloads."""
    commands, cache = tmp_path / "commands", tmp_path / "cache"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(cache))
    monkeypatch.setattr(get_browser, "WAYS", (["apt-get", "install", "chromium"], ["playwright", "install"]))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["get_browser.py"])
    return commands, cache


def command(path: Path, script: str = "exit 1") -> Path:
    """Write a command that notes its name in a file `called` beside it, and then does as the script says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{SHELL}\necho {path.name} >> {path.parent}/called\n{script}\n")
    path.chmod(0o755)
    return path


def called(commands: Path) -> list[str]:
    notes = commands / "called"
    return notes.read_text().split() if notes.exists() else []


def said(capsys) -> str:
    assert get_browser.main() == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (line,) = captured.out.splitlines()
    return line


def test_one_on_the_path_is_taken_and_nothing_is_installed(machine, capsys):
    commands, cache = machine
    command(cache / "chromium-1" / "chrome-linux" / "chrome")
    command(commands / "apt-get")
    browser = command(commands / "google-chrome")
    assert said(capsys) == str(browser)
    assert called(commands) == []


def test_the_newest_that_playwright_has_downloaded_and_that_can_run_is_taken(machine, capsys):
    commands, cache = machine
    command(commands / "apt-get")
    command(cache / "chromium-998" / "chrome-linux" / "chrome")
    newest = command(cache / "chromium-1187" / "chrome-linux64" / "chrome")
    command(cache / "chromium-1200" / "chrome-linux" / "chrome").chmod(0o644)  # a download that was cut off
    assert said(capsys) == str(newest)
    assert called(commands) == []


def test_the_first_way_that_gives_a_browser_is_the_last_that_is_tried(machine, capsys):
    commands, _ = machine
    command(commands / "apt-get", f"echo '#!{SHELL}' > {commands}/chromium; /bin/chmod +x {commands}/chromium; exit 0")
    command(commands / "playwright")
    assert said(capsys) == str(commands / "chromium")
    assert called(commands) == ["apt-get"]


def test_without_a_network_one_line_says_what_is_skipped_and_what_to_install(machine, capsys):
    commands, _ = machine
    command(commands / "apt-get", "echo 'E: Unable to locate package chromium' >&2; exit 100")
    command(commands / "playwright", "exit 0")  # it says that it has, and has not
    line = said(capsys)
    assert "the tests of the page are skipped" in line
    assert line.endswith("apt-get install chromium")
    assert called(commands) == ["apt-get", "playwright"]


def test_the_system_s_packages_are_for_root_and_a_command_that_hangs_is_given_up(machine, capsys, monkeypatch):
    commands, _ = machine
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(get_browser, "SECONDS", 0.2)
    command(commands / "apt-get")
    command(commands / "playwright", "exec /bin/sleep 60")
    assert "the tests of the page are skipped" in said(capsys)
    assert called(commands) == ["playwright"]


def test_the_page_s_tests_are_skipped_with_a_reason_that_make_test_prints(machine):
    recipe = re.search(r"-m pytest (.*)", (ROOT / "Makefile").read_text())
    assert recipe is not None
    arguments = shlex.split(recipe[1])
    shown = arguments[arguments.index("-r") : arguments.index("-r") + 2]
    page = "tests/reports/test_page_browser.py"
    command_line = [sys.executable, "-m", "pytest", *shown, "-p", "no:cacheprovider", page]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = next(line for line in done.stdout.splitlines() if line.startswith("SKIPPED"))
    assert "needs Chromium: apt-get install chromium, or playwright install chromium" in skipped
    assert re.search(r"\d+ skipped", done.stdout.splitlines()[-1])
    assert "passed" not in done.stdout.splitlines()[-1]

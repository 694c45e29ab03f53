"""The command line of the program search: what it prints, writes and refuses."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lion.discovery.ir import load, render

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "discover.py"


@pytest.fixture(scope="module")
def discover() -> ModuleType:
    spec = importlib.util.spec_from_file_location("discover", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["discover"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_show_marks_what_reaches_no_update(discover: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert discover.main(["show", "program8"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"m = cosh\(update\) +# reaches no update", out)
    assert out.count("# dead") == 8
    assert "21 statements; 13 that an output depends on, 12 that an update depends on" in out
    assert "states needed: v" in out


def test_simplify_prints_a_line_a_step(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert discover.main(["simplify", "program8", "--exact", "--out", str(tmp_path / "p.py")]) == 0
    out = capsys.readouterr().out
    assert [int(line[:3]) for line in out.splitlines() if re.match(r" *\d+  ", line)][:3] == [21, 13, 12]
    assert "[exact]" in out
    assert "ulp]" in out
    assert "beta1 and beta2 in it: 0.9 and 0.99822" in out
    assert len(load(tmp_path / "p.py")) == 9


def test_a_search_ends_with_its_figures_beside_the_baselines(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["search", "--evaluations", "12", "--out", str(tmp_path), "--population", "20"]
    assert discover.main(command) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(
        r"search: \d+ programs \(\d+/s\), \d+ evaluations \(\d+/s\), cache hits [\d.]+%, redundant [\d.]+%, "
        r"invalid [\d.]+%, best [\d.]+",
        lines[-1],
    )
    scored = [line.split()[0] for line in lines if "search's seeds" in line]
    assert scored == ["search", "random", "constants", "AdamW", "Lion"]
    assert len(load(tmp_path / "best.py"))
    for name in ("round0", "random", "constants"):
        logged = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        assert sum("key" in line for line in logged) >= 11
    assert discover.main(command) == 0  # done already
    assert "goes on from cycle" in capsys.readouterr().out
    assert discover.main([*command, "--seed", "1"]) == 2
    assert capsys.readouterr().err == (
        f"discover.py: {tmp_path / 'round0'} holds a search with another seed: choose another folder\n"
    )
    assert discover.main(["export", str(tmp_path / "mine.py"), "--from", str(tmp_path)]) == 0
    assert "optim=program optim.program=" in capsys.readouterr().out
    assert len(load(tmp_path / "mine.py")) <= len(load(tmp_path / "best.py"))


def test_restarts_begin_anew_and_the_last_from_the_best(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["search", "--evaluations", "8", "--out", str(tmp_path), "--restarts", "2", "--from-best"]
    command += ["--no-baselines", "--population", "20", "--task", "scaled"]
    assert discover.main([*command, "--states", "m"]) == 2
    assert "the initial program uses the state v" in capsys.readouterr().err
    assert discover.main([*command, "--states", "m", "--start", "lion_without_sign"]) == 0
    states = [json.loads((tmp_path / f"round{i}" / "checkpoint.json").read_text()) for i in range(3)]
    start = render(load("lion_without_sign"))
    assert [state["settings"]["initial"] == start for state in states[:2]] == [True, True]
    assert len({state["settings"]["seed"] for state in states}) == 3
    bests = [state["programs"][state["best"][0]] for state in states[:2]]
    assert states[2]["settings"]["initial"] in bests
    assert not (tmp_path / "random").exists()
    assert capsys.readouterr().out.count("round") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "program9"], "program program9: No such file or directory; give a file or one of "),
        (["simplify", "nowhere.py"], "program nowhere.py: No such file"),
        (["export", "x.py", "--from", "/nowhere"], "program /nowhere: No such file"),
        (["search", "--start", "program2"], "program program2: No such file"),
    ],
)
def test_mistakes_end_in_one_line(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert discover.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"discover.py: {message}")
    assert err.count("\n") == 1


def test_a_file_is_not_overwritten(discover: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("precious")
    assert discover.main(["export", str(file), "--from", "program4"]) == 2
    assert "exists already; choose another name" in capsys.readouterr().err
    assert file.read_text() == "precious"


@pytest.mark.parametrize("arguments", [["search", "--minutes", "0"], ["search", "--workers", "-1"], ["fly"], []])
def test_wrong_options_are_refused(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        discover.main(arguments)
    assert "Traceback" not in capsys.readouterr().err


def test_help_answers_at_once() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, timeout=5, check=True)
    assert "simplify program8" in run.stdout

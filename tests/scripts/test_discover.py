"""The command line of the program search: what it prints, writes and refuses."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lion.discovery.language.program import Program, load, render
from recipes.files import locked

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
    sys.path.insert(0, str(SCRIPT.parent))  # as Python does for a script
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
    assert "continues from cycle" in capsys.readouterr().out
    assert discover.main([*command, "--seed", "1"]) == 2
    assert capsys.readouterr().err == (
        f"discover.py: {tmp_path / 'round0'} holds a search with another seed: choose another folder\n"
    )
    with locked(tmp_path):
        for busy in (command, ["funnel", str(tmp_path)]):
            assert discover.main(busy) == 2
            assert f"{tmp_path} is being written by another process" in capsys.readouterr().err
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


class Easy:
    """A rung where every program's loss is its length, however large its update."""

    name = "length"

    def tune(self, program: Program) -> float:
        return float(len(program))

    def score(self, program: Program) -> list[float]:
        return [len(program) - place / 100 for place in range(4)]


@pytest.fixture(scope="module")
def searched(discover: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searches from AdamW and one for a sign, of a few programs each."""
    root = tmp_path_factory.mktemp("searches")
    with pytest.MonkeyPatch.context() as patch:
        searching = discover.import_module("scripts.discovery.searching")
        patch.setattr(searching, "SWEEP", (1.0, 5.6))
        patch.setattr(searching, "CANDIDATES", 3)
        for seed in "01":
            command = ["search", "--evaluations", "40", "--seed", seed, "--out", str(root / f"seed{seed}")]
            assert discover.main([*command, "--population", "20"]) == 0
        command = ["search", "--evaluations", "30", "--start", "lion_without_sign", "--states", "m", "--task", "scaled"]
        assert discover.main([*command, "--no-baselines", "--population", "20", "--out", str(root / "sign0")]) == 0
    return root


def test_the_funnel_takes_candidates_of_every_search_and_goes_on_where_it_stopped(
    discover: ModuleType, searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    funnel = importlib.import_module("scripts.discovery.funnel")
    rungs = [Easy(), Easy()]
    monkeypatch.setattr(funnel, "ladder", lambda options: rungs)
    assert discover.main(["funnel", str(searched)]) == 0
    out = capsys.readouterr().out
    written = json.loads((searched / "funnel.json").read_text())
    names = {result["name"] for result in written["floors"][0]["results"]}
    assert {name.split("/")[0] for name in names} == {"seed0", "seed1", "sign0"}
    assert any(" at " in name for name in names)
    shorter = [r for r in written["floors"][0]["results"] if r["mean"] < 6.9]  # Lion has 7 statements less the noise
    assert ("discovered: " in out) == bool(shorter)
    assert out.count("| length |") == len(written["floors"])
    monkeypatch.setattr(Easy, "tune", lambda *_: pytest.fail("measured before"))
    assert discover.main(["funnel", str(searched)]) == 0
    assert json.loads((searched / "funnel.json").read_text()) == written


def test_the_report_is_made_of_the_logs_and_again_of_what_was_gathered(
    discover: ModuleType, searched: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "derivation.md").write_text("made before")  # half a minute's work
    assert discover.main(["report", str(searched), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "README.md").read_text()
    assert "better in" in page
    scores = json.loads((searched / "seed1" / "scores.json").read_text())["scores"]
    mean = sum(scores["search"]["losses"]) / 12
    assert f"| 1 | {mean:.4f} ± " in page
    assert "Is the sign found again?" in page
    for figure in ("fitness.svg", "shares.svg"):
        assert (tmp_path / figure).read_text().count("<path") > 10
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert discover.main(["report", "--out", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "fitness.svg" in capsys.readouterr().out


def test_what_the_report_gathers_is_what_the_log_says(discover: ModuleType, searched: Path) -> None:
    gathered = importlib.import_module("scripts.discovery.gathering").gather([searched])
    curve = gathered["searches"][0]["curves"]["search"]
    lines = [json.loads(line) for line in (searched / "seed0/round0/log.jsonl").read_text().splitlines()]
    fitnesses = [line["fitness"] for line in lines if "key" in line]
    for place, best in zip(curve["evaluations"], curve["best"], strict=True):
        assert best == min((f for f in fitnesses[:place] if f is not None), default=None)
    assert curve["evaluations"][-1] == len(fitnesses)
    (sign,) = gathered["signs"]
    assert sign["measured"]["evaluations"] >= 30


def test_no_digit_stands_in_two_of_the_four_sets(discover: ModuleType) -> None:
    tasks = importlib.import_module("scripts.discovery.tasks").of_search("vit")
    sets = [tasks.search.data.train_x] + [task.data.val_x for task in (tasks.search, tasks.selection, tasks.fresh)]
    images = [{image.tobytes() for image in part} for part in sets]
    assert [len(part) for part in images] == [2500, 1000, 500, 1000]
    assert len(set.union(*images)) == 5000
    assert (tasks.selection.data.train_x == tasks.search.data.train_x).all()
    seeds = [set(task.seeds) for task in (tasks.search, tasks.selection, tasks.fresh)]
    assert len(set.union(*seeds)) == sum(map(len, seeds))


def test_a_recipe_is_a_rung(discover: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for run.py, which writes a record and checks what it was asked."""
    funnel = importlib.import_module("scripts.discovery.funnel")
    stand_in = tmp_path / "run.py"
    stand_in.write_text(STAND_IN)
    monkeypatch.setattr(funnel, "RUN", stand_in)
    rung = funnel.RecipeRung("vit_b16", 7, tmp_path / "recipes")
    assert rung.tune(load("program1")) == -0.5
    assert rung.score(load("program1")) == [-0.9, -0.91, -0.92, -0.93]
    assert rung.score(load("program3")) is None
    with pytest.raises(ValueError, match=r"run\.py task=vit_b16 .* failed: no such thing"):
        rung.tune(load("program7"))


STAND_IN = """
import json, sys
from pathlib import Path

given = dict(argument.split("=", 1) for argument in sys.argv[1:])
assert given["optim"] == "program" and given["steps"] == "7" and given["tracker"] == "none"
text = Path(given["optim.program"]).read_text()
if "g2 = square(g)" in text and "g - m" in text:
    sys.exit("no such thing")
status = "diverged" if "sqrt" in text else "completed"
folder = Path(given["output_dir"]) / given["task"] / "program" / "0123"
folder.mkdir(parents=True, exist_ok=True)
figures = {"final": 0.5, "test": 0.9 + int(given["seed"]) / 100, "goal": "max", "status": status}
(folder / "summary.json").write_text(json.dumps(figures))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["funnel", "/nowhere"], "/nowhere holds no search: python scripts/discover.py search --out /nowhere"),
        (["report", "/nowhere", "--out", "{tmp}"], "/nowhere holds no search that has ended"),
        (["report", "--out", "{tmp}"], "{tmp}/data.json is not there: name the folder of the searches"),
        (["show", "program9"], "program program9: No such file or directory; give a file or one of "),
        (["simplify", "nowhere.py"], "program nowhere.py: No such file"),
        (["export", "x.py", "--from", "/nowhere"], "program /nowhere: No such file"),
        (["search", "--start", "program2"], "program program2: No such file"),
        (["search", "--population", "4", "--tournament", "5"], "--tournament 5 is more than --population 4"),
    ],
)
def test_mistakes_end_in_one_line(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    place = {"tmp": tmp_path}
    assert discover.main([argument.format(**place) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"discover.py: {message.format(**place)}")
    assert err.count("\n") == 1


def test_a_file_is_not_overwritten(discover: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("precious")
    assert discover.main(["export", str(file), "--from", "program4"]) == 2
    assert "exists already; choose another name" in capsys.readouterr().err
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--minutes", "0"],
        ["search", "--population", "1"],
        ["search", "--seed", "-1"],
        ["search", "--workers", "-1"],
        ["search", "--workers", "ray:0"],
        ["fly"],
        [],
    ],
)
def test_wrong_options_are_refused(
    discover: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        discover.main(arguments)
    assert "Traceback" not in capsys.readouterr().err


def test_help_answers_at_once() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, timeout=5, check=True)
    assert "simplify program8" in run.stdout

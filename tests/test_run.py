"""What a user's mistake looks like at the command line: one line that helps, and nothing else."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hydra
import pytest
import yaml

from recipes.runs import cli, expectation
from recipes.settings import command_line, schema

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "run.py"
SECONDS = 6.0  # of CPU time: two with others on the same core, one without
TINY = [
    "tracker=none",
    "steps=2",
    "eval_every=2",
    "batch_size=8",
    "model.args.depth=1",
    "model.args.embed_dim=16",
    "model.args.num_heads=2",
]
# Run instead of run.py where the test asks what was imported: says so on the last line of standard output.
WATCHED = f"""
import atexit, runpy, sys
atexit.register(lambda: print("torch" in sys.modules))
sys.argv[0] = {str(RUN)!r}
runpy.run_path({str(RUN)!r}, run_name="__main__")
"""


class Result(NamedTuple):
    status: int
    out: str
    err: str


Invoke = Callable[..., Result]


def refusal(result: Result) -> str:
    """The one line on standard error of a command that failed as it should."""
    assert result.status == 1, result
    assert "Traceback" not in result.err + result.out
    assert "error" not in result.out.lower()
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Do what `python run.py ...` does, in this process: the same function, guarded in the same way."""

    schema.register()
    main = hydra.main(config_path=str(ROOT / "conf"), config_name="config", version_base="1.3")(cli.run)

    def invoked(*overrides: str) -> Result:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(RUN), *overrides])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # guard() sets it; so it is taken back
        monkeypatch.setattr(cli, "FULL_TRACE", False)
        capfd.readouterr()
        status: object = 0
        try:
            cli.start(main)
        except SystemExit as end:
            status = end.code
        out, err = capfd.readouterr()
        if isinstance(status, str):  # as the interpreter does with it
            status, err = 1, f"{err}{status}\n"
        assert isinstance(status, int)
        return Result(status, out, err)

    return invoked


COMPOSITION = {
    "task=vit_b61": r"task=vit_b61 is unknown; known: .*coatnet_1, .*vit_b16, .*did you mean vit_b16\?$",
    "optim=lyon": r"optim=lyon is unknown; known: .*adamw, .*did you mean lion\?$",
    "scale=papr": r"scale=papr is unknown; known: embedded, gpu, paper; did you mean paper\?$",
    "task=vit_g14": r"task=vit_g14 has no setting at scale=embedded; tasks that have: .*vit_b16",
    "stesp=3": r"stesp is unknown; known: .*steps.*did you mean steps\?$",
    "optim.beta=0.9": r"optim\.beta is unknown; optim=lion takes .*betas.*did you mean optim\.betas\?$",
    "optim.learning_rate=0.9": r"optim\.learning_rate is unknown; .* did you mean optim\.lr\?$",
    "optim.cautious=true": r"to add it: \+optim\.cautious=true$",
    "lr=1e-3": r"lr is unknown; did you mean optim\.lr\?$",
    "epochs=3": r"epochs is unknown; did you mean steps\?$",
    "tuned=foo": r"tuned=foo is unknown; known: <scale>/<task>/<optim>, the rows of the tables in conf/tuned$",
    "experiment=table7": r"type \+experiment=table7$",
    "optim=lion,adamw": r"optim=lion,adamw gives several values: python run\.py -m optim=lion,adamw",
    "lion": r"lion is not a setting; expected name=value; did you mean optim=lion\?$",
    "output_dir=/x/a=b": r"""cannot be read: .*: "output_dir='/x/a=b'"$""",
    "--foo": r"unrecognized arguments: --foo; python run.py --help",
    "plan=maybe": r"plan=maybe must be true or false$",
    "task.recipe=foo": r"task\.recipe=foo is not for the command line: task= ",
    "data.module=foo": r"data\.module=foo is not for the command line: data= ",
    "schedule.warmup=3": r"schedule\.warmup is unknown; known below schedule: .*warmup_steps.*did you mean warmup_",
    "steps=many": r"steps=many must be a whole number$",
    "optim.lr=[1": r"\[1",
}


@pytest.mark.parametrize("override", COMPOSITION)
def test_what_cannot_be_composed_is_refused(invoke: Invoke, tmp_path: Path, override: str) -> None:
    result = invoke(override, "tracker=none")
    assert re.search(COMPOSITION[override], refusal(result))
    assert result.out == ""
    assert not list(tmp_path.iterdir())


VALUES = {
    "optim.lr=-1": r"optim\.lr=-1(\.0)? must be a finite number of at least 0",
    "optim.lr=abc": r"optim\.lr=abc must be a finite number of at least 0",
    "optim.lr=nan": r"optim\.lr=nan must be a finite number of at least 0",
    "optim.weight_decay=inf": r"optim\.weight_decay=inf must be",
    "+optim.beta=0.9": r"optim=lion has no argument beta; it takes .*betas",
    "optim.betas=[0.9,1.5]": r"optim\.betas=\[0\.9,1\.5\] must be 2 numbers in \[0, 1\)",
    "+optim.fused=yes": r"optim\.fused=yes must be true or false, or null$",
    "+optim.cautious=3": r"optim\.cautious=3 must be true or false$",
    "optim=adamw +optim.amsgrad=1": r"optim\.amsgrad=1 must be true or false$",
    "optim=adamw optim.eps=-1": r"optim\.eps=-1 must be a finite number of at least 0$",
    "optim._target_=builtins.dict": r"_target_=builtins\.dict is not a torch\.optim\.Optimizer$",
    "optim.momentum_dtype=foo": r"optim\.momentum_dtype=foo must be the name of a type: float32, .*, or null$",
    "optim.name=adamw": r"optim\.name=adamw is the name of torch\.optim\.AdamW, not of lion\.Lion$",
    "optim._target_=torch.optim": r"_target_=torch\.optim is a module, not a class$",
    "optim.name=../../up": r"optim\.name is '\.\./\.\./up', which cannot name a folder",
    "task.name=": r"task\.name is '', which is not a name",
    "output_dir=": r"output_dir= is empty",
    "seed=9223372036854775808": r"seed=9223372036854775808 must be at most",
    "model.args.depth=0": r"model\.args\.depth=0 must be a whole number of at least 1",
    "model.name=vit_bas_patch16": r"model\.name=vit_bas_patch16 is not a model of timm; similar: .*vit_base_patch16",
    "schedule.warmup_steps=100": r"warmup_steps=100 is longer than the run of 2 steps",
    "schedule.timescale=9": r"schedule\.timescale=9 has no effect with schedule=cosine; it is for rsqrt",
    "augment.mixup=inf": r"augment\.mixup=inf must be",
    "batch_size=7 accumulate=2": r"batch_size=7 is not divisible by 1 processes x accumulate=2; .*: 6, 8",
    "device_memory=big": r"device_memory=big is not a size",
    "steps=0": r"steps=0 must be at least 1",
    "batch_size=0": r"batch_size=0 must be at least 1",
    "seed=-1": r"seed=-1 must be at least 0",
    "precision=fp8": r"precision=fp8 is unknown; known: fp32, bf16",
    "schedule.name=foo": r"schedule(\.name)?=foo is unknown; known: .*cosine",
    "output_dir=/dev/null/x": r"output_dir=/dev/null/x: cannot write .*output_dir=",
    "init_from=/nowhere": r"init_from=/nowhere does not exist",
    "+data.options.foo=1": r"data=mnist5k: .*foo",
    "scale=paper data.path=/nowhere": r"/nowhere",
    "tracker=wandb tracker.mode=foo": r"tracker\.mode=foo is unknown; known: auto, online, offline",
}


@pytest.mark.parametrize("overrides", VALUES)
def test_a_value_that_cannot_be_is_refused(invoke: Invoke, overrides: str) -> None:
    chosen = overrides.split()
    small = [] if "scale=paper" in chosen else TINY
    result = invoke("tracker=none", *small, *chosen)
    assert re.search(VALUES[overrides], refusal(result))


def test_a_sweep_to_where_nothing_can_be_written_is_refused(invoke: Invoke) -> None:
    assert "output_dir=/dev/null/x" in refusal(invoke("-m", "seed=0,1", "output_dir=/dev/null/x", "tracker=none"))


def test_a_mistake_that_is_not_the_users_keeps_its_trace(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(cfg: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("recipes.runs.experiment.run", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        invoke("tracker=none")


def test_a_full_disk_is_one_line_that_says_how_to_go_on(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(cfg: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/metrics.jsonl")

    monkeypatch.setattr("recipes.runs.experiment.run", full)
    line = refusal(invoke("tracker=none"))
    assert "no space left" in line
    assert "/disk/metrics.jsonl" in line


def test_an_interrupted_run_leaves_with_130_and_one_line(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(cfg: object) -> None:
        raise KeyboardInterrupt("stopped at step 3; the same command continues from there")

    monkeypatch.setattr("recipes.runs.experiment.run", interrupted)
    result = invoke("tracker=none")
    assert result.status == 130
    assert result.err.split("\n") == ["", "stopped at step 3; the same command continues from there", ""]


def process(*overrides: str, cwd: Path, **env: str) -> tuple[Result, float]:
    """Run the real thing, and its CPU seconds; the last line of its output says whether torch was imported."""
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    start = os.times()
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *overrides],
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    end = os.times()
    spent = end.children_user - start.children_user + end.children_system - start.children_system
    return Result(done.returncode, done.stdout, done.stderr), spent


@pytest.mark.parametrize("override", ["task=vit_b61", "optim.beta=0.9"])
def test_a_misspelling_is_answered_at_once(tmp_path: Path, override: str) -> None:
    result, seconds = process(override, cwd=tmp_path)
    assert re.search(COMPOSITION[override], refusal(result))
    assert result.out == "False\n"
    assert seconds < SECONDS


def test_help_names_every_choice_at_once(tmp_path: Path) -> None:
    result, seconds = process("--help", cwd=tmp_path)
    assert result.status == 0
    assert result.err == ""
    words = set(re.findall(r"[\w.]+", result.out))
    for group in ("task", "optim", "data", "scale", "augment", "schedule", "tracker"):
        names = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert names
        assert names <= words, f"{group}: --help leaves out {sorted(names - words)}"
    assert result.out.endswith("False\n"), "torch was imported"
    assert seconds < SECONDS


def test_a_mistake_found_by_the_run_itself_is_one_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    result, _ = process("optim.lr=-1", "tracker=none", cwd=tmp_path)
    assert "optim.lr=-1" in refusal(result)


def test_the_trace_is_shown_to_who_asks_for_it(tmp_path: Path) -> None:
    result, _ = process("optim=lyon", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert result.status == 1
    assert "Traceback" in result.err
    assert "lyon" in result.err


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} {RUN} -m +experiment=table7 plan=true | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, cli.CLOSED)  # 0 where all of it fits the pipe before head has gone
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("output_dir=~/x", f"output_dir={Path.home()}/x"),
        ("data.path=~", f"data.path={Path.home()}"),
        ("data.path=~/a,~/b", f"data.path={Path.home()}/a,{Path.home()}/b"),
        ("output_dir=/x/größe", "output_dir='/x/größe'"),
        ("output_dir='/x/größe'", "output_dir='/x/größe'"),
        ("data.path=/x/a,/x/ä", "data.path=/x/a,/x/ä"),  # several values: the user's own quotes say which
        ("output_dir=/x/a~b", "output_dir=/x/a~b"),
        ("~optim.eps", "~optim.eps"),
    ],
)
def test_a_home_folder_and_letters_beyond_ascii_are_read(typed: str, meant: str) -> None:
    assert command_line.expanded(typed) == meant


def test_flags_may_come_after_overrides() -> None:
    assert command_line.ordered(["task=x", "-m", "seed=0,1"]) == ["-m", "task=x", "seed=0,1"]
    assert command_line.ordered(["task=x", "--cfg", "job", "+a.b=3", "~c"]) == [
        "--cfg",
        "job",
        "task=x",
        "+a.b=3",
        "~c",
    ]
    assert command_line.ordered(["optim.lr=1", "optim.lr=2"]) == ["optim.lr=1", "optim.lr=2"]


def test_a_value_is_not_lost_between_the_check_and_the_run(tmp_path: Path) -> None:
    result, _ = process("plan=true", "tracker=none", f"output_dir={tmp_path}/größe", cwd=tmp_path)
    assert result.status == 0, result.err
    assert result.out.startswith(f"{tmp_path}/größe/vit_b16/lion/")
    assert not list(tmp_path.iterdir())


def test_a_finished_run_says_what_its_conditions_let_expect(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = invoke(*TINY)
    assert "expected" not in first.out
    (path,) = tmp_path.rglob("summary.json")
    summary = json.loads(path.read_text())
    row = {key: summary[key] for key in ("lr", "weight_decay", "optim_class", "optim_args")}
    row |= {"seeds": 5, "mean": 0.9, "low": 0.85, "high": 0.95}
    tuned = {"metric": "accuracy", "goal": "max", "split": "test", "optimizers": {"lion": row}}
    (tmp_path / "embedded.yaml").write_text(yaml.safe_dump({"vit_b16": {summary["conditions"]: tuned}}))
    monkeypatch.setattr(expectation, "EXPECTED", tmp_path)
    said = "worse than expected: this setting has test accuracy 85 to 95% (95% prediction interval, 5 seeds)"
    assert invoke(*TINY).out.splitlines()[-1] == said
    assert invoke(*TINY, "seed=1").out.splitlines()[-2] == said
    assert "expected" not in invoke(*TINY, "steps=3").out

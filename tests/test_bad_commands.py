"""Commands with generated mistakes: each mistake is named in one answer, without a traceback and before any work."""

import dataclasses
import os
import random
import string
import subprocess
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recipes.runs import cli
from recipes.settings import schema as config

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 2.0  # of CPU time: an answer of a process of its own


class Mistake(NamedTuple):
    typed: str
    named: str  # what the answer has to hold


def leaves(schema: Any, above: str = "") -> dict[str, Any]:
    """Every key of the schema below its open nodes, with its type."""
    result: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(schema).items():
        key = f"{above}{name}"
        if dataclasses.is_dataclass(kind):
            result |= leaves(kind, f"{key}.")
        elif kind is not Any and typing.get_origin(kind) is not dict:
            result[key] = kind
    return result


LEAVES = leaves(config.Config)
FREE = ("tuned.file", "tuned.source", "augment.name", "tracker.entity")  # any text will do
WRONG = {
    int: ["abc", "1.5", "true", "-1", str(10**30), "[1]", "{a: 1}", "nan", "'7'", "???"],
    float: ["abc", "true", "-1", "nan", "inf", "[1]", f"1{'0' * 400}"],
    bool: ["maybe", "2", "null", "[true]", "yes"],
    str: ["[a]", "{a: 1}", "true", "''"],
}
OPTIM = {
    "optim.lr": ["-1", "abc", "null", "true", "nan", "[1]"],
    "optim.weight_decay": ["-0.1", "abc", "inf", "{a: 1}"],
    "optim.betas": ["3", "[0.9]", "[0.9,1]", "[0.9,a]", "[0.9,nan]", "[0.9,-0.1]", "abc"],
    "+optim.fused": ["yes", "3", "[true]"],
    "+optim.cautious": ["yes", "1", "null_"],
    "+optim.clip_rms": ["abc", "true", "nan"],
    "optim._target_": ["builtins.dict", "nowhere.Lion", "lion.Tiger", "Lion", "json.dumps"],
    "optim.name": ["../../up", "''", "a/b", ".hidden", "x" * 300],
    "task.name": ["../../up", "''", "a/b", ".hidden"],
}
MODEL = {
    "model.args.depth": ["-1", "0", "abc", "1.5", "true", "null", str(10**30)],
    "model.args.embed_dim": ["-4", "0", "[64]"],
    "model.args.patch_size": ["0", "big"],
    "model.name": ["vit_bas_patch16_224", "nothing_like_it", "''"],
}
PLACES = {
    "output_dir": ["/dev/null/x", "''", f"/tmp/{'y' * 300}"],
    "init_from": ["/nowhere/weights", "x.safetensors", "run:optim=adamw", "run:task=vit_b61"],
}
UNKNOWN = {"task": "vit_b16", "optim": "adamw", "data": "mnist5k", "scale": "paper", "schedule": "cosine"}
UNKNOWN |= {"tracker": "wandb", "augment": "randaug_mixup", "tuned": "embedded/vit_b16/lion", "+experiment": "table7"}


def misspelt(word: str, draw: random.Random) -> str:
    """A word with one letter too many, too few, or two in the other order."""
    at = draw.randrange(len(word) - 1)
    letter = draw.choice(string.ascii_lowercase)
    kinds = [
        word[:at] + letter + word[at:],
        word[:at] + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ]
    return draw.choice(kinds)


def wrong_value(draw: random.Random) -> Mistake:
    key = draw.choice([key for key in LEAVES if key not in FREE])
    kind = LEAVES[key]
    optional = types.NoneType in typing.get_args(kind)
    plain = next(arm for arm in (typing.get_args(kind) or (kind,)) if arm is not types.NoneType)
    values = WRONG[plain] + ([] if optional else ["null"])
    return Mistake(f"{key}={draw.choice(values)}", key)


def of(pool: dict[str, list[str]]) -> Callable[[random.Random], Mistake]:
    def drawn(draw: random.Random) -> Mistake:
        key = draw.choice(list(pool))
        return Mistake(f"{key}={draw.choice(pool[key])}", key.lstrip("+").rpartition(".")[2])

    return drawn


def unknown_name(draw: random.Random) -> Mistake:
    group = draw.choice(list(UNKNOWN))
    while (name := misspelt(UNKNOWN[group], draw)) == UNKNOWN[group] or (ROOT / f"conf/{group}/{name}.yaml").exists():
        pass
    return Mistake(f"{group}={name}", f"{group.lstrip('+')}={name}")


def misspelt_key(draw: random.Random) -> Mistake:
    nodes = {key.rpartition(".")[0] for key in LEAVES} | set(config.Config.__dataclass_fields__)
    key = draw.choice([*LEAVES, "optim.lr", "optim.betas", "model.args.depth"])
    above, dot, name = key.rpartition(".")
    while (other := above + dot + misspelt(name, draw)) in {*LEAVES, *nodes, "optim.lr", "optim.betas"}:
        pass
    return Mistake(f"{other}=3", other)


def bad_grammar(draw: random.Random) -> Mistake:
    key = draw.choice([key for key in LEAVES if key not in FREE])
    value = draw.choice(["[1", "a=b", "{a", "'x", "(", "a]", "x y]", "${", ")"])
    typed = draw.choice([f"{key}={value}", f"{key}={value}", key.replace(".", "_") + "x", f"={value}", f"+{key}"])
    return Mistake(typed, typed)


KINDS = [wrong_value, wrong_value, of(OPTIM), of(MODEL), of(PLACES), unknown_name, misspelt_key, bad_grammar]


def commands(count: int, seed: int) -> list[list[Mistake]]:
    """Commands of one to three mistakes in different settings."""
    draw = random.Random(seed)
    made: list[list[Mistake]] = []
    while len(made) < count:
        result = [draw.choice(KINDS)(draw) for _ in range(draw.randint(1, 3))]
        nodes = [mistake.typed.lstrip("+").partition("=")[0].partition(".")[0] for mistake in result]
        if len(set(nodes)) == len(nodes):  # in one node one may hide the other: optim=nothing and optim.name=x
            made.append(result)
    return made


def check(mistakes: list[Mistake], status: object, out: str, err: str) -> None:
    assert status in (1, 2), (mistakes, status, err)
    assert "Traceback" not in out + err, (mistakes, err)
    assert out == "", (mistakes, out)
    lines = err.splitlines()
    assert all(line.startswith("error: ") for line in lines), (mistakes, err)
    for mistake in mistakes:
        assert any(mistake.named in line for line in lines), (mistake, err)


def answer(
    mistakes: list[Mistake], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], multirun: bool
) -> None:
    """What run.py says to a command, in this process; it must not get as far as Hydra."""
    monkeypatch.setattr(sys, "argv", ["run.py", *(["-m"] if multirun else []), *(each.typed for each in mistakes)])
    monkeypatch.setattr(cli, "FULL_TRACE", False)
    status: object = None
    try:
        status = cli.start(lambda: pytest.fail(f"taken as right: {mistakes}"))
    except SystemExit as end:
        status = end.code
    out, err = capfd.readouterr()
    check(mistakes, status, out, err)


def answer_all(count: int, seed: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # guard() sets it; so it is taken back
    for number, mistakes in enumerate(commands(count, seed)):
        answer(mistakes, monkeypatch, capfd, multirun=number % 5 == 0)


def test_each_of_forty_bad_commands_names_all_its_mistakes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answer_all(40, 1, monkeypatch, capfd)


@pytest.mark.slow
def test_each_of_three_hundred_bad_commands_names_all_its_mistakes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answer_all(300, 2, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("optim=null", "optim=null"),
        ("tuned=null", "tuned=null"),
        ("~task", "~task"),
        ("~seed", "~seed"),
        ("~schedule.name", "~schedule.name"),
        ("+foo=1", "foo is unknown"),
        ("+foo.bar=1", "foo is unknown"),
        ("++lr=1", "optim.lr"),
        ("+schedule.warmup=1", "schedule.warmup is unknown"),
        ("+data.size=1", "data.size is unknown"),
        ("trials=3", "scripts/tune.py"),
        ("optim.lr=null", "optim.lr=null"),
    ],
)
def test_what_nothing_reads_is_not_added_and_what_every_run_has_is_not_taken_away(
    typed: str, named: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    answer([Mistake(typed, named), Mistake("steps=abc", "steps=abc")], monkeypatch, capfd, multirun=False)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("seed=range(0,1000000000)", "1,000,000,000 runs"),
        ("seed=range(0,3,0)", "gives no value"),
        ("seed=range(3,0)", "gives no value"),
        ("seed=glob(*)", "gives no value"),
        ("optim=glob(z*)", "gives no value"),
    ],
)
def test_sweeps_of_nothing_and_of_more_than_can_be_listed(
    typed: str, named: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    answer([Mistake(typed, named)], monkeypatch, capfd, multirun=True)


def process(mistakes: list[Mistake], folder: Path) -> float:
    """The same in a process of its own; returns its CPU seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    start = os.times()
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *(each.typed for each in mistakes)],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    end = os.times()
    check(mistakes, done.returncode, done.stdout, done.stderr)
    assert not list(folder.iterdir())
    return end.children_user - start.children_user + end.children_system - start.children_system


@pytest.mark.slow
def test_ten_answers_of_processes_take_two_seconds_at_most(tmp_path: Path) -> None:
    assert max(process(mistakes, tmp_path) for mistakes in commands(10, 3)) < SECONDS


def test_an_answer_of_a_process_takes_two_seconds_at_most(tmp_path: Path) -> None:
    mistakes = [Mistake("optim=lyon", "optim=lyon"), Mistake("steps=abc", "steps=abc"), Mistake("lr=1", "optim.lr")]
    assert process(mistakes, tmp_path) < SECONDS

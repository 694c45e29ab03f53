"""Runs and sweeps killed at random moments: the same command continues to the bits of one that was not killed."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import command, end, start

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TINY = [
    "task=vit_b16",
    "tracker=none",
    "steps=60",
    "eval_every=15",
    "checkpoint_every=4",
    "log_every=6",
    "batch_size=16",
    "schedule.warmup_steps=4",
    "model.args.depth=1",
    "model.args.embed_dim=16",
    "model.args.num_heads=2",
]
RUNS = {
    "lion": ["optim=lion", "+model.args.proj_drop_rate=0.2"],
    "average": ["optim=adamw", "ema_decay=0.9", "clip_norm=1.0"],
    "workers": ["optim=lion", "data.workers=1", "augment.shift=2"],
    "bf16": ["optim=adafactor", "accumulate=2", "precision=bf16"],
}
KINDS: dict[str, tuple[int, list[str]]] = {  # processes, arguments
    **{name: (1, arguments) for name, arguments in RUNS.items()},
    "replicas": (2, ["optim=adamw", "ema_decay=0.9"]),
    "shards": (2, ["optim=lion", "shard=true", "precision=bf16"]),
    "sweep": (1, ["-m", "optim=lion,adamw", "seed=0,1", "steps=20"]),
    "replicas of a sweep": (2, ["-m", "optim=lion,adamw", "steps=30"]),
    "side by side": (1, ["-m", "optim=lion,adamw", "hydra/launcher=parallel"]),
}
ORDER = [*RUNS, "replicas", "shards", "sweep", *RUNS, "replicas", "shards", "replicas of a sweep", "side by side"]
PATIENCE = 10.0  # seconds after which the launcher ends those that wait for one that has gone before it joined them


@dataclass
class Tally:
    """What a soak came to."""

    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0  # end of a process whose neighbour was killed, in seconds
    by_launcher: int = 0  # processes that the launcher had to end, which waited for one that never came


class Subject:
    """One command in a folder of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.count, arguments = KINDS[kind]
        flags = [text for text in arguments if text == "-m"]
        given = [text for text in arguments if text != "-m"]
        self.arguments = [*flags, *TINY, *given, f"output_dir={folder / 'out'}"]
        folder.mkdir()

    def start(self) -> list[BaseProcess]:
        return start(command, self.arguments, count=self.count, said=self.folder / "said")

    def said(self, rank: int = 0) -> str:
        path = self.folder / f"said-{rank}"
        return path.read_text() if path.exists() else ""

    def finish(self) -> float:
        """Run to the end; returns how long it took."""
        begin = time.monotonic()
        processes = self.start()
        for process in processes:
            process.join(300)
        status = [process.exitcode for process in processes]
        assert set(status) == {0}, f"{self.kind}: {status}\n{self.said()}"
        return time.monotonic() - begin

    def kill(self, after: float, number: signal.Signals, chance: random.Random, tally: Tally) -> bool:
        """Start, send a signal to one process or to all after some seconds; whether it ended anything."""
        processes = self.start()
        time.sleep(after)
        victims = chance.choice([processes, [chance.choice(processes)]])
        for process in victims:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)
        sent = time.monotonic()
        while any(process.is_alive() for process in processes):
            time.sleep(0.01)
            waited = time.monotonic() - sent
            if waited > PATIENCE and any(process.exitcode for process in processes):
                for process in processes:
                    if process.is_alive():
                        process.kill()
                        process.join()
                        tally.by_launcher += 1
            assert waited < 12 * PATIENCE, f"{self.kind}: hangs after {number.name}\n{self.said()}"
        if len(victims) < len(processes):
            tally.slowest = max(tally.slowest, time.monotonic() - sent)
        # What SIGKILL leaves behind, such as a loader that finds its trainer gone, may say so.
        if number != signal.SIGKILL and "Traceback" in (said := "".join(self.said(rank) for rank in range(self.count))):
            tally.wrong.append(f"{self.kind}: {number.name} after {after:.2f} s: {said}")
        return any(process.exitcode for process in processes)


def nothing() -> None:
    """What a process does that is only started."""


def lines(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """The measurements of each run below a folder, in order; the pace has no value that could be the same."""
    found = {}
    for path in sorted(folder.rglob("metrics.jsonl")):
        text = path.read_text()
        assert text.endswith("\n"), f"{path} ends in a torn line"
        rows = [json.loads(line) for line in text.splitlines()]
        found[path.parent.relative_to(folder).as_posix()] = [
            (row["step"], row["split"], row["name"], None if row["split"] == "time" else row["value"]) for row in rows
        ]
    return found


def differences(folder: Path, expected: Path) -> list[str]:
    """What runs below a folder have other than those below another."""
    one, other = lines(folder), lines(expected)
    if one.keys() != other.keys():
        return [f"runs {sorted(one)} and {sorted(other)}"]
    wrong = [f"{name}: measurements" for name in one if one[name] != other[name]]
    for path in sorted(expected.rglob("*.safetensors")):
        mine = folder / path.relative_to(expected)
        if not mine.exists():
            wrong.append(f"{mine} is missing")
            continue
        weights, others = load_file(mine), load_file(path)
        wrong += [f"{mine}: {name}" for name, value in others.items() if not torch.equal(value, weights[name])]
    for path in sorted(expected.rglob("summary.json")):
        mine, theirs = (json.loads((place / path.relative_to(expected)).read_text()) for place in (folder, expected))
        wrong += [f"{path}: {key}" for key in ("status", "final", "best", "test") if mine[key] != theirs[key]]
    wrong += [f"left behind: {path}" for path in folder.rglob(".*.tmp")]
    return wrong


def soak(folder: Path, kills: int, kinds: list[str], seed: int, say: Callable[[str], None] = print) -> Tally:
    """Kill commands at random moments until so many kills have ended one, and compare each with an unkilled one."""
    chance, tally = random.Random(seed), Tally()
    expected: dict[str, tuple[Path, float]] = {}
    number = 0
    end(start(nothing, count=1, said=folder / "said"), folder / "said")  # the imports belong to no run
    while sum(tally.kills.values()) < kills:
        kind = kinds[number % len(kinds)]
        if kind not in expected:
            whole = Subject(kind, folder / f"whole {kind}")
            expected[kind] = whole.folder / "out", whole.finish()
        subject = Subject(kind, folder / f"{number} {kind}")
        for _ in range(chance.randint(2, 5)):
            sent = chance.choice(SIGNALS)
            if subject.kill(chance.uniform(0, expected[kind][1]), sent, chance, tally):
                tally.kills[f"{kind} {sent.name}"] += 1
        time.sleep(1.0 if kind == "side by side" else 0.0)  # workers end a moment after their sweep
        subject.finish()
        wrong = differences(subject.folder / "out", expected[kind][0])
        tally.wrong += [f"{subject.folder.name}: {what}" for what in wrong]
        number += 1
        say(f"{sum(tally.kills.values())} kills, {number} commands, wrong: {tally.wrong[:3]}")
    return tally


@pytest.mark.slow
def test_hundred_kills_leave_no_trace(tmp_path: Path) -> None:
    tally = soak(tmp_path, 100, ORDER, seed=0)
    print(dict(tally.kills), f"slowest {tally.slowest:.1f} s, ended by the launcher {tally.by_launcher}")
    assert not tally.wrong
    assert sum(tally.kills.values()) >= 100

"""Run records made by hand, in the format that a run writes."""

import hashlib
import json
from pathlib import Path

import pytest

from reports.protocol import TRIAL_SEEDS_FROM


@pytest.fixture
def write_run(tmp_path):
    """Write one record and return its folder; every key of the summary can be given."""

    def write(root=None, curve=(), **given):
        summary = {
            "status": "completed",
            "task": "digits",
            "optim": "adamw",
            "variant": None,
            "scale": "embedded",
            "seed": 0,
            "steps": 100,
            "metric": "accuracy",
            "goal": "max",
            "final": 0.9,
            "best": 0.9,
            "test": 0.88,
            "lr": 1e-3,
            "weight_decay": 0.1,
            "steps_per_second": 20.0,
            "optimizer_step_ms": 1.5,
            "optimizer_state_bytes": 3_200_000,
            "num_parameters": 400_000,
            "data": "mnist5k",
            "data_fingerprint": {"val": "fedcba9876543210", "train": "0123456789abcdef"},
            "augment": "none",
            "batch_size": 64,
            "model": "vit",
            "model_args": {"depth": 4, "width": 64},
            "tuned": "embedded/digits/adamw",
            "diverged_step": None,
            "cause": None,
            "versions": {"torch": "2.6"},
            "git_commit": "0" * 40,
        } | given
        if summary["status"] != "completed":
            summary = summary | {"final": None, "best": None, "test": None} | given
        run_id = hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()[:12]
        summary = {"run_id": run_id} | summary
        folder = Path(root or tmp_path / "outputs") / summary["task"] / summary["optim"] / summary["run_id"]
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "config.yaml").write_text("{}\n")
        lines = [
            {"step": step, "split": "val", "name": summary["metric"], "value": value, "seconds": seconds}
            for step, seconds, value in curve
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return write


@pytest.fixture
def tune(write_run):
    """Write what the protocol asks for: nine trials around a setting, which is the best of them, and its seeds.

    Of two values, a third seed has their mean, so that a pair of numbers says what an interval is around.
    """

    def write(optim, values, curves=None, root=None, **given):
        lr, weight_decay = given.pop("lr", 1e-3), given.pop("weight_decay", 0.1)
        finals = (0.9, 0.5) if given.get("goal", "max") == "max" else (1.0, 2.0)
        finals = given.pop("trial_finals", finals)
        for rate in (lr / 3, lr, lr * 3):
            for decay in (weight_decay / 3, weight_decay, weight_decay * 3):
                final = finals[0 if (rate, decay) == (lr, weight_decay) else 1]
                at = {"lr": rate, "weight_decay": decay, "seed": TRIAL_SEEDS_FROM, "final": final}
                write_run(root, optim=optim, **(given | at))
        values = [*values, sum(values) / 2] if len(values) == 2 else values
        folders = []
        for seed, value in enumerate(values):
            curve = curves[seed % len(curves)] if curves else ()
            at = {"lr": lr, "weight_decay": weight_decay, "seed": seed}
            folders.append(write_run(root, curve, optim=optim, **({"test": value, "final": value} | given | at)))
        return folders

    return write


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"

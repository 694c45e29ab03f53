"""The command that reproduces a recorded run, from its summary."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

FURTHER = {"steps": "steps", "batch_size": "batch_size", "warmup_steps": "schedule.warmup_steps"}


def command_of(summary: dict[str, Any], arguments: Sequence[str] = ()) -> str:
    """Return the command of a run: task, data, settings, seed and length.

    `arguments` names the optimizer's recorded arguments that are not its defaults. Settings that a summary lacks (a
    path to own data, another clipping) are only in the record's config.yaml.
    """
    words = [f"task={summary['task']}", f"optim={summary['optim']}"]
    if summary.get("scale") not in (None, "embedded"):
        words.append(f"scale={summary['scale']}")
    words += [f"seed={summary['seed']}"] if summary.get("seed") is not None else []
    for key in ("lr", "weight_decay"):
        if summary.get(key) is not None:
            words.append(f"optim.{key}={summary[key]:g}" if _short(summary[key]) else f"optim.{key}={summary[key]!r}")
    recorded = summary.get("optim_args")
    if isinstance(recorded, dict):
        words += [f"optim.{name}={_value(recorded[name])}" for name in arguments if name in recorded]
    words += [f"{option}={summary[key]}" for key, option in FURTHER.items() if summary.get(key) is not None]
    return f"python run.py {shlex.join(words)}"


def _short(number: float) -> bool:
    return float(f"{number:g}") == float(number)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return value if isinstance(value, str) else json.dumps(value)

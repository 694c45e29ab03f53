"""Collect the results of searches in a small file for publication: curves on a grid, scores, signs, the funnel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.discovery.funnel import FUNNEL, searches_under
from scripts.discovery.searching import SCORES

POINTS = 50  # of a curve
KINDS = ("search", "random", "constants")
BENCH = "bench.json"


def gather(roots: Sequence[Path]) -> dict[str, Any]:
    """Everything that the report shows, from the folders of searches under `roots`; the first may hold a funnel, too.

    Searches that begin with AdamW and have both baselines are compared; for those that begin with Lion without its
    sign, the first program with a sign is looked for.

    Raises:
        ValueError: no search under them has come to its end.
    """
    folders = [path.parent for root in roots for path in sorted(root.rglob(SCORES))]
    root = roots[0]
    if not folders:
        raise ValueError(f"{root} holds no search that has ended: python scripts/discover.py search --out {root}/seed0")
    gathered: dict[str, Any] = {"searches": [], "signs": []}
    for folder in folders:
        content = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        if content["settings"]["start"] == "lion_without_sign":
            gathered["signs"] += [_sign(search, content) for search in searches_under(folder)]
        elif "random" in content["measured"]:
            gathered["searches"].append({**content, "curves": _curves(folder)})
    for name in (FUNNEL, BENCH):
        file = root / name
        gathered[file.stem] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return gathered


def _curves(folder: Path) -> dict[str, Any]:
    """For the search (its first round) and each baseline, what its log says on a grid."""
    places = {"search": "round0", "random": "random", "constants": "constants"}
    return {kind: _curve(folder / place) for kind, place in places.items()}


def _curve(folder: Path) -> dict[str, list[float | None]]:
    """The best so far against evaluations, and shares and the median fitness against programs."""
    from lion.discovery.search.evolution import Counters, read_log

    lines = read_log(folder)
    best, bests = None, []
    for line in lines:
        if "key" in line:
            if line["fitness"] is not None and (best is None or line["fitness"] < best):
                best = line["fitness"]
            bests.append(best)
    counted = [line for line in lines if "counters" in line]
    counters = [Counters(**line["counters"]) for line in counted]
    grid = _grid(len(bests))
    rows = _grid(len(counted))
    return {
        "evaluations": [place + 1 for place in grid],
        "best": [bests[place] for place in grid],
        "programs": [counters[row].cycles for row in rows],
        "evaluated": [counters[row].evaluations for row in rows],
        "median": [counted[row]["median"] for row in rows],
        "length": [round(counted[row]["length"], 2) for row in rows],
        **{
            share: [round(counters[row].shares()[share], 5) for row in rows]
            for share in ("cache_hits", "redundant", "invalid")
        },
    }


def _grid(length: int) -> list[int]:
    """At most POINTS places of a list of this length, evenly spaced, the last among them."""
    return sorted({round((length - 1) * place / (POINTS - 1)) for place in range(POINTS)}) if length else []


def _sign(search: Path, content: dict[str, Any]) -> dict[str, Any]:
    """When the best of a search first was a sign, and what the last best is."""
    from lion.discovery.language.analysis import live
    from lion.discovery.language.program import parse, render
    from lion.discovery.search.evolution import read_log
    from lion.discovery.simplification.behaviour import remembers, sign_like, size_spread

    evaluations, first, program = 1, None, None
    for line in read_log(search):
        evaluations += "key" in line
        if "program" in line:
            program = live(parse(line["program"]))
            if first is None and sign_like(program):
                first = {
                    "evaluation": evaluations,
                    "cycle": line["cycle"],
                    "program": render(program),
                    "remembers": remembers(program),
                }
    assert program is not None
    spread = size_spread(program)
    return {
        "seed": content["settings"]["seed"],
        "first": first,
        "measured": content["measured"]["search"],
        "last": {
            "program": render(program),
            "spread": round(spread, 4) if spread < float("inf") else None,
            "remembers": remembers(program),
        },
    }

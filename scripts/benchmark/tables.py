"""Tables and the figure of scripts/bench.py."""

from pathlib import Path
from typing import Any

from reports.protocol import REFERENCE
from scripts.benchmark.contenders import LIONS

STREAM = "stream"  # the row of the in-place stream, the limit that the memory sets
HEADERS = {
    "optimizer": "optimizer",
    "step": "step",
    "ms": "ms a step",
    "quartiles": "quartiles",
    "against": "against",
    "ratio": "ratio",
    "ratio_quartiles": "quartiles ",
    "gb_per_s": "GB/s",
    "of_stream": "of stream",
    "state_mb": "state, MB",
    "bytes_per_parameter": "bytes/param",
    "peak_mb": "peak, MB",
    "note": "",
}


def table(rows: list[dict[str, Any]], style: str) -> str:
    """The figures as text, empty columns left out."""
    from tabulate import tabulate

    digits = {"ms": 2, "ratio": 3, "gb_per_s": 1, "of_stream": 2, "state_mb": 2, "bytes_per_parameter": 3, "peak_mb": 2}
    lines = []
    for row in rows:
        line = {k: f"{row[k]:.{n}f}" for k, n in digits.items() if row.get(k) is not None}
        line |= {name: row.get(name, "") for name in ("optimizer", "step", "against", "note")}
        if "ms" in row:
            line["quartiles"] = f"{row['ms_low']:.2f} to {row['ms_high']:.2f}"
        if "ratio" in row:
            line["ratio_quartiles"] = f"{row['ratio_low']:.3f} to {row['ratio_high']:.3f}"
        lines.append(line)
    used = [column for column in HEADERS if any(line.get(column) for line in lines)]
    cells = [[line.get(column, "") for column in used] for line in lines]
    right = ["left" if column in ("optimizer", "step", "against", "note") else "right" for column in used]
    return tabulate(cells, [HEADERS[c] for c in used], tablefmt=style, disable_numparse=True, colalign=right)


def write_figure(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Bars of the median time with the quartiles, and the stream's time as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    timed = [row for row in rows if "ms" in row and row["optimizer"] != STREAM][::-1]
    names, middle = [row["optimizer"] for row in timed], [row["ms"] for row in timed]
    spread = [[row["ms"] - row["ms_low"] for row in timed], [row["ms_high"] - row["ms"] for row in timed]]
    colours = ["C1" if name in LIONS else "C0" if REFERENCE in name else "0.7" for name in names]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.28 * len(timed)), layout="constrained")
    axes.barh(names, middle, xerr=spread, color=colours, ecolor="0.3")
    for row in rows:
        if row["optimizer"] == STREAM:
            axes.axvline(row["ms"], color="k", linestyle=":", label="in-place stream of Lion's float32 traffic")
            axes.legend(loc="lower right")
    if max(middle) > 20 * min(middle):
        axes.set_xscale("log")
    axes.set(xlabel="milliseconds a step (median, quartiles)", title=title)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)

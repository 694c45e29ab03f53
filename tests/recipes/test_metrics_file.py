import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.metrics_file import read_metrics
from recipes.runs.record import Record, folder_of
from reports.records import reader

NAMES = st.sampled_from(["train", "val", "loss", "zero-shot", "Güte", "täst"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)
MEASUREMENTS = st.fixed_dictionaries(
    {"step": st.integers(0, 100), "split": NAMES, "name": NAMES, "value": NUMBERS, "seconds": st.floats(0, 1e6)}
)
DAMAGE = st.sampled_from(["", "[]", "null", "{", '{"step": 1}', '{"step": -1, "split": "val", "name": "loss"}', "\x00"])


@settings(deadline=None)
@given(st.lists(st.tuples(MEASUREMENTS, st.none() | DAMAGE | st.integers(1, 40))), NAMES)
def test_whole_lines_are_read_and_torn_ones_skipped(tmp_path_factory, entries, split) -> None:
    """What is expected is known from the writing: a line cut short is no JSON, the others are."""
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    whole, texts = [], []
    for measurement, damage in entries:
        text = json.dumps(measurement)
        if damage is None:
            whole.append(measurement)
        texts.append(text if damage is None else damage if isinstance(damage, str) else text[:-damage])
    path.write_text("\n".join(texts), encoding="utf-8")
    assert read_metrics(path) == whole
    assert read_metrics(path, split) == [line for line in whole if line["split"] == split]
    assert read_metrics(path, name=split) == [line for line in whole if line["name"] == split]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('"value": null, "nonfinite": "-inf", "seconds": 1', float("-inf")),
        ('"value": NaN, "seconds": 1', float("nan")),
        ('"value": null, "seconds": null', float("nan")),
        ('"value": true, "seconds": 1', None),
        ('"value": "0.5", "seconds": 1', None),
        (f'"value": {10**400}, "seconds": 1', None),
        ('"value": 0.5', None),
    ],
)
def test_values_that_json_lacks_and_values_that_are_no_numbers(tmp_path: Path, line: str, value: float | None) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "split": "val", "name": "loss", {line}}}\n')
    assert [str(read["value"]) for read in read_metrics(tmp_path / "metrics.jsonl")] == (
        [] if value is None else [str(value)]
    )


def test_a_resumed_run_and_a_report_read_the_same_of_a_torn_file(tiny: Any) -> None:
    cfg = tiny()
    record = Record(folder_of(cfg), cfg)
    record.begin(0)
    for step in (5, 10, 15):
        record.log(step, "val", {"loss": float(step)}, float(step))
    record.close()
    path = record.folder / "metrics.jsonl"
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, second[:25], third, third[:-4]]))
    expected = [(5, 5.0), (15, 15.0)]
    reported = reader.read_metrics(record.folder, "val", "loss")
    assert list(zip(reported["step"], reported["value"], strict=True)) == expected
    resumed = Record(record.folder, cfg)
    assert [(line["step"], line["value"]) for line in resumed.begin(15)] == expected
    resumed.close()

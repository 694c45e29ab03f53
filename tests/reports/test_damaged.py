"""Whatever a folder of records has gone through: the good ones are shown, the bad ones named, and nothing is raised."""

import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.publish import write_page
from reports.records import reader
from reports.records.reader import read_metrics, read_records
from reports.records.speeds import read_speeds
from reports.results import compared
from reports.tables.render import to_csv, to_latex, to_markdown

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["../../x", "/etc/x", "vit_0.2m", "a b", "$x^$", "\ud800", "..", "", "CON", "ä", "completed", "max", "\u2028", "_x"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 2**63, 1e308, -1e308, 0, 5e-324, True])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = [*reader.TEXT, *reader.FACTS, *reader.WHOLE, *reader.REAL, "optim_class", "variant", "new"]
CURVE = [(10, 1.0, 0.5), (20, 2.0, 0.6), (100, 3.0, 0.7)]


def everything(outputs, folder):
    """Do all that compare.py does, but for the pictures."""
    records = read_records([outputs])
    results = compared(records.runs, read_speeds([outputs]), "adamw", problems=records.problems)
    for render in (to_markdown, to_csv, to_latex):
        (folder / "text").write_text(render(results.tables), encoding="utf-8")
    write_page(results, folder)
    return records


@st.composite
def damage(draw):
    """One way for a record to go wrong: a function of its folder."""
    kind = draw(st.sampled_from(["values", "values", "values", "cut", "bytes", "metrics", "folder", "gone", "bare"]))
    if kind == "values":
        changed = draw(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=4))
        return lambda f: rewrite(f, lambda summary: summary | changed)
    if kind == "bare":
        kept = draw(st.sets(st.sampled_from(KEYS), max_size=4))
        return lambda f: rewrite(f, lambda summary: {k: v for k, v in summary.items() if k in kept})
    if kind in ("cut", "bytes"):
        name = draw(st.sampled_from(["summary.json", "metrics.jsonl", "config.yaml"]))
        where, content = draw(st.floats(0, 1)), draw(st.binary(max_size=30))

        def torn(f):
            whole = (f / name).read_bytes()
            at = int(where * len(whole))
            (f / name).write_bytes(whole[:at] + (content if kind == "bytes" else b""))

        return torn
    if kind == "metrics":
        lines = draw(st.lists(JSON | st.fixed_dictionaries(dict.fromkeys(("step", "split", "name", "value"), JSON))))
        values = draw(st.lists(st.tuples(NUMBERS, JSON, JSON), max_size=4))
        lines += [{"step": a, "split": "val", "name": "accuracy", "value": b, "seconds": c} for a, b, c in values]
        return lambda f: (f / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if kind == "folder":
        name = draw(st.sampled_from(["summary.json", "metrics.jsonl", "config.yaml"]))
        return lambda f: ((f / name).unlink(), (f / name).mkdir())
    return lambda f: (f / "summary.json").unlink()


def rewrite(folder, change):
    path = folder / "summary.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize("examples", [pytest.param(12, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)])
def test_bad_records_never_hide_good_ones(write_run, tmp_path, examples):
    good = {write_run(tmp_path / "good", CURVE, optim=o, seed=s).name for o in ("adamw", "lion") for s in (0, 1)}
    victims = [write_run(tmp_path / "bad", CURVE, optim=o, seed=7) for o in ("adamw", "sgd")]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=examples < 100)
    @given(st.tuples(damage(), damage()))
    def holds(ways):
        outputs = tmp_path / "outputs"
        shutil.rmtree(outputs, ignore_errors=True)
        shutil.copytree(tmp_path / "good", outputs)
        shutil.copytree(tmp_path / "bad", outputs / "other")
        for way, victim in zip(ways, victims, strict=True):
            way(outputs / "other" / victim.relative_to(tmp_path / "bad"))
        result = everything(outputs, tmp_path)
        shown = result.runs[result.runs["path"].str.contains("/other/") == False]  # noqa: E712
        assert set(shown["run_id"]) == good
        assert (
            len(result.runs) + len({p.partition(": ")[0] for p in result.problems if "left out" in p}) >= len(good) + 1
        )
        assert all("\n" not in problem for problem in result.problems)

    holds()


@pytest.mark.parametrize("key", ["task", "optim", "run_id"])
@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "..", ".hidden", "a\\b", "a\nb", "x" * 300])
def test_names_that_leave_the_folder_are_named_as_problems(write_run, outputs, key, name):
    write_run()
    rewrite(write_run(seed=1), lambda summary: summary | {key: name})
    records = read_records([outputs])
    assert len(records.runs) == 1
    assert f"{key} is" in records.problems[0]


def test_links_are_followed_and_loops_end(write_run, outputs, tmp_path):
    write_run(tmp_path / "elsewhere")
    write_run(tmp_path / "further", seed=1)
    outputs.mkdir()
    (outputs / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "up").symlink_to(outputs, target_is_directory=True)
    (tmp_path / "elsewhere" / "digits" / "further").symlink_to(tmp_path / "further", target_is_directory=True)
    (outputs / "nowhere").symlink_to(tmp_path / "gone")
    records = read_records([outputs])
    assert (len(records.runs), records.problems) == (2, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(write_run, outputs):
    write_run()
    folder = write_run(seed=1)
    (folder / "metrics.jsonl").chmod(0)
    write_run(optim="lion").parent.chmod(0)
    records = read_records([outputs])
    (outputs / "digits" / "lion").chmod(0o755)
    assert len(records.runs) == 2
    assert all("Permission denied" in problem for problem in records.problems)
    assert len(records.problems) == 2


def test_a_metrics_file_that_is_a_folder_is_said(write_run, outputs):
    folder = write_run(curve=CURVE)
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    records = read_records([outputs])
    assert len(records.runs) == 1
    assert "without its measurements" in records.problems[0]
    assert read_metrics(folder).empty


def test_measurements_that_are_no_numbers_are_read_old_and_new(tmp_path):
    lines = [
        '{"step": 1, "split": "val", "name": "loss", "value": NaN, "seconds": 1}',
        '{"step": 2, "split": "val", "name": "loss", "value": null, "nonfinite": "inf", "seconds": 1}',
        '{"step": 3, "split": "val", "name": "loss", "value": null, "nonfinite": "-inf", "seconds": 1}',
        '{"step": 4, "split": "val", "name": "loss", "value": null, "seconds": 1}',
        '{"step": -5, "split": "val", "name": "loss", "value": 1, "seconds": 1}',
        '{"step": 1e30, "split": "val", "name": "loss", "value": 1, "seconds": 1}',
        '{"step": 6, "split": "val", "name": "loss", "value": "1", "seconds": 1}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    values = read_metrics(tmp_path, "val", "loss").set_index("step")["value"]
    assert [str(value) for value in values] == ["nan", "inf", "-inf", "nan"]
    assert list(values.index) == [1, 2, 3, 4]

import io
import shutil

import pandas as pd
import pytest
from rich.console import Console

from reports.protocol import TRIAL_SEEDS_FROM
from reports.records.reader import read_records
from reports.tables.comparison import build_tables
from reports.tables.render import (
    cells,
    heading,
    legend,
    print_tables,
    short_count,
    short_number,
    to_csv,
    to_latex,
    to_markdown,
)


@pytest.fixture
def tables(outputs):
    return lambda *folders: build_tables(read_records(folders or [outputs]).runs, "adamw")


def a_bit_of_everything(write_run, tune, root=None):
    tune("adamw", (0.90, 0.92, 0.91), root=root)
    tune("sgd", (0.50, 0.51, 0.52), root=root, lr=0.1)
    for seed, ours in enumerate([0.91, 0.94, 0.90]):
        write_run(root, seed=seed, optim="lion", lr=1e-4, final=ours, test=ours, variant="ours")
    trial = {"lr": 1e-2, "seed": TRIAL_SEEDS_FROM}
    write_run(root, **trial, status="diverged", diverged_step=12, cause="loss\nis nan | at once")
    write_run(root, lr=1e-4, seed=9, optim="lion", status="diverged", diverged_step=12)
    write_run(root, lr=1e-4, seed=10, optim="lion", status="diverged", diverged_step=15)
    write_run(root, optim="radam", status="failed", cause="out of memory")
    write_run(root, optim="sgd", lr=0.1, seed=0, run_id="again", final=0.5, test=0.5)


def test_cells_and_markers(write_run, tune, tables):
    a_bit_of_everything(write_run, tune)
    (table,) = tables()
    shown = cells(table).set_index("optimizer")
    assert list(shown.index) == ["adamw", "lion untuned", "radam untuned", "sgd"]
    assert shown.loc["adamw", "lr"] == "0.001"
    # mean 0.91, sd 0.01: half-width 4.303 * 0.01 / sqrt(3)
    assert shown.loc["adamw", "val"] == "91.0 ± 2.5%"
    assert shown.loc["adamw", "runs"] == "13 (1 diverged)"
    assert shown.loc["adamw", "test minus adamw"] == "reference"
    assert shown.loc["lion untuned", "trials"] == "1<10"
    assert shown.loc["lion untuned", "seeds"] == "3✗"
    assert shown.loc["lion untuned", "test minus adamw"].startswith("+1 points [-")
    assert shown.loc["radam untuned", "runs"] == "1 (1 failed)"
    assert (
        shown.loc["radam untuned", ["lr", "val", "test", "test minus adamw", "steps to adamw's val"]].tolist()
        == ["-"] * 5
    )
    assert shown.loc["sgd", "seeds"] == "3‡"
    assert shown.loc["sgd", "test minus adamw"].startswith("-40")
    assert shown.loc["sgd", "test minus adamw"].endswith("] worse")
    assert shown.loc["sgd", "optimizer state, MB"] == "3.2"


def test_legend_explains_the_markers_that_occur_and_no_others(write_run, tune, tables, outputs):
    tune("adamw", (0.9, 0.91))
    plain = "\n".join(legend(tables()[0]))
    assert not any(mark in plain for mark in "†✗‡◊")
    assert "untuned" not in plain
    assert "n<k" not in plain
    tune("sgd", (0.9, 0.91), lr=0.2)
    assert "no difference shown:" in "\n".join(legend(tables()[0]))
    shutil.rmtree(outputs)
    a_bit_of_everything(write_run, tune)
    text = "\n".join(legend(tables()[0]))
    assert all(mark in text for mark in ("✗:", "‡:", "untuned:", "n<k:", "lion: ours"))
    write_run(optim="radam", lr=1e-3)
    write_run(optim="radam", lr=1e-4)
    assert "†: " in "\n".join(legend(tables()[0]))


def test_heading_says_what_the_runs_have_in_common(write_run, tune, tables):
    write_run()
    assert heading(tables()[0]) == (
        "scale embedded · model vit (depth 4, width 64), 400k parameters · "
        "data mnist5k (train 012345, val fedcba), augment none · 100 steps of 64 · metric accuracy, higher is better"
    )


def test_heading_of_a_run_that_recorded_nothing(write_run, tune, tables):
    nothing = dict.fromkeys(["scale", "model", "model_args", "data", "data_fingerprint", "steps", "metric"])
    write_run(status="failed", goal=None, **nothing)
    assert "unknown" in heading(tables()[0])
    assert "| adamw" in to_markdown(tables())


def test_no_reference_is_said(write_run, tune, tables):
    write_run(optim="lion")
    assert any("No row is called 'adamw'" in line for line in legend(tables()[0]))


def test_markdown_names_what_stopped_and_the_runs_behind(write_run, tune, tables):
    a_bit_of_everything(write_run, tune)
    text = to_markdown(tables())
    assert "- adamw, lr 0.01, weight decay 0.1: 1 diverged at step 12 (loss is nan \\| at once)" in text
    assert "- lion, lr 0.0001, weight decay 0.1: 2 diverged at step 12 to 15" in text
    assert "- radam, lr 0.001, weight decay 0.1: 1 failed (out of memory)" in text
    assert "again" in text


def test_csv_holds_full_numbers(write_run, tune, tables):
    write_run(lr=0.00031622776601683794)
    frame = pd.read_csv(io.StringIO(to_csv(tables())))
    assert frame["lr"].item() == 0.00031622776601683794
    assert frame["untuned"].item()
    assert frame["run_ids"].notna().all()


def test_the_same_records_give_the_same_bytes_in_any_order(write_run, tune, tables, tmp_path):
    a_bit_of_everything(write_run, tune, tmp_path / "one")
    records = sorted((tmp_path / "one").glob("*/*/*"))
    for place, folder in enumerate(reversed(records)):  # as other roots, found in another order
        shutil.copytree(folder, tmp_path / "two" / f"{place:02d}")
    one, two = tables(tmp_path / "one"), tables(*sorted((tmp_path / "two").iterdir(), reverse=True))
    assert to_markdown(one) == to_markdown(two)
    assert to_csv(one) == to_csv(two)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_terminal_loses_nothing(write_run, tune, tables, width):
    a_bit_of_everything(write_run, tune)
    console = Console(file=io.StringIO(), width=width)
    print_tables(tables(), console)
    text = console.file.getvalue()
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    if width == 160:
        for part in ("lion untuned", "91.0 ± 2.5%", "(1 diverged)", "worse", "1<10"):
            assert part in text


def test_short_forms():
    assert [short_count(n) for n in (12, 4_100, 410_000, 86_600_000, 2_000_000_000)] == [
        "12",
        "4.1k",
        "410k",
        "86.6M",
        "2B",
    ]
    assert [short_number(x) for x in (3e-5, 0.00031623, 0.1, 12345.6, float("nan"))] == [
        "3e-05",
        "0.000316",
        "0.1",
        "12346",
        "-",
    ]


def test_values_on_their_way_to_infinity_stay_short(write_run, tune, tables):
    for seed, value in enumerate((1e300, 3e300)):
        write_run(seed=seed, final=value, test=value, goal="min", metric="loss")
    assert cells(tables()[0])["val"].item() == "2e+300 ± inf"


def test_steps_to_the_references_figure(write_run, tune, tables):
    write_run(curve=[(10, 1.0, 0.5), (20, 2.0, 0.9)])
    write_run(optim="fast", curve=[(10, 1.0, 0.8), (20, 2.0, 1.0)])
    write_run(optim="slow", curve=[(10, 1.0, 0.1), (20, 2.0, 0.2)])
    shown = cells(tables()[0]).set_index("optimizer")["steps to adamw's val"]
    assert list(shown) == ["20", "15 (1.33×)", "not reached"]


def test_intervals_are_wider_with_more_rivals(write_run, tune, tables):
    for seed, value in enumerate([0.90, 0.92, 0.91]):
        write_run(seed=seed, test=value)
        write_run(seed=seed, optim="lion", test=value + 0.03)
        write_run(seed=seed, optim="radam", test=value + 0.02 + seed / 1000)
    alone = tables()[0].rows[2]
    lion = tables()[0].rows[1]
    for seed in range(3):
        write_run(seed=seed, optim="sgd", test=0.5 + seed / 10)
    (table,) = tables()
    beside = table.rows[2]
    # Student's t with 2 degrees of freedom at 0.975 and at 0.9875: 4.3027 and 6.2053
    width = (beside.difference_high - beside.difference_low) / (alone.difference_high - alone.difference_low)
    assert width == pytest.approx(6.2053 / 4.3027, rel=1e-4)
    assert any("(comparisons: lion 1, other optimizers 2)" in line for line in legend(table))
    assert table.rows[1] == lion  # the primary comparison is a family of its own


def test_latex_compiles_in_words(write_run, tune, tables):
    a_bit_of_everything(write_run, tune)
    text = to_latex(tables())
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 1
    assert "\\toprule" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len({line.replace("\\&", "").count("&") for line in rows}) == 1
    assert not set("†‡✗◊×·⁶±_%#") & set(
        text.replace("\\_", "").replace("\\%", "").replace("\\#", "").replace("% Needs", "")
    )

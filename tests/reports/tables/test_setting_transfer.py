"""How best settings move: synthetic studies whose optima are known."""

import math

import pytest

from reports.plots.setting_transfer import write_transfer
from reports.records.reader import read_records
from reports.statistics.ties import tied_values
from reports.tables.comparison import build_tables
from reports.tables.setting_transfer import missing, transfer_grid, transfer_ladders

HALF = 10**0.5


@pytest.fixture
def study(write_run, outputs):
    """Tune both optimizers: an optimum at a place of a 5 by 5 grid, fresh seeds that spread by `spread`."""

    def write(best, conditions, spread=0.001, grid=5, **given):
        for optim, place in best.items():
            rates = [1e-4 * HALF**step for step in range(grid)]
            decays = [0.01 * HALF**step for step in range(grid)]
            for i, lr in enumerate(rates):
                for j, decay in enumerate(decays):
                    final = 0.9 - 0.01 * math.dist((i, j), place)
                    at = {"lr": lr, "weight_decay": decay, "conditions": conditions}
                    write_run(optim=optim, seed=1000, final=final, **at, **given)
                    if (i, j) == place:
                        for seed, shift in enumerate((-spread, 0, spread)):
                            write_run(optim=optim, seed=seed, final=final + shift, test=final + shift, **at, **given)
        return outputs

    return write


def ladders_of(outputs):
    return transfer_ladders(build_tables(read_records([outputs]).runs, "adamw"))


def test_a_ladder_holds_the_studies_that_differ_in_one_factor_alone(study, outputs):
    best = {"adamw": (2, 2), "lion": (1, 3)}
    middle = {"model_args": {"n_embd": 128, "n_head": 4, "n_layer": 2}, "steps": 300, "batch_size": 64}
    study(best, "a", **middle)
    study(best, "b", **middle | {"model_args": {"n_embd": 64, "n_head": 2, "n_layer": 2}})
    study(best, "c", **middle | {"model_args": {"n_embd": 256, "n_head": 8, "n_layer": 2}})
    study(best, "d", **middle | {"steps": 100})
    study(best, "e", **middle | {"batch_size": 16})
    study(best, "f", **middle | {"steps": 900, "batch_size": 256})  # two factors from every other
    study(best, "g", **middle | {"model_args": {"n_embd": 512, "n_head": 16, "n_layer": 3}})  # deeper too
    study(best, "h", **middle | {"batch_size": 32}, grid=2)  # too few settings
    ladders = ladders_of(outputs)
    assert [(ladder.factor, [each.size for each in ladder.studies]) for ladder in ladders] == [
        ("width", ["x1", "x2", "x4"]),
        ("steps", ["x1", "x3"]),
        ("batch size", ["x1", "x4"]),
    ]
    assert missing(ladders) == []
    cells = transfer_grid(ladders, lambda setting: setting).cells
    moves = cells[cells["optimizer"] == "lion"].set_index("factor")["scaling rule"]
    assert (moves["width x2"], moves["width x4"], moves["batch size x4"]) == ("rate -0.30", "rate -0.30", "rate +0.30")
    assert missing(ladders[:1]) == [f"{ladders[0].task}: steps, batch size"]


def test_the_table_says_what_moved_what_still_ties_and_how_far_the_rule_is_off(study, outputs):
    study({"adamw": (2, 2), "lion": (1, 3)}, "a", steps=100)
    study({"adamw": (2, 2), "lion": (0, 3)}, "b", steps=300)
    grid = transfer_grid(ladders_of(outputs), lambda setting: (setting[0] / HALF, setting[1] * HALF))
    rows = grid.cells.to_dict("records")
    assert [(row["factor"], row["optimizer"]) for row in rows] == [
        ("steps x1", "adamw"),
        ("steps x1", "lion"),
        ("steps x3", "adamw"),
        ("steps x3", "lion"),
    ]
    # t(97.5%, 2 degrees of freedom) * sqrt(2) * 0.001 is 0.006, less than the 0.01 to a neighbour: none ties
    assert rows[0]["learning rate [ties]"] == "0.001 [0.001, 0.001]"
    assert rows[3]["learning rate [ties]"] == "0.0001† [open, 0.0001]"
    assert [row["the smaller one's setting"] for row in rows] == ["-", "-", "ties", "is worse"]
    assert [row["moved by"] for row in rows] == ["-", "-", "+0.00 and +0.00", "-0.50 and +0.00"]
    assert [row["scaling rule"] for row in rows] == ["-", "-", "rate x decay -0.48", "rate x decay -0.48"]
    off = "rule from AdamW's, off by"
    assert [row[off] for row in rows] == ["-", "+0.00 and +0.00", "-", "-0.50 and +0.00"]


@pytest.mark.parametrize(("reference", "differences"), [("adamw", [False, True] * 2), ("lion", [False] * 4)])
def test_a_difference_is_to_adamw_or_not_shown(study, outputs, reference, differences):
    study({"adamw": (2, 2), "lion": (1, 3)}, "a", steps=100)
    study({"adamw": (2, 2), "lion": (0, 3)}, "b", steps=300)
    ladders = transfer_ladders(build_tables(read_records([outputs]).runs, reference))
    figures = transfer_grid(ladders, lambda setting: setting).cells["figure"]
    assert ["," in figure for figure in figures] == differences


def test_neighbours_tie_where_seeds_spread_by_more(study, outputs):
    study({"adamw": (2, 2), "lion": (2, 2)}, "a", steps=100, spread=0.002)  # a margin of 0.0122
    study({"adamw": (1, 2), "lion": (2, 2)}, "b", steps=300, spread=0.002)
    (ladder,) = ladders_of(outputs)
    value, low, high = tied_values(ladder.studies[1].contender("adamw"), "lr")
    assert (value, low, high) == pytest.approx((1e-4 * HALF, 0.0, 1e-3))  # (0, 2) ties, on the edge
    grid = transfer_grid([ladder], lambda setting: setting)
    assert list(grid.cells["the smaller one's setting"]) == ["-", "-", "ties", "ties"]


def test_studies_with_other_schedules_make_no_ladder(study, outputs):
    best = {"adamw": (2, 2), "lion": (1, 3)}
    study(best, "a", steps=100)  # an older record, without its schedule
    study(best, "b", steps=300, schedule="cosine", warmup_steps=75)
    (ladder,) = ladders_of(outputs)
    assert [each.size for each in ladder.studies] == ["x1", "x3"]
    study(best, "c", steps=900, schedule="cosine", warmup_steps=9)
    study(best, "d", steps=600, schedule="cosine", warmup_steps=150)
    (ladder,) = ladders_of(outputs)  # the older record may have had either
    assert [each.table.comparison.steps for each in ladder.studies] == [300, 600]


def test_one_study_alone_moves_nowhere(study, outputs, tmp_path):
    study({"adamw": (2, 2), "lion": (1, 3)}, "a")
    assert ladders_of(outputs) == []
    assert transfer_grid([], lambda setting: setting) is None
    assert write_transfer([], lambda setting: setting, tmp_path, "transfer") == []


def test_the_figure_is_the_same_bytes_each_time(study, outputs, tmp_path):
    study({"adamw": (2, 2), "lion": (1, 3)}, "a", steps=100)
    study({"adamw": (3, 2), "lion": (0, 3)}, "b", steps=300)
    ladders = ladders_of(outputs)
    (first,) = write_transfer(ladders, lambda setting: setting, tmp_path, "one")
    (second,) = write_transfer(ladders, lambda setting: setting, tmp_path, "two")
    assert first.read_bytes() == second.read_bytes()
    assert b"</svg>" in first.read_bytes()

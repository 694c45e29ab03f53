import pytest

from reports.plots.forest import forest_rows, write_forest
from reports.records.reader import read_records
from reports.tables.comparison import build_tables
from reports.tables.paper_comparison import main_tables


def rows_of(outputs):
    return forest_rows(main_tables(build_tables(read_records([outputs]).runs, "adamw")), "lion")


def test_all_metrics_are_in_percent_of_the_references_figure_better_to_the_right(write_run, outputs):
    for seed, (reference, subject) in enumerate([(0.90, 0.92), (0.91, 0.92), (0.92, 0.955)]):
        write_run(seed=seed, test=reference)
        write_run(seed=seed, optim="lion", test=subject)
        for optim, value in (("adamw", 40.0 + seed), ("lion", 44.1 + seed)):
            write_run(seed=seed, optim=optim, task="text", metric="perplexity", goal="min", test=value, final=50.0)
    accuracy, perplexity = rows_of(outputs)
    assert accuracy.value == pytest.approx(100 * (0.02 + 0.01 + 0.035) / 3 / 0.91)
    assert perplexity.value == pytest.approx(-10.0)  # 4.1 of 41, and lower is better
    assert accuracy.joint[0] < accuracy.interval[0] < accuracy.value < accuracy.interval[1] < accuracy.joint[1]
    # two tasks: Student's t with 2 degrees of freedom at 0.9875 in place of 0.975
    widths = [high - low for low, high in (accuracy.joint, accuracy.interval)]
    assert widths[0] / widths[1] == pytest.approx(6.2053 / 4.3027, rel=1e-4)


def test_what_is_not_enclosed_is_open(tune, write_run, outputs):
    tune("adamw", (0.90, 0.91, 0.90))
    tune("lion", (0.970, 0.981, 0.970))
    (row,) = rows_of(outputs)
    assert (row.verdict, row.seeds, row.open) == ("better", 3, False)
    edge = {"optim": "lion", "lr": 1e-2, "weight_decay": 0.1}
    write_run(**edge, seed=1000, final=0.99)  # the best trial, with none at a higher rate
    for seed in range(3):
        write_run(**edge, seed=seed, test=0.97 + seed / 1000)
    (row,) = rows_of(outputs)
    assert (row.seeds, row.open) == (3, True)


def test_nothing_to_compare_gives_no_picture(write_run, outputs, tmp_path):
    write_run()
    tables = main_tables(build_tables(read_records([outputs]).runs, "adamw"))
    assert write_forest(tables, "lion", tmp_path, "forest") == []

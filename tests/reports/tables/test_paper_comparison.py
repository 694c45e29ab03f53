import math

import pytest

from reports.records.reader import read_records
from reports.tables.comparison import build_tables
from reports.tables.paper_comparison import main_table, paper_comparisons, read_rows


@pytest.fixture
def tables(outputs):
    return lambda: build_tables(read_records([outputs]).runs, "adamw")


def entry(tables, name):
    return next(found for found in paper_comparisons(tables) if found.name == name)


def test_the_papers_figure_and_ours(write_run, tables):
    write_run(task="vit_s16", test=0.5)
    write_run(task="vit_s16", optim="lion", test=0.625)
    pairs = {(p.model, p.optimizer): p for p in entry(tables(), "table7").pairs}
    lion, radam = pairs["ViT-S/16", "Lion"], pairs["ViT-S/16", "RAdam"]
    assert (lion.paper, lion.ours) == (79.46, 62.5)
    assert lion.paper_gain == pytest.approx(79.46 - 78.89)
    assert lion.row.difference == pytest.approx(0.125)
    assert radam.paper == 78.59
    assert math.isnan(radam.ours)
    assert pairs["ViT-B/16", "Lion"].row is None


def test_every_row_of_the_paper_is_there_without_any_run_of_ours(tables, outputs):
    outputs.mkdir()
    assert len(entry(tables(), "table7").pairs) == len(read_rows("optimizers.csv")) == 20
    # Table 2 from scratch without strong augmentation: five models with AdamW and Lion, ResNet-50 with SGD too
    assert len(entry(tables(), "table2").pairs) == 11


def test_an_ablation_is_found_under_the_name_that_tells_it_apart(write_run, tables):
    for betas, test in (([0.9, 0.99], 0.9), ([0.9, 0.9], 0.8)):
        write_run(task="vit_b16", optim="lion", test=test, optim_args={"betas": betas})
    pairs = {(p.model, p.optimizer): p for p in entry(tables(), "table7").pairs}
    assert pairs["ViT-B/16", "ablation_0.9"].ours == pytest.approx(80)


def test_the_main_comparison_is_that_of_most_optimizers(write_run, tables):
    for optim in ("adamw", "lion", "sgd"):
        write_run(optim=optim)
    for seed in range(9):
        write_run(optim="adamw", batch_size=16, seed=seed)
    assert main_table(tables(), "digits").comparison.batch_size == 64
    assert main_table(tables(), "letters") is None


def test_logarithms_of_perplexities_become_perplexities(write_run, tables):
    write_run(task="gpt2_small", metric="perplexity", goal="min", final=40.0, test=42.0)
    pairs = {(p.model, p.optimizer): p for p in entry(tables(), "figure7").pairs}
    assert len(pairs) == 4  # nothing is printed of the large one on Wiki-40B
    assert (pairs["small", "AdamW"].paper, pairs["small", "AdamW"].ours) == (math.exp(2.84), 42.0)
    assert pairs["medium", "Lion"].paper_gain == pytest.approx(math.exp(2.66) - math.exp(2.68))


def test_batches_stand_beside_equal_batches(write_run, tables):
    for batch, test in ((64, 0.9), (1024, 0.7), (1024, 0.8)):
        write_run(task="vit_b16", batch_size=batch, test=test, seed=round(100 * test))
    pairs = {p.model: p for p in entry(tables(), "figure8").pairs if p.optimizer == "AdamW"}
    assert (pairs["64"].ours, pairs["1024"].ours) == (pytest.approx(90), pytest.approx(75))
    assert pairs["4096"].row is None
    assert pairs["4096"].paper == 80.1


def test_a_smaller_task_of_ours_stands_in_for_one_that_is_not_run(write_run, tables):
    write_run(task="t5_glue", test=0.7)
    assert {p.model: p.task for p in entry(tables(), "table6").pairs} == {
        "T5-Base": "t5_glue",
        "T5-Large": "t5_large",
        "T5-11B": "t5_11b",
    }
    write_run(task="t5_base", test=0.8)
    assert {p.task for p in entry(tables(), "table6").pairs if p.model == "T5-Base"} == {"t5_base"}

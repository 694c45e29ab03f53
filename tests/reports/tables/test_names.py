from pathlib import Path

import yaml

from reports.records.reader import read_records
from reports.tables.comparison import build_tables
from reports.tables.names import OTHER, families, family_of, metric_name, task_name

CONF = Path(__file__).resolve().parents[3] / "conf"


def comparison(outputs):
    return build_tables(read_records([outputs]).runs, "adamw")[0].comparison


def test_a_known_task_is_called_by_its_model_and_data(write_run, outputs):
    write_run(task="vit_b16", metric="ema_frechet_own_features")
    assert task_name(comparison(outputs)) == "ViT-B/16 design on digits"
    assert metric_name(comparison(outputs)) == "Fréchet distance (our features)"


def test_at_the_papers_scale_it_is_no_small_design(write_run, outputs):
    write_run(task="vit_b16", scale="paper", data="my own pictures")
    assert task_name(comparison(outputs)) == "ViT-B/16 on my own pictures"


def test_an_unknown_task_keeps_its_name(write_run, outputs):
    write_run(task="mine")
    assert task_name(comparison(outputs)) == "mine"
    assert family_of("mine") == OTHER == families()[-1]


def test_every_task_of_the_configs_has_a_family_and_no_other_stands_there():
    tasks = {path.stem for path in (CONF / "task").glob("*.yaml")}
    assert {task for task in tasks if family_of(task) == OTHER} == set()
    names = yaml.safe_load((CONF.parent / "reports" / "tables" / "names.yaml").read_text())
    assert {task for listed in names["families"].values() for task in listed} == set(names["models"]) == tasks

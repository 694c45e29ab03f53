"""The tables of tuned numbers, as Hydra and people read them."""

import csv
import inspect
from pathlib import Path

import pytest
import yaml
from hydra.core.object_type import ObjectType
from hydra.utils import get_class
from omegaconf import OmegaConf

from recipes.settings import optimizer_arguments, tuned_tables
from recipes.settings.tuned_tables import TABLES, TunedTables, names, row_of, tables
from tests.recipes.conftest import ROOT, composed

PAPER = TABLES / "paper.yaml"
SOURCE = TunedTables("test", "tuned://")


def test_a_row_is_laid_over_the_optimizer_and_names_its_source() -> None:
    cfg = composed("task=vit_b16", "optim=lion", "scale=paper", "augment=randaug_mixup")
    assert (cfg.optim.lr, cfg.optim.weight_decay) == (1e-4, 10)
    assert cfg.tuned.file == "paper/vit_b16/lion_randaug_mixup"
    assert cfg.tuned.source == "Lion paper, Table 12, ImageNet ViT-B/16, RandAug 2 15 + Mixup 0.5"


def test_the_command_line_wins() -> None:
    cfg = composed("task=vit_b16", "optim=lion", "scale=paper", "optim.lr=7")
    assert (cfg.optim.lr, cfg.optim.weight_decay) == (7, 1)


@pytest.mark.parametrize(
    ("name", "row", "origin"),
    [
        ("paper/vit_b16/radam", {"lr": 3e-3, "weight_decay": 0.3}, "adamw"),
        ("paper/vit_b16/signum", {"lr": 1e-3, "weight_decay": 1.0}, "lion"),
        ("paper/basic/nadam", {"lr": 5e-4, "weight_decay": 0.01}, "adafactor"),
        ("paper/gpt2_small/nadam", {"lr": 3e-3, "weight_decay": 0, "betas": [0.9, 0.99]}, "adamw"),
        ("paper/gpt2_small/addsign", {"lr": 3e-4, "weight_decay": 0}, "lion"),
    ],
)
def test_an_optimizer_without_a_row_takes_anothers_and_says_so(name: str, row: dict[str, object], origin: str) -> None:
    result = row_of(f"tuned/{name}")
    assert result is not None
    optim = name.rpartition("/")[2]
    assert result["optim"] == row
    assert result["tuned"]["source"].endswith(f": {origin}'s numbers, since {optim} has none of its own")


@pytest.mark.parametrize(
    "name", ["paper/vit_b16/sgd", "paper/vit_b16/lino", "paper/nonesuch/lion", "paper/vit_b16", "fallback/adamw/lion"]
)
def test_what_no_table_knows_is_nothing(name: str) -> None:
    assert row_of(f"tuned/{name}") is None
    assert not SOURCE.is_config(f"tuned/{name}")
    assert not composed("task=vit_b16", "optim=sgd", "scale=paper").tuned.source.startswith("Lion")


def test_groups_are_listed_as_hydra_lists_folders() -> None:
    assert SOURCE.list("tuned", ObjectType.GROUP) == ["embedded", "gpu", "paper"]
    assert "vit_b16" in SOURCE.list("tuned/paper", None)
    assert SOURCE.list("tuned/paper/vit_b16", ObjectType.CONFIG) == names("paper", "vit_b16")
    assert {"lion", "adamw", "radam", "signum"} <= set(names("paper", "vit_b16"))
    assert SOURCE.list("tuned/paper/nonesuch", None) == []
    assert SOURCE.list("tuned/embedded/vit_b16", ObjectType.GROUP) == []
    assert SOURCE.is_group("tuned/paper/vit_b16")
    assert not SOURCE.is_group("data")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("s/t.yaml", "source: here\nlion: {lr: LR, weight_decay: 0}\n"),
        ("s.yaml", "t:\n  source: here\n  lion: {lr: LR, weight_decay: 0}\n"),
    ],
)
def test_a_table_is_a_file_or_a_section_and_is_read_again_when_it_changes(
    place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned_tables, "TABLES", tmp_path)
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    for lr in (1.0, 20.0):
        file.write_text(text.replace("LR", str(lr)))
        assert row_of("tuned/s/t/lion") == {
            "optim": {"lr": lr, "weight_decay": 0},
            "tuned": {"file": "s/t/lion", "source": "here"},
        }
        assert (tables(), names("s", "t")) == ([("s", "t")], ["lion"])


@pytest.mark.parametrize(("scale", "task"), tables())
def test_every_row_names_an_optimizer_its_arguments_and_a_source(scale: str, task: str) -> None:
    optimizers = {path.stem for path in (ROOT / "conf" / "optim").glob("*.yaml")}
    assert (ROOT / "conf" / "setting" / scale / f"{task}.yaml").is_file()
    file = TABLES / scale / f"{task}.yaml"
    table = yaml.safe_load(file.read_text()) if file.is_file() else yaml.safe_load(PAPER.read_text())[task]
    sections = [table, *(value for value in table.values() if isinstance(value, dict) and "lr" not in value)]
    for section in sections:
        rows = {key: row for key, row in section.items() if isinstance(row, dict) and "lr" in row}
        assert rows
        assert set(rows) <= optimizers
        for optim, row in rows.items():
            cfg = OmegaConf.load(ROOT / "conf" / "optim" / f"{optim}.yaml")
            taken = inspect.signature(get_class(cfg._target_)).parameters
            assert set(row) <= {*taken, "source", "roles", "routes"}
            assert row.get("source", section.get("source"))


@pytest.mark.parametrize(("scale", "task"), tables())
def test_what_an_optimizer_takes_from_another_is_an_argument_of_its_class(scale: str, task: str) -> None:
    for optim in names(scale, task):
        file = ROOT / "conf" / "optim" / f"{optim}.yaml"
        row = row_of(f"tuned/{scale}/{task}/{optim}")
        if file.is_file() and row is not None:  # else it is an augmentation's row
            taken = optimizer_arguments.arguments(OmegaConf.load(file)._target_)
            assert taken is None or set(row["optim"]) <= {*taken, "roles", "routes"}, optim


def test_the_papers_numbers_are_the_papers() -> None:
    """Every row of Table 12 that belongs to a task, read back through Hydra's source."""
    lines = [line for line in (ROOT / "reports/paper/hyperparameters.csv").read_text().splitlines() if line[0] != "#"]
    table = list(csv.DictReader(lines))
    (lion,) = [r for r in table if r["task"] == "BASIC-L" and r["optimizer"] == "Lion"]
    row = row_of("tuned/paper/basic/lion")
    assert row is not None
    assert row["optim"] == {"lr": float(lion["lr"]), "weight_decay": float(lion["weight_decay"])}

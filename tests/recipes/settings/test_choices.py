import itertools
from pathlib import Path

import pytest
import yaml

from recipes.settings import choices

CONF = Path(__file__).resolve().parents[3] / "conf"


def write(path: Path, text: str = "{}\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(choices, "CONF", tmp_path)
    for task, recipe, scales in (
        ("b", "classification", ["paper", "embedded"]),
        ("a", "classification", ["embedded"]),
        ("d", "classification", ["paper"]),
        ("c", "my_family", ["paper"]),
    ):
        write(tmp_path / "task" / f"{task}.yaml", f"# a comment\nname: {task}\nrecipe: {recipe} # where\n")
        for scale in scales:
            write(tmp_path / "scale" / f"{scale}.yaml")
            write(tmp_path / "setting" / scale / f"{task}.yaml")
    return tmp_path


def test_tasks_are_listed_by_family_at_the_first_scale_that_has_them(conf: Path) -> None:
    lines = [line.strip() for line in choices.help_text("task").splitlines()]
    assert lines == ["Image classification: a b; at scale=paper also d", "my_family: at scale=paper c"]


def test_a_file_that_is_added_is_listed(conf: Path) -> None:
    write(conf / "optim" / "mine.yaml")
    assert choices.help_text("optim") == "mine"


def test_families_and_scales_are_those_of_the_files() -> None:
    families = choices.tasks_by_family()
    tasks = list(itertools.chain(*families.values()))
    assert sorted(tasks) == sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
    for family, members in families.items():
        recipes = {yaml.safe_load((CONF / "task" / f"{task}.yaml").read_text())["recipe"] for task in members}
        assert len(recipes) == 1, family
        assert recipes <= set(choices.FAMILIES), f"{family} has no name in choices.FAMILIES"
    settings = {path.relative_to(CONF / "setting") for path in (CONF / "setting").glob("*/*.yaml")}
    assert {Path(scale, f"{task}.yaml") for task in tasks for scale in choices.scales_of(task)} <= settings


def test_lines_are_no_wider_than_a_terminal() -> None:
    assert max(map(len, choices.help_text("task").splitlines())) <= choices.WIDTH

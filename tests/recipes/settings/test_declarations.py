"""What is read from the source of data sets and recipes, against the imported modules."""

import importlib
import inspect
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest

import recipes
from recipes.errors import ConfigError
from recipes.settings import declarations

FOLDER = Path(recipes.__file__).parent


def modules(folder: Path, line: str) -> list[str]:
    result = (p.relative_to(folder).with_suffix("") for p in folder.rglob("*.py") if f"\n{line}" in p.read_text())
    return sorted(".".join(p.parts) for p in result)


RECIPES = [name for name in modules(FOLDER, "class Recipe") if name != "protocol"]
DATA = modules(FOLDER / "data", "def load(")


def name_of(kind: Any) -> str:
    return "None" if kind is types.NoneType else kind.__name__


@pytest.mark.parametrize("module", DATA)
def test_options_are_those_of_the_imported_load(module: str) -> None:
    load = importlib.import_module(f"recipes.data.{module}").load
    taken = inspect.signature(load, eval_str=True)
    declared = declarations.options(module)
    assert list(declared) == list(taken.parameters)
    for name, parameter in taken.parameters.items():
        assert declared[name].required == (parameter.default is parameter.empty)
        kinds = typing.get_args(parameter.annotation) or (parameter.annotation,)
        if typing.get_origin(parameter.annotation) in (None, types.UnionType) and all(
            kind in (int, float, bool, str, types.NoneType) for kind in kinds
        ):
            assert set(declared[name].kinds) == {name_of(kind) for kind in kinds}
    assert declarations.holds(module) == importlib.import_module(f"recipes.data.{module}").HOLDS


@pytest.mark.parametrize("recipe", RECIPES)
def test_learns_from_is_that_of_the_imported_recipe(recipe: str) -> None:
    assert declarations.learns_from(recipe) == importlib.import_module(f"recipes.{recipe}").Recipe.learns_from


def test_unknown_modules_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.module=foo is unknown; known: images\.cifar, images\.files, images\.glyphs"
    ):
        declarations.options("foo")
    with pytest.raises(ConfigError, match=r"data\.module=text\.bpe loads no data; known: images\.cifar"):
        declarations.holds("text.bpe")
    with pytest.raises(ConfigError, match=r"task\.recipe=\.\./x is unknown; known: classification, contrastive"):
        declarations.learns_from("../x")


def test_mistakes_are_found_without_the_heavy_imports() -> None:
    code = (
        "import sys; from omegaconf import OmegaConf; from recipes.settings import from_data\n"
        "data = {'name': 'imagenet', 'module': 'images.files', 'path': '/none', 'hub': None, 'options': {'sizes': 3}}\n"
        "cfg = {'task': {'name': 'a', 'recipe': 'classification'}, 'data': data}\n"
        "assert len(from_data.problems(OmegaConf.create(cfg))) == 2\n"
        "print(sorted({'torch', 'timm', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    assert done.stdout.strip() == "[]"

"""What data sets and recipes declare, read from their source.

Importing the modules takes seconds (torch, timm, transformers); a command's mistakes are answered before that.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recipes.errors import ConfigError

# What a data set holds, by the class that its `load` returns.
HOLDS = {
    "ImageArrays": "images with labels",
    "ImageExamples": "images with labels",
    "PairData": "images with captions",
    "TextPairs": "texts with answers",
    "TokenWindows": "text",
}


@dataclass(frozen=True)
class Option:
    """A parameter of a data set's `load`.

    Attributes:
        kinds: the names of the types in its annotation's union, such as ("int", "None").
        required: it has no default.
    """

    kinds: tuple[str, ...]
    required: bool


def options(module: str) -> dict[str, Option]:
    """The parameters of `load` in recipes/data/<module>.py, in their order.

    Raises:
        ConfigError: there is no such data module.
    """
    arguments = _load(module).args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    found = {}
    for number, argument in enumerate(positional):
        found[argument.arg] = Option(_kinds(argument.annotation), number < without)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[argument.arg] = Option(_kinds(argument.annotation), default is None)
    return found


def holds(module: str) -> str:
    """What a data module's `load` returns, a value of `HOLDS`.

    Raises:
        ConfigError: there is no such data module.
    """
    returned = _load(module).returns
    named = [node for node in ast.walk(returned or ast.Constant(None)) if isinstance(node, ast.Name | ast.Constant)]
    text = named[-1].id if isinstance(named[-1], ast.Name) else str(named[-1].value)
    kind = text.rstrip("]").rpartition(", ")[2].rpartition(".")[2]  # dict[str, kind] or kind
    return HOLDS.get(kind, kind)


def learns_from(recipe: str) -> str:
    """The `learns_from` of the class `Recipe` in recipes/<recipe>.py.

    Raises:
        ConfigError: there is no such recipe.
    """
    tree = _source("recipes", recipe, "task.recipe")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Recipe":
            for part in node.body:
                if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "learns_from":
                    return str(ast.literal_eval(part.value))
    raise ConfigError(f"task.recipe={recipe} is no recipe; known: {', '.join(_known('recipes', 'class Recipe'))}")


def _load(module: str) -> ast.FunctionDef:
    for node in _source("recipes.data", module, "data.module").body:
        if isinstance(node, ast.FunctionDef) and node.name == "load":
            return node
    raise ConfigError(f"data.module={module} loads no data; known: {', '.join(_known('recipes.data', 'def load('))}")


@cache
def _source(package: str, name: str, key: str) -> ast.Module:
    path = _folder(package) / f"{name}.py"
    if not str(name).isidentifier() or not path.is_file():
        start = "def load(" if package == "recipes.data" else "class Recipe"
        raise ConfigError(f"{key}={name} is unknown; known: {', '.join(_known(package, start))}")
    return ast.parse(path.read_text(encoding="utf-8"))


def _folder(package: str) -> Path:
    return Path(__file__).parent.parent.joinpath(*package.split("."))


def _known(package: str, start: str) -> list[str]:
    """The modules of a package with a line that starts so."""
    found = (path for path in _folder(package).glob("*.py") if f"\n{start}" in path.read_text(encoding="utf-8"))
    return sorted(path.stem for path in found if path.stem != "recipe")


def _kinds(annotation: ast.expr | None) -> tuple[str, ...]:
    if isinstance(annotation, ast.BinOp):
        return (*_kinds(annotation.left), *_kinds(annotation.right))
    return (ast.unparse(annotation) if annotation is not None else "",)

"""Check a config against what data sets and recipes declare in their source (options, kinds of data).

The source is parsed, not imported: importing takes seconds (torch, timm, transformers).
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omegaconf import DictConfig

from recipes.errors import ConfigError

# Types of options that are checked, by their names in an annotation, and what errors call them.
PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "None": "null"}


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
    parameters = {}
    for number, argument in enumerate(positional):
        parameters[argument.arg] = Option(_kinds(argument.annotation), number < without)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters[argument.arg] = Option(_kinds(argument.annotation), default is None)
    return parameters


def holds(module: str) -> str:
    """The kind of data of recipes/data/<module>.py: its constant `HOLDS`.

    Raises:
        ConfigError: there is no such data module.
    """
    _load(module)
    return _constant(_source("recipes.data", module, "data.module").body, "HOLDS") or module


def learns_from(recipe: str) -> str:
    """The `learns_from` of the class `Recipe` in recipes/<recipe>.py.

    Raises:
        ConfigError: there is no such recipe.
    """
    tree = _source("recipes", recipe, "task.recipe")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Recipe":
            text = _constant(node.body, "learns_from")
            if text is not None:
                return text
    raise ConfigError(f"task.recipe={recipe} is not a recipe; known: {', '.join(_modules('recipes', 'class Recipe'))}")


def place(data: DictConfig) -> dict[str, str]:
    """The location of the data: a local folder, else the name on the hub."""
    return next(({key: data[key]} for key in ("path", "hub") if data[key] is not None), {})


def place_problems(data: DictConfig) -> list[str]:
    """Report a location that is not set or does not exist, with what to download."""
    what = f"; to get: {data.download}" if data.get("download") else ""
    try:
        if "path" not in options(data.module):
            return []
    except ConfigError:  # reported already
        return []
    if data.path is not None:
        if not Path(data.path).expanduser().exists():
            return [
                f"data.path={data.path} does not exist: set data.path to where the data of data={data.name} are{what}"
            ]
    elif data.hub is None:
        return [
            f"data={data.name} needs data.path=, a file or folder, or data.hub=, a name on the Hugging Face hub{what}"
        ]
    return []


def option_problems(data: DictConfig, dropped: Sequence[str] = ()) -> list[str]:
    """Report options that are unknown, missing or of the wrong type, other than those in `dropped`."""
    try:
        takes = options(data.module)
    except ConfigError as error:
        return [str(error)]
    lines = [
        f"data={data.name} takes no data.{key}; data=text reads texts of your own, data=imagenet images"
        for key in place(data)
        if key not in takes
    ]
    declared = {name: taken for name, taken in takes.items() if name not in ("path", "hub")}
    names = ", ".join(declared) or "none"
    for name in data.options:
        if name not in declared and name not in dropped:
            lines.append(f"data={data.name}: data.options.{name} is unknown; known: {names}")
    for name, taken in declared.items():
        if name not in data.options:
            if taken.required:
                lines.append(
                    f"data={data.name} needs data.options.{name}, which the setting of this task does not have; its "
                    f"options: {names}"
                )
            continue
        value, kinds = data.options[name], taken.kinds
        kind = "None" if value is None else type(value).__name__
        if set(kinds) <= set(PLAIN) and kind not in kinds and not ("float" in kinds and kind == "int"):
            expected = " or ".join(PLAIN[each] for each in kinds)
            lines.append(f"data={data.name}: data.options.{name}={value} must be {expected}")
    return lines


def _constant(body: list[ast.stmt], name: str) -> str | None:
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    return None


def _load(module: str) -> ast.FunctionDef:
    for node in _source("recipes.data", module, "data.module").body:
        if isinstance(node, ast.FunctionDef) and node.name == "load":
            return node
    raise ConfigError(f"data.module={module} loads no data; known: {', '.join(_modules('recipes.data', 'def load('))}")


@cache
def _source(package: str, name: str, key: str) -> ast.Module:
    parts = str(name).split(".")
    path = _folder(package).joinpath(*parts).with_suffix(".py")
    if not all(part.isidentifier() for part in parts) or not path.is_file():
        start = "def load(" if package == "recipes.data" else "class Recipe"
        raise ConfigError(f"{key}={name} is unknown; known: {', '.join(_modules(package, start))}")
    return ast.parse(path.read_text(encoding="utf-8"))


def _folder(package: str) -> Path:
    return Path(__file__).parents[2].joinpath(*package.split("."))


def _modules(package: str, start: str) -> list[str]:
    """The names of the modules of a package that have a line with this start."""
    folder = _folder(package)
    files = (path for path in folder.rglob("*.py") if f"\n{start}" in path.read_text(encoding="utf-8"))
    names = (".".join(path.relative_to(folder).with_suffix("").parts) for path in files)
    return sorted(name for name in names if name != "protocol")


def _kinds(annotation: ast.expr | None) -> tuple[str, ...]:
    if isinstance(annotation, ast.BinOp):
        return (*_kinds(annotation.left), *_kinds(annotation.right))
    return (ast.unparse(annotation) if annotation is not None else "",)

"""The arguments of an optimizer's class, read from its source: importing torch to find a misspelt one takes seconds."""

import ast
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

BASE = "Optimizer"  # torch's base class


@dataclass(frozen=True)
class Argument:
    """One argument: its annotation as it is written, and its default where that is a constant."""

    annotation: str
    default: object = None


Arguments = dict[str, Argument]


class NotAnOptimizerError(Exception):
    """A name that cannot be imported, or is no class of an optimizer; the message says which."""


@lru_cache
def arguments(target: str) -> Arguments | None:
    """The arguments of an optimizer by the dotted name of its class; None where any name is taken.

    Raises:
        NotAnOptimizerError: there is no such class.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise NotAnOptimizerError("cannot be imported: expected a module and a class, as in torch.optim.AdamW")
    found = _read(module, name, depth=0)
    return found if found is not None else _imported(module, name)


def _imported(module: str, name: str) -> Arguments | None:
    """The same from the class itself: the last word where the source does not show an optimizer."""
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the module's own code raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotAnOptimizerError(f"cannot be imported: {reason}") from None
    if not isinstance(found, type):
        raise NotAnOptimizerError(f"is a {type(found).__name__}, not a class")
    if not any(base.__name__ == BASE and base.__module__.startswith("torch.optim") for base in found.__mro__):
        raise NotAnOptimizerError("is not a torch.optim.Optimizer")
    taken = inspect.signature(found).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in taken):
        return None
    return {p.name: Argument(str(p.annotation), None if p.default is p.empty else p.default) for p in taken}


def _read(module: str, name: str, depth: int) -> Arguments | None:
    """Follow a name through imports to its class, and a class without a constructor to its base."""
    file = _file(module)
    if file is None or depth > 9:
        return None
    tree = _parsed(file)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            inherited = None if BASE in bases else next((_read(module, base, depth + 1) for base in bases), None)
            if BASE not in bases and inherited is None:
                return None
            made = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
            return _arguments(made[0].args) if made else inherited
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
                    above = package[: len(package) - node.level + 1] if node.level else []
                    return _read(".".join([*above, *filter(None, [node.module])]), alias.name, depth + 1)
    return None


def _file(module: str) -> Path | None:
    """The source of a module, found without importing the packages that it lies in."""
    top, *rest = module.split(".")
    try:
        spec = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [Path(location, *rest) for location in (spec.submodule_search_locations or [])] if spec else []
    candidates = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return next((file for file in candidates if file.is_file()), None)


def _arguments(given: ast.arguments) -> Arguments | None:
    if given.vararg is not None or given.kwarg is not None:
        return None
    names = [*given.posonlyargs, *given.args][1:]
    defaults: list[ast.expr | None] = [None] * (len(names) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(names, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return {
        argument.arg: Argument(ast.unparse(argument.annotation) if argument.annotation else "", _constant(default))
        for argument, default in pairs
    }


def _constant(node: ast.expr | None) -> object:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


@lru_cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))

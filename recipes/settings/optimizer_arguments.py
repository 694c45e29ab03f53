"""The arguments of an optimizer's class and their types, parsed from its source: importing torch takes seconds."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from recipes.settings.arguments import is_number, near, typed

# Keys of an optimizer's YAML that are not arguments of its class: its name and variant, the schedule that replaces the
# task's, the roles of parameters that its class updates, the classes for the others, and why it refuses shards.
DESCRIPTION = ("name", "variant", "schedule", "roles", "routes", "lr_ratio", "refuses_shards")
ROLES = ("matrix", "convolution", "embedding", "head", "vector", "position")  # of recipes/training/param_groups.py
HYDRA_KEYS = ("_target_", "_partial_", "_convert_")
DTYPES = ("float32", "bfloat16", "float16", "float64", "int8")  # that optimizers keep their state in
SYNONYMS = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "l2": "weight_decay",
    "momentum": "betas",
    "beta": "betas",
    "beta1": "betas",
    "beta2": "betas",
    "epsilon": "eps",
}
BASE = "Optimizer"  # torch's base class


@dataclass(frozen=True)
class Argument:
    """One argument: its annotation as it is written, and its default where that is a constant."""

    annotation: str
    default: object = None


Arguments = dict[str, Argument]


class NotAnOptimizerError(Exception):
    """A name that cannot be imported or is not an optimizer's class; the message says which."""


@lru_cache
def arguments(target: str) -> Arguments | None:
    """The arguments of an optimizer by the dotted name of its class; None if it accepts any name.

    Raises:
        NotAnOptimizerError: there is no such class.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise NotAnOptimizerError("cannot be imported: expected a module and a class, as in torch.optim.AdamW")
    read = _read(module, name, depth=0)
    return read if read is not None else _imported(module, name)


def _imported(module: str, name: str) -> Arguments | None:
    """The same from the imported class, if the source does not show an optimizer."""
    try:
        imported = getattr(importlib.import_module(module), name)
    except Exception as error:  # the module's code may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotAnOptimizerError(f"cannot be imported: {reason}") from None
    if not isinstance(imported, type):
        raise NotAnOptimizerError(f"is a {type(imported).__name__}, not a class")
    if not any(base.__name__ == BASE and base.__module__.startswith("torch.optim") for base in imported.__mro__):
        raise NotAnOptimizerError("is not a torch.optim.Optimizer")
    taken = inspect.signature(imported).parameters.values()
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
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
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
    """The source of a module, found without importing its parent packages."""
    top, *rest = module.split(".")
    try:
        spec = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [Path(location, *rest) for location in (spec.submodule_search_locations or [])] if spec else []
    candidates = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return next((file for file in candidates if file.is_file()), None)


def _arguments(signature: ast.arguments) -> Arguments | None:
    if signature.vararg is not None or signature.kwarg is not None:
        return None
    names = [*signature.posonlyargs, *signature.args][1:]
    defaults: list[ast.expr | None] = [None] * (len(names) - len(signature.defaults)) + list(signature.defaults)
    pairs = [*zip(names, defaults, strict=True), *zip(signature.kwonlyargs, signature.kw_defaults, strict=True)]
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


def problems(optim: object) -> list[str]:
    """The mistakes in an optimizer's settings, one line each; `optim` is the config's node as plain values."""
    if not isinstance(optim, dict):
        return [f"optim={optim} must be the name of a file in conf/optim"]
    lines = []
    for key in ("lr", "weight_decay"):
        if not is_number(optim.get(key)) or optim[key] < 0:
            lines.append(f"optim.{key}={typed(optim.get(key))} must be a finite number of at least 0")
    if optim.get("_partial_") is not True:
        partial = typed(optim.get("_partial_"))
        lines.append(f"optim._partial_={partial} must be true: the class waits for the parameters")
    return [*lines, *_class_problems(optim, f"optim={optim.get('name')}", "optim"), *_route_problems(optim)]


def _class_problems(settings: dict[str, Any], title: str, key: str) -> list[str]:
    """The mistakes in the arguments of one class; `key` is the node that holds them."""
    try:
        taken = arguments(str(settings.get("_target_")))
    except NotAnOptimizerError as error:
        return [f"{title}: _target_={settings.get('_target_')} {error}"]
    lines = []
    for name, value in settings.items():
        if name in (*DESCRIPTION, *HYDRA_KEYS, "lr", "weight_decay") or taken is None:
            continue
        if name not in taken or name == "params":
            allowed = [argument for argument in taken if argument != "params"]
            hint = f"; did you mean {SYNONYMS[name]}?" if SYNONYMS.get(name) in allowed else near(name, allowed)
            lines.append(f"{title} has no argument {name}; it takes {', '.join(allowed)}{hint}")
        elif expected := _expected(name, value, taken[name]):
            lines.append(f"{key}.{name}={typed(value)} must be {expected}")
    return lines


def _route_problems(optim: dict[str, Any]) -> list[str]:
    """The mistakes in the roles of a class and in its routes; each role may be named once."""
    routes = optim.get("routes") or {}
    if not isinstance(routes, dict) or not all(isinstance(route, dict | None) for route in routes.values()):
        return ["optim.routes must hold, under a name for each, a class with its roles and lr_ratio or lr"]
    routes = {name: route for name, route in routes.items() if route is not None}
    lines: list[str] = []
    if not routes and set(optim.get("roles") or ROLES) < set(ROLES):
        lines.append(
            f"optim.roles={typed(optim['roles'])} leaves the other roles to no class: name them in optim.routes, "
            f"or give optim={optim.get('name')} all of {', '.join(ROLES)}"
        )
    if "lr_ratio" in optim:
        lines.append("optim.lr_ratio has no effect: it is that of a route, optim.routes.NAME.lr_ratio")
    taken: dict[str, str] = {}
    for key, settings in [("optim", optim), *((f"optim.routes.{name}", route) for name, route in routes.items())]:
        roles = settings.get("roles", [] if not routes else None)
        if not isinstance(roles, list) or (routes and not roles) or not all(role in ROLES for role in roles):
            lines.append(f"{key}.roles={typed(roles)} must name some of {', '.join(ROLES)}, as in [matrix,head]")
            continue
        for role in roles:
            if role in taken:
                lines.append(f"{key}.roles names {role}, and so does {taken[role]}: a parameter is stepped once")
            taken[role] = f"{key}.roles"
        if settings is not optim:
            unread = [name for name in settings if name in DESCRIPTION and name not in ("roles", "lr_ratio")]
            lines += [f"{key}.{name} has no effect: optim.{name} is that of all parameters" for name in unread]
            lines += [*_rate_problems(settings, key), *_class_problems(settings, key, key)]
    if fixed := [name for name, route in routes.items() if "lr" in route and optim.get("lr") == 0]:
        lines.append(
            f"optim.lr=0 must be above 0: the decay of optim.routes.{fixed[0]} follows from its lr over optim.lr"
        )
    return lines


def _rate_problems(route: dict[str, Any], key: str) -> list[str]:
    """The mistakes in a route's learning rate, which is a ratio to the main one or fixed, and in its weight decay."""
    lines = []
    if "weight_decay" in route:
        lines.append(f"{key}.weight_decay follows from optim.weight_decay: decay= says which parameters decay")
    if "lr" in route and "lr_ratio" in route:
        return [*lines, f"{key} has lr and lr_ratio: it takes one, a fixed learning rate or its ratio to optim.lr"]
    name = "lr" if "lr" in route else "lr_ratio"
    rate: Any = route.get(name)
    if not is_number(rate) or rate <= 0:
        meaning = "" if name == "lr" else ": its lr over optim.lr"
        lines.append(f"{key}.{name}={typed(rate)} must be a finite number above 0{meaning}")
    return lines


def _expected(name: str, value: Any, argument: Argument) -> str | None:
    """What the value of an argument must be, or None if the value may be right."""
    annotation, default = argument.annotation, argument.default
    optional = "None" in annotation or "Optional" in annotation or (not annotation and default is None)
    null = ", or null" if optional else ""
    if value is None:
        return None if optional or default is None else "given"
    if "bool" in annotation or isinstance(default, bool):
        return None if isinstance(value, bool) else f"true or false{null}"
    if name.startswith("betas"):
        least = len(default) if isinstance(default, tuple) else 2
        right = isinstance(value, list) and len(value) == least and all(is_number(b) and 0 <= b < 1 for b in value)
        return None if right else f"{least} numbers in [0, 1), as in optim.{name}=[0.9,0.99]"
    if name == "eps" and not isinstance(value, list):
        return None if is_number(value) and value >= 0 else f"a finite number of at least 0{null}"
    if name.endswith("dtype"):
        names = ", ".join(DTYPES)
        return None if str(value).removeprefix("torch.") in DTYPES else f"the name of a type: {names}{null}"
    if name == "momentum":
        return None if is_number(value) and 0 <= value < 1 else f"a number in [0, 1){null}"
    plain = re.sub(r"\bOptional\[|\]|\bNone\b|\bTensor\b|[ |]", "", annotation)
    if plain == "float" or (not annotation and isinstance(default, float)):
        return None if is_number(value) else f"a finite number{null}"
    if plain == "int":
        return None if is_number(value) and isinstance(value, int) else f"a whole number{null}"
    return None


def unknown_argument(override: Override, optim: DictConfig) -> str:
    """Report an argument that the optimizer's file does not set: it is added with a + if its class takes it."""
    name, key = override.key_or_group.rpartition(".")[2], override.key_or_group
    try:
        taken = arguments(str(optim._target_))
    except NotAnOptimizerError:
        taken = None
    if taken is None or (name in taken and name != "params"):
        return f"{key} is not set by optim={optim.name}; to add it: +{override.input_line}"
    allowed = [argument for argument in taken if argument != "params"]
    also = SYNONYMS.get(name)
    hint = f"; did you mean optim.{also}?" if also in allowed else near(name, allowed)
    return f"{key} is unknown; optim={optim.name} takes {', '.join(allowed)}{hint}"

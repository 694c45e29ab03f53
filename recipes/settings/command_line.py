"""Check a command line before Hydra reads it: report all mistakes at once, each with what to type instead."""

import dataclasses
import difflib
import importlib
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.errors import ConfigError
from recipes.settings import choices, schema, sweep_values, unknown_settings, validation
from recipes.settings.arguments import is_number, near
from recipes.settings.schema import CONF

# Set by the file that a choice names; changing them would record a run under another name.
CHOSEN_BY_NAME = {"task.recipe": "task=", "data.module": "data=", "scale.name": "scale="}

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check(overrides: Sequence[str]) -> None:
    """Refuse the overrides of one run that have mistakes.

    Raises:
        ConfigError: with a line for each.
    """
    schema.register()
    if lines := mistakes(overrides):
        raise ConfigError("\n".join(lines))


def mistakes(arguments: Sequence[str], multirun: bool = False) -> list[str]:
    """The mistakes in a command's overrides, one line each.

    Each value of a sweep is checked with the first value of the other swept settings.

    Args:
        arguments: as they are typed.
        multirun: the command has -m.
    """
    lines: list[str] = []
    with schema.composing():
        parsed = [override for text in arguments if (override := _parsed(text, lines)) is not None]
        if unlistable := sweep_values.problems(parsed):
            return [*lines, *unlistable]
        groups = [override for override in parsed if _is_group(override)]
        values = [override for override in parsed if not _is_group(override)]
        chosen = [(override, _choices(override, lines)) for override in groups]
        broken = [override.key_or_group for override, names in chosen if not names]
        first = [names[0] for _, names in chosen if names]
        base = _composed(first, lines)
        if base is None:
            return list(dict.fromkeys(lines))
        sweeping = multirun or str(base.hydra.mode or "").endswith("MULTIRUN")
        if not sweeping:
            lines += [_needs_multirun(override) for override in parsed if override.is_sweep_override()]
        typed = [(override, list(sweep_values.single_values(override))) for override in values]
        for _, singles in typed:
            for single in singles[:1]:
                _apply(single, base, lines, broken)
        typed_keys = {override.key_or_group for override in values}
        lines += _protocol(base, parsed)
        if _is_experiment(base):  # its sweeper checks each task; only what holds for all is checked here
            general = re.compile(
                "|".join(rf"{re.escape(key)}\b" for key in typed_keys if not key.startswith("model.")) or "$"
            )
            lines += [line for line in _problems(base, typed_keys) if general.match(line)]
            return list(dict.fromkeys(lines))
        lines += _problems(base, typed_keys)
        for index, (_, names) in enumerate(chosen):
            for name in names[1:]:
                others = [other[0] for number, (_, other) in enumerate(chosen) if number != index and other]
                other = _composed([*others, name], lines)
                if other is not None:
                    for _, singles in typed:
                        for single in singles[:1]:
                            _apply(single, other, [], broken)
                    lines += _problems(other, typed_keys)
        for _, singles in typed:
            for single in singles[1:]:
                other = base.copy()
                reasons: list[str] = []
                _apply(single, other, reasons, broken)
                lines += reasons or _problems(other, typed_keys)
    return list(dict.fromkeys(lines))


def _parsed(text: str, lines: list[str]) -> Override | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        lines.append(f"{text.encode(errors='replace').decode()}: holds bytes that are no UTF-8 text")
        return None
    name, equals, value = text.partition("=")
    if not name or (not equals and not text.startswith("~")):
        lines.append(f"{text} is not a setting; expected name=value{_near_choice(text)}")
        return None
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    try:
        return parser.parse_override(text)
    except HydraException:
        pass
    quoted = f"""{name}='{value.replace("'", chr(92) + "'")}'"""
    try:
        parser.parse_override(quoted)
    except HydraException:
        lines.append(f"{text} cannot be read; expected name=value, as in optim.lr=1e-3")
    else:
        lines.append(
            f"{text} cannot be read: a value with one of =,:[]{{}}()'\" in it is put in quotes, and the whole in the "
            f"shell's: {_in_shell(quoted)}"
        )
    return None


def _in_shell(text: str) -> str:
    """A word that holds single quotes, as it is typed."""
    return shlex.quote(text) if re.search(r'[`$"\\!]', text) else f'"{text}"'


def _near_choice(text: str) -> str:
    """If a name was typed without its group: which group has it."""
    for group in ("task", "optim", "data", "scale"):
        if text in choices.allowed(group):
            return f"; did you mean {group}={text}?"
    return near(text, schema.Config.__dataclass_fields__)


def _is_group(override: Override) -> bool:
    key = override.key_or_group
    names = (CONF / key).is_dir() and key not in ("hydra", "expected")
    return (names or key.startswith("hydra/")) and not isinstance(override.value(), dict)


def _choices(override: Override, lines: list[str]) -> list[str]:
    """The overrides of a group, one for each chosen name; an unknown name is replaced by a similar one."""
    group, key = override.key_or_group, override.get_key_element()
    if override.is_delete():
        lines.append(f"{override.input_line} deletes a required group; choose another with {group}=")
        return []
    if override.is_sweep_override():
        chosen = list(sweep_values.given_texts(override)) if override.is_discrete_sweep() else []
    else:
        chosen = [override.get_value_element_as_str()]
    if group == "experiment" and not key.startswith("+"):
        lines.append(f"{key}={','.join(chosen)}: an experiment is added: type +{key}={','.join(chosen)}")
        key = f"+{key}"
    allowed = (
        choices.allowed(group) if (CONF / group).is_dir() and group not in ("hydra/launcher", "hydra/sweeper") else None
    )
    names = []
    for name in chosen:
        close = difflib.get_close_matches(name, allowed or [], n=1)
        if allowed is None or name in allowed:
            names.append(name)
            continue
        hint = f"; did you mean {close[0]}?" if close else ""
        shown = (
            ", ".join(allowed) if group != "tuned" else "<scale>/<task>/<optim>, the rows of the tables in conf/tuned"
        )
        lines.append(f"{group}={name} is unknown; known: {shown}{hint}")
        names += close if group != "experiment" else []
    return [f"{key}={name}" for name in names]


def _composed(groups: Sequence[str], lines: list[str]) -> DictConfig | None:
    """The config of these choices; those that fail to compose are reported and left out."""
    left = list(groups)
    while True:
        try:
            return compose("config", overrides=left, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            lines.append(unknown_settings.one_line(error))
        if not left:
            return None
        for text in reversed(left):  # the one without which it composes, else one after the other
            rest = [other for other in left if other != text]
            try:
                return compose("config", overrides=rest, return_hydra_config=True)
            except (HydraException, OmegaConfBaseException):
                continue
        left.pop()


def _apply(override: Override, cfg: DictConfig, lines: list[str], broken: Sequence[str]) -> None:
    """Set a value in a config, or report why it cannot be set."""
    key = override.key_or_group
    if key in CHOSEN_BY_NAME:
        lines.append(
            f"{override.input_line} is not for the command line: {CHOSEN_BY_NAME[key]} with a known name sets it"
        )
        return
    reason = _always_there(override, cfg) if override.is_delete() else _mistyped(override, cfg) or _added(override, cfg)
    if reason:
        lines.append(reason)
        return
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], cfg)
    except (HydraException, OmegaConfBaseException, AssertionError, TypeError, ValueError) as error:
        if not any(key.startswith(f"{group}.") for group in (*broken, *(_below(broken)))):
            lines.append(unknown_settings.unapplied(override, cfg, error))


def _below(broken: Sequence[str]) -> list[str]:
    """Nodes whose keys follow from a group, other than the group's own node."""
    return ["model", "data", "schedule", "augment"] if {"task", "scale"} & set(broken) else []


def _mistyped(override: Override, cfg: DictConfig) -> str | None:
    """What type a setting of the schema must have, if its value has another."""
    above, _, name = override.key_or_group.rpartition(".")
    try:
        parent = OmegaConf.select(cfg, above) if above else cfg
        node = parent._get_node(name) if isinstance(parent, DictConfig) and name in parent else None
    except OmegaConfBaseException:
        return None
    if node is None or isinstance(node, list):
        return None
    kind, value = node._metadata.ref_type, override.value()
    optional = ", or null" if node._metadata.optional else ""
    if isinstance(value, str) and value.startswith("${"):
        return None
    typed = f"{override.key_or_group}={override.get_value_string()}"
    if value == "???":
        return f"{typed} must be a value"
    if isinstance(node, DictConfig) and kind is not Any and not isinstance(value, dict):
        keys = ", ".join(map(str, node)) or "name: value"
        return f"{typed} must be a mapping of {keys}; set one with {override.key_or_group}.<name>="
    if kind == bool | str:
        return None if isinstance(value, bool | str) else f"{typed} must be true, false or a name"
    if kind not in KINDS or (value is None and node._metadata.optional):
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return None if is_number(_float(value)) else f"{typed} must be a finite number{optional}"
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return None
    return None if type(value) is kind else f"{typed} must be {KINDS[kind]}{optional}"


def _always_there(override: Override, cfg: DictConfig) -> str | None:
    """Report a setting of the schema that is deleted, and what to do instead."""
    key = override.key_or_group
    above, _, name = key.rpartition(".")
    parent = OmegaConf.select(cfg, above, default=None) if above else cfg
    if key.startswith("hydra") or not isinstance(parent, DictConfig) or name not in parent or not _of_schema(parent):
        return None
    return f"{override.input_line} deletes a required setting; set another value with {key}="


def _added(override: Override, cfg: DictConfig) -> str | None:
    """Report a key added to the schema that nothing reads: it would only change the run id."""
    node: Any = cfg
    parts = override.key_or_group.split(".")
    if parts[0] == "hydra":
        return None
    for index, name in enumerate(parts):
        if not isinstance(node, DictConfig) or not _of_schema(node):
            return None
        if name not in node:
            siblings = sorted(str(key) for key in node if key != "hydra")
            key, above = ".".join(parts[: index + 1]), ".".join(parts[:index])
            if also := unknown_settings.ALSO_CALLED.get(override.key_or_group) or unknown_settings.elsewhere(name, cfg):
                return unknown_settings.called(key, also, cfg)
            below = f" below {above}" if above else ""
            return f"{key} is unknown; known{below}: {', '.join(siblings)}{near(name, siblings)}"
        node = node._get_node(name)
    return None


def _of_schema(node: DictConfig) -> bool:
    """Whether a node has the keys of a schema class, and no others."""
    return dataclasses.is_dataclass(OmegaConf.get_type(node))


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _needs_multirun(override: Override) -> str:
    text = str(override.input_line)
    return f"{text} gives several values: python run.py -m {text} ... runs each of them; a list is put in [ ]"


def _is_experiment(cfg: DictConfig) -> bool:
    sweeper = cfg.hydra.sweeper
    return bool(sweeper.get("params") or sweeper.get("conditions"))


def _protocol(cfg: DictConfig, parsed: Sequence[Override]) -> list[str]:
    """Mistakes in Hydra's settings that its plugins do not check."""
    lines = []
    launcher, sweeper = cfg.hydra.launcher, cfg.hydra.sweeper
    jobs = launcher.get("n_jobs")
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs == 0):
        lines.append(f"hydra.launcher.n_jobs={jobs} must be a whole number of runs at a time, or -1 for one a core")
    if str(sweeper.get("_target_", "")).endswith("TuningSweeper"):
        tuning = importlib.import_module("hydra_plugins.tuning")
        lines += filter(None, map(tuning.set_by_protocol, parsed))
        lines += tuning.protocol_problems(OmegaConf.to_container(sweeper, resolve=True), cfg.scale.name)
    return lines


def _problems(cfg: DictConfig, typed_keys: set[str]) -> list[str]:
    """Impossible values, and typed values that have no effect."""
    plain = cfg.copy()
    OmegaConf.set_struct(plain, False)
    task = plain.pop("hydra").runtime.choices.get("task")
    lines = validation.problems(plain, task, sorted(typed_keys))
    if not lines:
        warned = validation.warnings(plain)
        lines += [line for line in warned if line.partition("=")[0] in typed_keys]
    name = plain.schedule.name
    for key, shapes in (("cooldown_steps", ("constant", "rsqrt")), ("timescale", ("rsqrt",))):
        if f"schedule.{key}" in typed_keys and name not in shapes and plain.schedule[key]:
            said = f"schedule.{key}={plain.schedule[key]} has no effect with schedule={name}"
            lines.append(f"{said}; it is for {' and '.join(shapes)}")
    if "model.name" in typed_keys and plain.task.recipe in (
        "contrastive.recipe",
        "diffusion.class_conditional",
        "diffusion.text_to_image",
    ):
        lines.append(f"model.name={plain.model.name} has no effect: task={plain.task.name} is built from model.args")
    return lines


def expanded(argument: str) -> str:
    """An argument with ~ expanded and quotes added.

    The shell does not expand a ~/ after a =. Hydra's grammar needs quotes around a value with non-ASCII letters.
    """
    argument = re.sub(r"(?<=[=,])~(?=/|$)", lambda _: os.path.expanduser("~"), argument)  # noqa: PTH111
    name, equals, value = argument.partition("=")
    if not equals or value.isascii() or re.search(r"""[=,:\[\]{}()'"\\$]""", value):
        return argument
    return f"{name}='{value}'"


def ordered(arguments: Sequence[str]) -> list[str]:
    """Put flags before overrides, as Hydra's parser requires: `task=x -m seed=0,1` becomes `-m task=x seed=0,1`."""
    overrides = [text for text in arguments if re.match(r"[~+]|[^-][^=]*=", text)]
    return [text for text in arguments if text not in overrides] + overrides


def plan(arguments: Sequence[str], lines: list[str]) -> tuple[list[str], bool]:
    """The arguments without `plan=`, and whether it was true; a mistake in it is added to `lines`."""
    values = [text.partition("=")[2].lower() for text in arguments if re.match(r"\+{0,2}plan=", text)]
    lines += [f"plan={value} must be true or false" for value in values if value not in ("true", "false")]
    return [text for text in arguments if not re.match(r"\+{0,2}plan=", text)], values[-1:] == ["true"]

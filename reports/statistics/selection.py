"""Group runs that may be compared, and choose each optimizer's setting on validation.

Two runs are in one comparison if task, scale, model, data, batch size, number of steps and metric are the same, and so
are the conditions: a hash of all settings other than optimizer and seed. Within it, each optimizer's setting (learning
rate, weight decay) is the one with the best mean of the final validation value over seeds; the test value is not used.
If an optimizer has trials, runs with seeds that are reserved for choosing (TRIAL_SEEDS_FROM and above), its setting is
chosen by these only, and its figures are those of the other seeds at that setting: no run in a mean took part in the
choice.

An optimizer with another class or other arguments is another contender, with its own row. Of the variants in a
comparison, the one that was run on most tasks has the optimizer's name, and others are named by their differences:
"lion (betas 0.9 0.9)".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from reports.protocol import FRESH_SEEDS, TRIALS
from reports.protocol import TRIAL_SEEDS_FROM as TRIAL_SEEDS_FROM

SAME = ["task", "scale", "model", "model_args", "num_parameters", "data", "data_fingerprint", "augment"]
SAME += ["conditions", "batch_size", "steps", "schedule", "warmup_steps", "metric", "goal"]
SETTING = ["lr", "weight_decay"]
KIND = ["optim_class", "optim_args"]  # runs of one optimizer that differ in these are different contenders
UNRECORDED = "not recorded"
NEAR = 2.0  # a factor: slightly more than the quarter of a decade between neighbouring learning rates


@dataclass(frozen=True, eq=False)  # tables of runs do not compare; by identity, curves are cached
class Contender:
    """One optimizer, or one variant of it, in one comparison: its runs and the setting chosen for it.

    `settings` has a row a setting that took part in the choice and ran to an end (completed or diverged): lr,
    weight_decay, seeds (completed ones), diverged (runs) and final (mean over seeds). `chosen` is a row of it, or None
    if no run completed. `fresh` says whether the choice was made on trials, so that figures are of other seeds.
    """

    label: str
    runs: pd.DataFrame
    settings: pd.DataFrame
    chosen: pd.Series[Any] | None
    fresh: bool = False

    def with_status(self, status: str) -> pd.DataFrame:
        """Return this contender's runs that ended in this way."""
        return self.runs[self.runs["status"] == status]

    @property
    def by_protocol(self) -> bool:
        """Whether the protocol was followed: enough trials, and enough completed runs on fresh seeds."""
        return self.fresh and len(self.settings) >= TRIALS and self.at_choice()["seed"].nunique() >= FRESH_SEEDS

    @property
    def described(self) -> str:
        """The class that ran and its recorded arguments other than learning rate and weight decay."""
        kind = [self.runs[column].dropna().unique() for column in KIND]
        return ", ".join(values[0] for values in kind if len(values) and values[0])

    @property
    def trials(self) -> pd.DataFrame:
        """The runs by which the setting is chosen."""
        return self.runs[is_trial(self.runs)] if self.fresh else self.runs

    def at_choice(self, status: str = "completed") -> pd.DataFrame:
        """Return the runs at the chosen setting that ended in this way, without trials."""
        return self._at_choice.get(status, self.runs.iloc[:0])

    @cached_property
    def _at_choice(self) -> dict[str, pd.DataFrame]:
        """By status; cached, since tables, figures and claims ask for it many times."""
        if self.chosen is None:
            return {}
        runs = self.runs[~is_trial(self.runs)] if self.fresh else self.runs
        return {str(status): ended for status, ended in runs[at_setting(runs, self.chosen)].groupby("status")}

    def by_seed(self, column: str) -> pd.Series[float]:
        """Return a column of the completed runs at the chosen setting, indexed by seed."""
        return self.at_choice().groupby("seed", dropna=False)[column].mean()


@dataclass(frozen=True)
class Comparison:
    """Runs of one task that differ in nothing but optimizer, setting and seed."""

    task: str
    scale: str | None
    model: str | None
    model_args: str | None
    num_parameters: int | None
    data: str | None
    data_fingerprint: str | None
    augment: str | None
    conditions: str | None
    batch_size: int | None
    steps: int | None
    schedule: str | None
    warmup_steps: int | None
    metric: str | None
    goal: str | None
    contenders: list[Contender]


def comparisons(runs: pd.DataFrame) -> list[Comparison]:
    """Group runs, as read by `read_records`, into sorted comparisons.

    A run that ended before all of its settings were recorded joins the comparison that agrees with the recorded ones;
    if there are several such comparisons, it forms its own.
    """
    keys = [tuple(None if pd.isna(v) else v for v in row) for row in runs[SAME].itertuples(index=False)]
    distinct = sorted(set(keys), key=lambda key: [(v is None, v) for v in key])
    wider = {key: [k for k in distinct if k != key and _fills(k, key)] for key in distinct if None in key}
    wider = {key: [k for k in homes if None not in k] or homes for key, homes in wider.items()}
    home = {key: wider[key][0] if len(wider.get(key, [])) == 1 else key for key in distinct}
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(home[key], []).append(row)
    tasks = _tasks_of_kinds(runs)
    comparisons = []
    for key in distinct:
        if key in rows:
            facts = dict(zip(SAME, key, strict=True))
            comparisons.append(Comparison(**facts, contenders=_contenders(runs.iloc[rows[key]], facts["goal"], tasks)))
    return comparisons


def settings_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a setting that completed or diverged: lr, weight_decay, seeds, diverged, final."""
    ended = runs[runs["status"].isin(["completed", "diverged"])]
    completed = ended["status"] == "completed"
    ended = ended.assign(diverged=~completed, final=ended["final"].where(completed))
    of_seed = ended.groupby([*SETTING, "seed"], dropna=False)
    by_seed = pd.DataFrame({"diverged": of_seed["diverged"].sum(), "final": of_seed["final"].mean()})
    of_setting = by_seed.groupby(SETTING, dropna=False)
    columns = {"seeds": of_setting["final"].count(), "diverged": of_setting["diverged"].sum()}
    settings = pd.DataFrame({**columns, "final": of_setting["final"].mean()}).reset_index()
    return settings.astype({"seeds": "int64", "diverged": "int64"})


def choose(settings: pd.DataFrame, goal: str | None) -> pd.Series[Any] | None:
    """Choose the setting with the best mean validation value, or None if none has a completed run.

    If several settings were run on more seeds than the rest, the choice is among them: the best few of the first seed
    are run again, and a single seed's value does not compete with a mean. If each of those diverged on some seed, it is
    among the others that never did.
    """
    order = ranked(settings, goal)
    if order.empty:
        return None
    runs = order["seeds"] + order["diverged"]
    several = runs[[int((runs >= count).sum()) >= 2 for count in runs]]
    compared = order[runs >= several.max()] if len(several) else order
    sound = order[order["diverged"] == 0]
    if compared["diverged"].all() and len(sound):
        compared = sound
    return settings.loc[compared.index[0]]


def ranked(settings: pd.DataFrame, goal: str | None) -> pd.DataFrame:
    """Return the settings with a completed run, the best mean validation value first.

    A setting at which any run diverged ranks behind those at which none did. Of equals, the one with more
    seeds is taken, then the lower learning rate and weight decay.
    """
    able = settings[settings["seeds"] > 0]
    keys = able.assign(broken=able["diverged"] > 0, rank=able["final"] * (-1 if goal == "max" else 1))
    keys = keys.sort_values(["broken", "rank", "seeds", *SETTING], ascending=[True, True, False, True, True])
    return able.loc[keys.index]


def at_setting(runs: pd.DataFrame, setting: pd.Series[Any]) -> pd.Series[bool]:
    """Return for each run whether it has this learning rate and weight decay."""
    same = pd.Series(True, index=runs.index)
    for axis in SETTING:
        same &= runs[axis].isna() if pd.isna(setting[axis]) else runs[axis] == setting[axis]
    return same


def open_sides(settings: pd.DataFrame, chosen: pd.Series[Any], axis: str) -> list[int]:
    """Return the directions along `axis` (-1: lower, 1: higher) in which the chosen setting is not enclosed.

    It is enclosed where a setting was tried further along whose other value is the same to within a factor of two: a
    learning rate a quarter of a decade away counts as the same. Diverged runs count as tried.
    """
    other = SETTING[1 - SETTING.index(axis)]
    value, fixed = chosen[axis], chosen[other]
    level = (settings[other] == fixed) | settings[other].between(fixed / NEAR, fixed * NEAR) | pd.isna(fixed)
    tried = settings.loc[level, axis]
    return [side for side, beyond in ((-1, tried < value), (1, tried > value)) if not beyond.any()]


def on_border(settings: pd.DataFrame, chosen: pd.Series[Any], axis: str) -> bool:
    """Whether the chosen setting is not enclosed along `axis`, with several values tried."""
    return settings[axis].nunique() > 1 and bool(open_sides(settings, chosen, axis))


def is_trial(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return for each run whether its seed is reserved for choosing a setting."""
    return (runs["seed"] >= TRIAL_SEEDS_FROM).fillna(False).astype(bool)


Kind = tuple[str, str]  # class and arguments


def _tasks_of_kinds(runs: pd.DataFrame) -> dict[str, dict[Kind, int]]:
    """Return for each optimizer on how many tasks each of its kinds was run."""
    counts: dict[str, dict[Kind, int]] = {}
    for (optim, kind, arguments), of_kind in runs.dropna(subset=KIND).groupby(["optim", *KIND]):
        counts.setdefault(str(optim), {})[str(kind), str(arguments)] = of_kind["task"].nunique()
    return counts


def _usual(kinds: list[Kind], tasks: Mapping[Kind, int]) -> Kind | None:
    """Return the kind that was run on more tasks than any other of these, where there is one."""
    most = max(tasks.get(kind, 0) for kind in kinds)
    usual = [kind for kind in kinds if tasks.get(kind, 0) == most]
    return usual[0] if len(usual) == 1 else None


def _contenders(runs: pd.DataFrame, goal: str | None, tasks: Mapping[str, Mapping[Kind, int]]) -> list[Contender]:
    contenders = []
    for optim, of_optim in runs.groupby("optim"):
        kinds = [_filled(of_optim[column]) for column in KIND]
        groups = list(of_optim.groupby(kinds))
        found_kinds = [(str(kind), str(arguments)) for (kind, arguments), _ in groups]
        names = _names(found_kinds, _usual(found_kinds, tasks.get(str(optim), {})))
        for (_, group), name in zip(groups, names, strict=True):
            trials = group[is_trial(group)]
            settings = settings_of(group if trials.empty else trials)
            label = f"{optim} ({name})" if len(groups) > 1 and name else str(optim)
            contenders.append(Contender(label, group, settings, choose(settings, goal), fresh=not trials.empty))
    return contenders


def _filled(values: pd.Series[str]) -> pd.Series[str]:
    """Assign runs that ended before their variant was recorded to the only variant, if there is one."""
    recorded = values.dropna().unique()
    return values.fillna(recorded[0] if len(recorded) == 1 else UNRECORDED)


def _names(kinds: list[Kind], usual: Kind | None) -> list[str]:
    """Name the variants of one optimizer by their differences: the class, or the arguments that differ.

    The usual variant has an empty name; the others are named by what differs from it.
    """
    if usual in kinds:
        usual_parts = set(usual[1].split(", "))
        others = [[part for part in arguments.split(", ") if part not in usual_parts] for _, arguments in kinds]
        classes = [[kind] if kind != usual[0] else [] for kind, _ in kinds]
        names = [", ".join([*c, *filter(None, o)]) for c, o in zip(classes, others, strict=True)]
        if len(set(names)) == len(names) and names.count("") == 1:
            return names
    if len({kind for kind, _ in kinds}) == len(kinds):
        return [kind for kind, _ in kinds]
    common = set.intersection(*(set(arguments.split(", ")) for _, arguments in kinds))
    several = len({kind for kind, _ in kinds}) > 1
    names = []
    for kind, arguments in kinds:
        differing = [part for part in arguments.split(", ") if part and part not in common]
        names.append(", ".join([kind] * several + (differing or ["defaults"])))
    return names


def _fills(full: tuple[Any, ...], part: tuple[Any, ...]) -> bool:
    return all(p is None or p == f for f, p in zip(full, part, strict=True))

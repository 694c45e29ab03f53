"""Hydra sweeper `tuning`: the same number of trials for every optimizer, then the winners on fresh seeds.

scripts/tune.py is its command line. Each combination of the swept values (task, optim, batch_size, ...) is tuned by
itself: `trials` points of a grid around the centre that its config holds, all with the seed `trial_seed`, chosen on
validation; then the chosen point on `seeds` other seeds, whose figures are the ones that reports show. Runs go through
Hydra's launcher, and a run whose record is complete is not done again.

Hydra imports this module at every start, so heavy imports wait for the sweep.
"""

import itertools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

CHOSEN_HERE = ("seed", "optim.lr", "optim.weight_decay")  # what the protocol varies
PLAN = "LION_BENCH_PLAN"  # in the environment: the command had plan=true (recipes/runs/cli.py)
Point = tuple[float, float]


@dataclass
class Study:
    """One optimizer on one task: what was swept to get here, its centre and its points."""

    overrides: list[str]
    cfg: DictConfig
    points: list[Point] = field(default_factory=list)
    best: Point | None = None

    @property
    def name(self) -> str:
        """The task and the optimizer, with what else was swept."""
        silent = ("task=", "optim=", "output_dir=", "tracker=", "+experiment=")
        more = [text for text in self.overrides if not text.startswith(silent)]
        return " ".join([self.cfg.task.name, self.cfg.optim.name, *more])

    @property
    def centre(self) -> Point:
        """Learning rate and weight decay of the config."""
        return float(self.cfg.optim.lr), float(self.cfg.optim.weight_decay)

    def job(self, point: Point, seed: int) -> list[str]:
        """The overrides of one run."""
        return [*self.overrides, f"optim.lr={point[0]!r}", f"optim.weight_decay={point[1]!r}", f"seed={seed}"]

    def folder(self, point: Point, seed: int) -> Path:
        """Where that run's record lies."""
        from recipes.runs.record import folder_of

        cfg = self.cfg.copy()
        cfg.optim.lr, cfg.optim.weight_decay, cfg.seed = *point, seed
        return folder_of(cfg)


class TuningSweeper(Sweeper):
    """Tune every combination of the swept values by one protocol.

    Args:
        trials: points of the grid for each, or a number for each scale. With none, the centre is taken as it is.
        seeds: fresh seeds of the winner: `first_seed` and those after it.
        trial_seed: seed of every trial; reports take the figures of such runs for choosing only.
        extend: further points for each, around its winner, once one winner lies on the edge of its grid.
        plan: print what would be done, and stop.
        params: values to sweep, as on the command line, which wins over them.
        conditions: alternatives to go through, each some overrides with spaces between them; or those of each scale.
            Those that have another value of a key on the command line are left out; where all have another, it
            takes the place of theirs.
    """

    def __init__(
        self,
        trials: int | Mapping[str, int],
        seeds: int,
        first_seed: int,
        trial_seed: int,
        extend: int,
        plan: bool,
        params: Mapping[str, Any] | None = None,
        conditions: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.all_trials, self.seeds, self.extend, self.plan_only = trials, seeds, extend, plan
        self.params, self.all_conditions = dict(params or {}), conditions
        self.trial_seed, self.first_seed = trial_seed, first_seed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to a sweeper."""
        self.context = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.prepare(config)

    def prepare(self, config: DictConfig) -> None:
        """Settle what depends on the scale that the command line names."""
        self.base, self.launched = config, 0
        self.trials = self._at_scale(self.all_trials)
        self.conditions = [str(line) for line in self._at_scale(self.all_conditions) or [""]]

    def _at_scale(self, value: Any) -> Any:
        """What is given for the scale of the command line, where it differs by scale."""
        return value.get(self.base.scale.name) if isinstance(value, Mapping) else value

    def sweep(self, arguments: list[str]) -> None:
        """Run the protocol; `arguments` are the overrides of the command line."""
        from recipes.errors import ConfigError

        self._check()
        studies, wrong = [], []
        for overrides in self._combinations(arguments):
            try:
                studies.append(self._study(overrides))
            except ValueError as error:  # a ConfigError, or the grid's
                wrong += str(error).splitlines()
        if wrong:
            raise ConfigError("\n".join(dict.fromkeys(wrong)))
        if self.base.dry_run:
            self._launch([study.overrides for study in studies])
            return
        self._announce(studies)
        if self._planned():
            return
        self._run((study, point, self.trial_seed) for study in studies for point in study.points)
        on_edge = self._choose(studies) if self.trials else []
        if on_edge and self.extend:
            self._extend(studies)
            on_edge = self._choose(studies)
        self._run((study, study.best, seed) for study in studies if study.best for seed in self.fresh)
        self._conclude(studies, on_edge)

    def _planned(self) -> bool:
        return self.plan_only or PLAN in os.environ

    def _check(self) -> None:
        from recipes.errors import ConfigError

        names = ("seeds", "first_seed", "trial_seed", "extend")
        settings = {name: getattr(self, name) for name in names}
        settings |= {"trials": self.all_trials, "plan": self.plan_only}
        if found := protocol_problems(settings, self.base.scale.name):
            raise ConfigError("\n".join(found))
        self.fresh = range(self.first_seed, self.first_seed + self.seeds)

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        """Every combination of the swept overrides: of the experiment's, each of its conditions, the command line's."""
        typed = self._values(arguments)
        found: list[list[str]] = []
        for condition in self._narrowed(typed):
            under = self._values([f"{key}={value}" for key, value in self.params.items()])
            lists = (under | typed | condition).values()
            found += [list(combination) for combination in itertools.product(*lists)]
        return [list(each) for each in dict.fromkeys(map(tuple, found))]

    def _narrowed(self, typed: Mapping[str, list[str]]) -> list[dict[str, list[str]]]:
        """The conditions, with what the command line chooses of them or sets in their place."""
        from recipes.errors import ConfigError

        conditions = [self._values(line.split()) for line in self.conditions]
        for key, wanted in typed.items():
            offered = {text for condition in conditions for text in condition.get(key, [])}
            lacking = [text for text in wanted if text not in offered]
            if len(lacking) == len(wanted):
                conditions = [{k: texts for k, texts in c.items() if k != key} for c in conditions]
                continue
            if lacking and all(key in condition for condition in conditions):
                raise ConfigError(
                    f"{' and '.join(lacking)}: not in this experiment, which has {', '.join(sorted(offered))}"
                )
            narrowed = [c | {key: [t for t in wanted if t in c[key]]} if key in c else c for c in conditions]
            conditions = [c for c in narrowed if c.get(key, wanted)]
        return conditions

    def _values(self, overrides: Sequence[str]) -> dict[str, list[str]]:
        """The overrides that each key is given, as Hydra reads them; those refused that the protocol sets."""
        from recipes.errors import ConfigError

        values: dict[str, list[str]] = {}
        for override in OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(
            list(overrides)
        ):
            key = str(override.key_or_group)
            if mistake := set_by_protocol(override):
                raise ConfigError(mistake)
            written = override.get_key_element()  # with its +, where it adds
            if override.is_sweep_override():
                values[key] = [f"{written}={value}" for value in override.sweep_string_iterator()]
            else:
                values[key] = [f"{written}={override.get_value_element_as_str()}"]
        return values

    def _study(self, overrides: list[str]) -> Study:
        from recipes.runs.grid import around
        from recipes.settings import from_data, validation

        cfg = self.context.config_loader.load_sweep_config(self.base, overrides)
        OmegaConf.set_struct(cfg, False)
        cfg.pop("hydra")
        looked_at = cfg.copy()
        looked_at.dry_run |= self._planned()  # one plans before the data are there: their place is not looked at
        validation.check(looked_at)
        from_data.resolve(cfg, overrides)
        study = Study(overrides, cfg)
        if self.trials:
            study.points = around(study.centre, self.trials)
        else:
            study.best = study.centre
        return study

    def _announce(self, studies: Sequence[Study]) -> None:
        """Say how many runs there are to do, and about how long they take."""
        runs = [(study, point, self.trial_seed) for study in studies for point in study.points]
        trials = self._open(runs)
        fresh = len(studies) * self.seeds
        say(
            f"{len(studies)} studies (task and optimizer) of {self.trials} trials with seed {self.trial_seed} and "
            f"{self.seeds} fresh seeds each: {len(runs)} trials, {len(runs) - len(trials)} of them done; "
            f"then {fresh} runs of the winners"
            + (f"; {self.extend} more trials each if a winner is on an edge" if self.extend else "")
        )
        workers = int(self.base.hydra.launcher.get("n_jobs") or 1)
        seconds = [run_seconds(study.cfg) for study, _, _ in trials]
        seconds += [run_seconds(study.cfg) for study in studies] * self.seeds
        if None in seconds:
            say("how long that takes is not known: no finished run of some of these tasks to judge by")
        else:
            total = sum(s for s in seconds if s is not None) / max(workers, 1)
            say(f"about {total / 60:.0f} minutes with {workers} at a time, judged by earlier runs of these tasks")
        for study in studies:
            points = study.points or [study.centre]
            lrs, decays = (sorted({point[axis] for point in points}) for axis in (0, 1))
            say(f"  {study.name}: lr {words(lrs)}; weight decay {words(decays)} (centre from {study.cfg.tuned.file})")

    def _open(self, runs: Iterable[tuple[Study, Point, int]]) -> list[tuple[Study, Point, int]]:
        """Those runs whose records are not complete."""
        from recipes.runs.record import FINISHED, read_summary

        return [run for run in runs if (read_summary(run[0].folder(*run[1:])) or {}).get("status") not in FINISHED]

    def _run(self, runs: Iterable[tuple[Study, Point, int]]) -> None:
        """Do those runs that are not done; all must end."""
        from recipes.errors import ConfigError
        from recipes.runs.sweep import wait_for

        runs = list(runs)
        jobs = [study.job(point, seed) for study, point, seed in self._open(runs)]
        if jobs:
            self._launch(jobs)
        for study, point, seed in self._open(runs):
            wait_for(study.folder(point, seed))  # where the same command runs twice, each does a part
        if unfinished := self._open(runs):
            raise ConfigError(
                f"{len(unfinished)} of {len(runs)} runs failed, so that nothing can be chosen fairly; "
                "the same command goes on once the cause is mended"
            )

    def _launch(self, jobs: list[list[str]]) -> None:
        for result in self.launcher.launch(jobs, initial_job_idx=self.launched):
            _ = result.return_value  # raises what the run raised
        self.launched += len(jobs)

    def _choose(self, studies: Iterable[Study]) -> list[str]:
        """Choose each study's point on validation; returns the names of those on the edge of what was tried."""
        from reports.records.reader import read_records
        from reports.statistics.selection import choose, on_border, settings_of

        on_edge = []
        for study in studies:
            runs = read_records(study.folder(point, self.trial_seed) for point in study.points).runs
            settings = settings_of(runs)
            goal = runs["goal"].dropna()
            chosen = choose(settings, str(goal.iloc[0]) if len(goal) else None)
            study.best = None
            if chosen is None:
                say(f"{study.name}: none of {len(runs)} trials completed, so there is no winner to run again")
                continue
            study.best = float(chosen["lr"]), float(chosen["weight_decay"])
            edges = [axis for axis in ("lr", "weight_decay") if on_border(settings, chosen, axis)]
            diverged = int(settings["diverged"].sum())
            say(
                f"{study.name}: best of {len(runs)} trials lr {study.best[0]:g}, weight decay {study.best[1]:g}, "
                f"validation {runs['metric'].iloc[0]} {chosen['final']:.4g}"
                + (f", {diverged} diverged" if diverged else "")
                + (f", on the edge of the {' and '.join(edges)} tried" if edges else "")
            )
            on_edge += [study.name] if edges else []
        return on_edge

    def _extend(self, studies: Sequence[Study]) -> None:
        from recipes.runs.grid import extended

        for study in studies:
            study.points += extended(study.centre, study.points, study.best or study.centre, self.extend)
        self._run((study, point, self.trial_seed) for study in studies for point in study.points)

    def _conclude(self, studies: Sequence[Study], on_edge: Sequence[str]) -> None:
        if on_edge:
            say(
                f"{len(on_edge)} of {len(studies)} winners lie on the edge of what was tried; extend={self.extend + 3} "
                "gives every optimizer as many more trials around its winner"
            )
        say(f"tables and figures: python scripts/compare.py {studies[0].cfg.output_dir}")


def set_by_protocol(override: Override) -> str | None:
    """What is wrong with an override of what the protocol itself varies, or None."""
    key, several = override.key_or_group, override.is_sweep_override()
    if key == "seed" or (key in CHOSEN_HERE and several):
        return (
            f"{key}= is set by the protocol: seeds= and first_seed= say which seeds are run, "
            "optim.lr= and optim.weight_decay= with one value each move the grid's centre"
        )
    if key == "scale" and several:
        return f"{override.input_line}: the number of trials hangs on the scale; start the command once for each"
    return None


def protocol_problems(settings: Mapping[str, Any], scale: str) -> list[str]:
    """What is wrong with the protocol's numbers, a line each; `trials` may differ by scale."""
    from recipes.runs.grid import MOST
    from reports.statistics.selection import TRIAL_SEEDS_FROM

    trials = settings["trials"]
    numbers = dict(settings) | {"trials": trials.get(scale) if isinstance(trials, Mapping) else trials}
    least = {"trials": 0, "seeds": 0, "extend": 0, "first_seed": 0, "trial_seed": TRIAL_SEEDS_FROM}
    most = {"trials": MOST, "extend": MOST, "trial_seed": 2**53 - 1}
    found = []
    for name, limit in least.items():
        value = numbers[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < limit:
            found.append(f"{name}={value} must be a whole number of at least {limit}")
        elif value > most.get(name, value):
            found.append(f"{name}={value} must be at most {most[name]}")
    if not isinstance(settings["plan"], bool):
        found.append(f"plan={settings['plan']} must be true or false")
    if found:
        return found
    if numbers["first_seed"] + numbers["seeds"] > TRIAL_SEEDS_FROM:
        found.append(f"seeds from {TRIAL_SEEDS_FROM} on are kept for trials; choose a lower first_seed, or fewer seeds")
    if numbers["trials"] + numbers["seeds"] == 0:
        found.append("trials=0 and seeds=0 leave nothing to run")
    return found


def run_seconds(cfg: DictConfig) -> float | None:
    """About how long a run takes, by earlier runs of its task and scale, of its optimizer where there are any."""
    from reports.records.reader import read_records

    folders = [Path(cfg.output_dir) / cfg.task.name / cfg.optim.name, Path(cfg.output_dir) / cfg.task.name]
    for folder in folders:
        runs = read_records([folder]).runs
        speeds = runs.loc[(runs["scale"] == cfg.scale.name) & (runs["status"] == "completed"), "steps_per_second"]
        if len(speeds := speeds.dropna()):
            return 3 + 1.1 * int(cfg.steps) / float(speeds.median())  # start-up, and evaluation's share
    return None


def words(values: Iterable[float]) -> str:
    """Values with commas between them."""
    return ", ".join(f"{value:g}" for value in values)


def say(line: str) -> None:
    """Print a line at once: what follows may take hours."""
    from recipes.distributed import processes

    if processes.is_first():
        print(line)
        sys.stdout.flush()

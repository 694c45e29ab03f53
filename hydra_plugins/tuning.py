"""Hydra sweeper `tuning`: every optimizer tuned by one protocol, then the winners on fresh seeds.

scripts/tune.py is its command line; docs/comparison.md explains the protocol. Each combination of the swept
values (task, optim, batch_size, ...) is tuned by itself (tuning_protocol.py). Runs go through Hydra's launcher,
and a run whose record is complete is not done again.

Hydra imports this module at every start, so heavy imports wait for the sweep.
"""

import itertools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.tuning_protocol import Protocol, Run, Study

CHOSEN_HERE = ("seed", "optim.lr", "optim.weight_decay")  # what the protocol varies
PLAN = "LION_BENCH_PLAN"  # in the environment: the command had plan=true (recipes/runs/cli.py)


class TuningSweeper(Sweeper):
    """Tune every combination of the swept values by one protocol.

    Args:
        trials: points of the first grid for each, or a number for each scale.
        rings, refine, shortlist, repeats, trial_seed, seeds, first_seed: see `Protocol`.
        params: values to sweep, as on the command line, which wins over them.
        conditions: alternatives to go through, each some overrides with spaces between them; or those of each scale.
            Those that have another value of a key on the command line are left out; where all have another, it
            takes the place of theirs.
    """

    def __init__(
        self,
        trials: int | Mapping[str, int],
        params: Mapping[str, Any] | None = None,
        conditions: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        **numbers: Any,
    ) -> None:
        self.all_trials, self.numbers = trials, numbers
        self.params, self.all_conditions = dict(params or {}), conditions

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra passes to a sweeper."""
        self.context = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.prepare(config)

    def prepare(self, config: DictConfig) -> None:
        """Resolve settings that depend on the scale of the command line."""
        self.base, self.launched = config, 0
        self.protocol = Protocol(trials=self._at_scale(self.all_trials), **self.numbers)
        self.conditions = [str(line) for line in self._at_scale(self.all_conditions) or [""]]

    def _at_scale(self, value: Any) -> Any:
        """The value for the scale of the command line, if it differs by scale."""
        return value.get(self.base.scale.name) if isinstance(value, Mapping) else value

    def sweep(self, arguments: list[str]) -> None:
        """Run the protocol; `arguments` are the overrides of the command line."""
        from recipes.errors import ConfigError

        if problems := protocol_problems(vars(self.protocol), self.base.scale.name):
            raise ConfigError("\n".join(problems))
        studies = self.studies(arguments)
        if self.base.dry_run:
            self._launch([study.overrides for study in studies])
            return
        self.announce(studies)
        if PLAN in os.environ:
            return
        if self.protocol.trials:
            self.protocol.tune(studies, self._run)
            for study in studies:
                say(f"{study.name}: {study.summary}")
        self._run((study, study.best, seed) for study in studies if study.best for seed in self.protocol.fresh)
        if unenclosed := [study for study in studies if study.open_sides]:
            say(
                f"{len(unenclosed)} of {len(studies)} winners are not enclosed by what was tried; a larger rings= than "
                f"{self.protocol.rings} continues from here, for every optimizer"
            )
        say(f"tables and figures: python scripts/compare.py {studies[0].cfg.output_dir}")

    def studies(self, arguments: list[str]) -> list[Study]:
        """Compose each combination of the swept values, with the points of its first grid.

        Raises:
            ConfigError: what is wrong with any of them, a line each.
        """
        from recipes.errors import ConfigError

        if isinstance(self.all_conditions, Mapping) and self.base.scale.name not in self.all_conditions:
            scales = ", ".join(map(str, self.all_conditions))
            raise ConfigError(f"this experiment has nothing to run at scale={self.base.scale.name}; it has {scales}")
        studies, problems = [], []
        for overrides in self._combinations(arguments):
            try:
                studies.append(self._study(overrides))
            except ValueError as error:  # a ConfigError, or the grid's
                problems += str(error).splitlines()
        if problems:
            raise ConfigError("\n".join(dict.fromkeys(problems)))
        return studies

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        """Every combination of the swept overrides: of the experiment's, each of its conditions, the command line's."""
        typed = self._values(arguments)
        combinations: list[list[str]] = []
        for condition in self._narrowed(typed):
            under = self._values([f"{key}={value}" for key, value in self.params.items()])
            lists = (under | typed | condition).values()
            combinations += [list(combination) for combination in itertools.product(*lists)]
        return [list(each) for each in dict.fromkeys(map(tuple, combinations))]

    def _narrowed(self, typed: Mapping[str, list[str]]) -> list[dict[str, list[str]]]:
        """The conditions, filtered or overridden by the command line."""
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
        """The overrides of each key, as Hydra reads them; those that the protocol sets are refused."""
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
        from recipes.settings import from_data, validation
        from recipes.tuning_grid import around

        cfg = self.context.config_loader.load_sweep_config(self.base, overrides)
        OmegaConf.set_struct(cfg, False)
        cfg.pop("hydra")
        looked_at = cfg.copy()
        looked_at.dry_run |= PLAN in os.environ  # a plan may come before the data: their location is not checked
        validation.check(looked_at)
        from_data.resolve(cfg, overrides)
        study = Study(overrides, cfg)
        if self.protocol.trials:
            study.points = around(study.centre, self.protocol.trials)
        else:
            study.best = study.centre
        return study

    def announce(self, studies: Sequence[Study]) -> None:
        """Print the number of runs to do, and about how long they take."""
        protocol = self.protocol

        def is_done(run: Run) -> bool:
            return not self._open([run])

        trials = [(study, point, protocol.trial_seed) for study in studies for point in study.points]
        completed = sum(map(is_done, trials))
        done = f" ({len(trials)} trials, {completed} of them done)" if trials else ""
        say(f"{len(studies)} studies (task and optimizer){done}, each of:")
        for line in protocol.in_words():
            say(f"  {line}")
        workers = int(self.base.hydra.launcher.get("n_jobs") or 1)
        left = [protocol.runs_left(study, is_done) for study in studies]
        each = run_seconds([study.cfg for study in studies])
        seconds = [duration for duration, count in zip(each, left, strict=True) for _ in range(count)]
        if not seconds:
            say("all of these runs are done")
        elif self.base.scale.name == "gpu":
            say(gpu_hours([study.cfg for study, count in zip(studies, left, strict=True) for _ in range(count)]))
        elif None in seconds:
            say("how long that takes is not known: no finished run of some of these tasks to judge by")
        else:
            total = sum(s for s in seconds if s is not None) / max(workers, 1)
            rings = ", rings not counted" if protocol.trials and protocol.rings else ""
            say(f"about {total / 60:.0f} minutes with {workers} at a time by earlier runs of these tasks{rings}")
        for study in studies:
            points = study.points or [study.centre]
            lrs, decays = (sorted({point[axis] for point in points}) for axis in (0, 1))
            say(f"  {study.name}: lr {words(lrs)}; weight decay {words(decays)} (centre from {study.cfg.tuned.file})")

    def _open(self, runs: Iterable[Run]) -> list[Run]:
        """The runs whose records are not complete."""
        from recipes.runs.record import FINISHED, read_summary

        return [run for run in runs if (read_summary(run[0].folder(*run[1:])) or {}).get("status") not in FINISHED]

    def _run(self, runs: Iterable[Run]) -> None:
        """Do the runs that are not done; all must complete or diverge."""
        from recipes.errors import ConfigError
        from recipes.runs.sweep import wait_for

        runs = list(runs)
        jobs = [study.job(point, seed) for study, point, seed in self._open(runs)]
        if jobs:
            self._launch(jobs)
        for study, point, seed in self._open(runs):
            wait_for(study.folder(point, seed))  # if the same command runs twice, each does a part
        if unfinished := self._open(runs):
            raise ConfigError(
                f"{len(unfinished)} of {len(runs)} runs failed, so that nothing can be chosen fairly; "
                "the same command continues once the cause is fixed"
            )

    def _launch(self, jobs: list[list[str]]) -> None:
        for result in self.launcher.launch(jobs, initial_job_idx=self.launched):
            _ = result.return_value  # raises what the run raised
        self.launched += len(jobs)


def set_by_protocol(override: Override) -> str | None:
    """The mistake in an override of a setting that the protocol varies, or None."""
    key, several = override.key_or_group, override.is_sweep_override()
    if key == "seed" or (key in CHOSEN_HERE and several):
        return (
            f"{key}= is set by the protocol: seeds= and first_seed= say which seeds are run, "
            "optim.lr= and optim.weight_decay= with one value each move the grid's centre"
        )
    if key == "scale" and several:
        return f"{override.input_line}: the number of trials depends on the scale; start the command once for each"
    return None


def protocol_problems(settings: Mapping[str, Any], scale: str) -> list[str]:
    """The mistakes in the sweeper's settings, one line each; `trials` may differ by scale."""
    trials = settings["trials"]
    numbers = {name: settings[name] for name in Protocol.__dataclass_fields__}
    numbers["trials"] = trials.get(scale) if isinstance(trials, Mapping) else trials
    return Protocol(**numbers).problems()


def run_seconds(settings: Sequence[DictConfig]) -> list[float | None]:
    """About how long each run takes, by earlier runs of its task and scale, of its optimizer if there are any."""
    from reports.records.reader import read_records

    read = cache(lambda folder: read_records([folder]).runs)
    started, evaluated = 3, 1.1  # seconds, and the share that evaluation adds
    seconds: list[float | None] = []
    for cfg in settings:
        runs = read(Path(cfg.output_dir) / cfg.task.name)
        runs = runs[(runs["scale"] == cfg.scale.name) & (runs["status"] == "completed")]
        runs = runs.dropna(subset="steps_per_second")
        of_optimizer = runs[runs["optim"] == cfg.optim.name]
        speeds = (of_optimizer if len(of_optimizer) else runs)["steps_per_second"]
        seconds.append(started + evaluated * int(cfg.steps) / float(speeds.median()) if len(speeds) else None)
    return seconds


def gpu_hours(runs: Sequence[DictConfig]) -> str:
    """About how many hours of some GPUs these runs take, by their FLOPs."""
    from recipes.runs.dry_run import gpus

    parts = ("task", "model", "data", "batch_size", "steps", "precision")
    distinct = {str([cfg[part] for part in parts]): cfg for cfg in runs}
    costs = {key: gpus.of_config(cfg) for key, cfg in distinct.items()}
    each = [costs[str([cfg[part] for part in parts])] for cfg in runs]
    totals = {gpu.name: sum(gpus.hours(run, gpu) for run in each) for gpu in gpus.GPUS}
    shown = ", ".join(f"{name} {hours:,.0f}" for name, hours in totals.items())
    return f"GPU-hours of {len(runs)} runs by their FLOPs, an estimate, rings not counted: {shown}"


def words(values: Iterable[float]) -> str:
    """Values with commas between them."""
    return ", ".join(f"{value:g}" for value in values)


def say(line: str) -> None:
    """Print a line without buffering: the next one may take hours."""
    from recipes.distributed import processes

    if processes.is_first():
        print(line)
        sys.stdout.flush()

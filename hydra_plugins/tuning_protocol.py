"""The tuning protocol: how an optimizer's setting is chosen, the same for all (docs/comparison.md).

1. `trials` points of a grid around the centre that the config holds, with the seed `trial_seed`;
2. rings: the neighbours of the best point that were not tried, until it is enclosed, at most `rings` times;
3. the learning rates a quarter of a decade from the best one, if `refine` is set;
4. the best `shortlist` points again on `repeats` further trial seeds; the best mean is chosen. If it is not enclosed
   and rings are left, 2 and 4 continue from it.

Hydra imports this module at every start, so heavy imports wait for their use.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    import pandas as pd

Point = tuple[float, float]  # learning rate, weight decay
AXES = ("lr", "weight_decay")


@dataclass
class Study:
    """One optimizer on one task: its config and its trials.

    Attributes:
        overrides: its values of the swept settings.
        cfg: the composed config; its learning rate and weight decay are the centre of the grid.
        points: the points that are run on the first trial seed.
        shortlist: those of them that are run on further trial seeds.
        best: the best of them so far.
        open_sides: the axes and directions (-1: lower, 1: higher) in which no neighbour of the best point was tried.
        rings: how often the neighbours of the best point were added.
        summary: the choice in a line of text.
        folders: those of the runs that were asked for, by point and seed: a run id takes milliseconds.
    """

    overrides: list[str]
    cfg: DictConfig
    points: list[Point] = field(default_factory=list)
    shortlist: list[Point] = field(default_factory=list)
    best: Point | None = None
    open_sides: list[tuple[str, int]] = field(default_factory=list)
    rings: int = 0
    summary: str = ""
    folders: dict[tuple[Point, int], Path] = field(default_factory=dict, repr=False)

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
        """The folder of that run's record."""
        from recipes.runs.record import folder_of

        if (point, seed) not in self.folders:
            cfg = self.cfg.copy()
            cfg.optim.lr, cfg.optim.weight_decay, cfg.seed = *point, seed
            self.folders[point, seed] = folder_of(cfg)
        return self.folders[point, seed]

    def add_ring(self) -> bool:
        """Add the untried neighbours of the best point on its open sides; returns whether there are any."""
        from recipes.tuning_grid import neighbour

        if self.best is None:
            return False
        sides = [neighbour(self.centre, self.best, AXES.index(axis), side) for axis, side in self.open_sides]
        added = [point for point in sides if point is not None]
        self.points += added
        self.rings += bool(added)
        return bool(added)

    def add_rates_between(self) -> None:
        """Add the learning rates a quarter of a decade from the best one."""
        from recipes.tuning_grid import between

        if self.best is not None:
            self.points += [point for point in between(self.centre, self.best) if point not in self.points]

    def add_to_shortlist(self, size: int, trial_seed: int) -> None:
        """Add the best points of the first trial seed."""
        from reports.statistics.selection import ranked, settings_of

        runs = self._runs([trial_seed])
        best = ranked(settings_of(runs), self._goal(runs)).head(size)
        points = zip(best["lr"].astype(float), best["weight_decay"].astype(float), strict=True)
        self.shortlist += [point for point in points if point not in self.shortlist]

    def choose(self, trial_seeds: range) -> None:
        """Set the best point by validation: the shortlist by the mean over these seeds, others by the first."""
        from reports.statistics.selection import choose, open_sides, settings_of

        runs = self._runs(trial_seeds)
        settings = settings_of(runs)
        chosen = choose(settings, self._goal(runs))
        if chosen is None:
            self.summary = f"none of {len(runs)} trials completed, so there is no winner to run again"
            return
        self.best = float(chosen["lr"]), float(chosen["weight_decay"])
        axes = AXES if self.centre[1] > 0 else AXES[:1]
        self.open_sides = [(axis, side) for axis in axes for side in open_sides(settings, chosen, axis)]
        diverged = int(settings["diverged"].sum())
        sides = ", ".join(
            f"a {'higher' if side > 0 else 'lower'} {axis.replace('_', ' ')}" for axis, side in self.open_sides
        )
        self.summary = (
            f"best of {len(self.points)} settings lr {self.best[0]:g}, weight decay {self.best[1]:g}, "
            f"validation {runs['metric'].iloc[0]} {chosen['final']:.4g}"
            + (f" (mean of {int(chosen['seeds'])} trial seeds)" if chosen["seeds"] > 1 else "")
            + (f", {diverged} diverged" if diverged else "")
            + (f", not enclosed: {sides} was not tried" if sides else "")
        )

    def _runs(self, trial_seeds: Sequence[int]) -> "pd.DataFrame":
        from reports.records.reader import read_records

        runs = [(point, trial_seeds[0]) for point in self.points]
        runs += [(point, seed) for point in self.shortlist for seed in trial_seeds[1:]]
        return read_records(self.folder(*run) for run in runs).runs

    @staticmethod
    def _goal(runs: "pd.DataFrame") -> str | None:
        goals = runs["goal"].dropna()
        return str(goals.iloc[0]) if len(goals) else None


Run = tuple[Study, Point, int]  # and a seed


class _RunsMissing(Exception):  # noqa: N818  it ends a replay, and is no error
    pass


@dataclass(frozen=True)
class Protocol:
    """The numbers of the protocol.

    Args:
        trials: points of the first grid; with 0, the centre is the setting.
        rings: how often the untried neighbours of an optimizer's best point are tried, until it is enclosed.
        refine: whether the learning rates a quarter of a decade from the best one are tried.
        shortlist: how many of each optimizer's best points are run again on further trial seeds.
        repeats: the number of these seeds, which follow `trial_seed`.
        trial_seed: seed of the trials; reports use such runs for choosing only.
        seeds: fresh seeds of the winner: `first_seed` and those after it.
        first_seed: the first of them.
    """

    trials: int
    rings: int
    refine: bool
    shortlist: int
    repeats: int
    trial_seed: int
    seeds: int
    first_seed: int

    @property
    def fresh(self) -> range:
        """The seeds of the winner's runs."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def further(self) -> range:
        """The trial seeds on which the shortlist is run again."""
        return range(self.trial_seed + 1, self.trial_seed + 1 + self.repeats)

    def problems(self) -> list[str]:
        """The mistakes in the settings, one line each."""
        from recipes.tuning_grid import MOST, REACH
        from reports.protocol import TRIAL_SEEDS_FROM

        limits = {"trials": (0, MOST), "rings": (0, REACH), "shortlist": (0, MOST), "repeats": (0, 1000)}
        limits |= {"seeds": (0, TRIAL_SEEDS_FROM), "first_seed": (0, TRIAL_SEEDS_FROM)}
        limits |= {"trial_seed": (TRIAL_SEEDS_FROM, 2**53 - 1)}
        problems = []
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                problems.append(f"{name}={value} must be a whole number of at least {least}")
            elif value > most:
                problems.append(f"{name}={value} must be at most {most}")
        if not isinstance(self.refine, bool):
            problems.append(f"refine={self.refine} must be true or false")
        if problems:
            return problems
        if self.first_seed + self.seeds > TRIAL_SEEDS_FROM:
            problems.append(
                f"seeds from {TRIAL_SEEDS_FROM} on are kept for trials; choose a lower first_seed, or fewer seeds"
            )
        if self.shortlist == 1 and self.repeats:
            problems.append(
                f"shortlist=1 repeats={self.repeats}: a single setting run again has none to be compared with; "
                "choose a shortlist of 2 or more, or repeats=0"
            )
        if self.trials + self.seeds == 0:
            problems.append("trials=0 and seeds=0 leave nothing to run")
        return problems

    def in_words(self) -> list[str]:
        """The steps for each optimizer, one line each."""
        lines = []
        if self.trials:
            lines.append(f"{self.trials} trials with seed {self.trial_seed}")
            if self.rings:
                lines.append(f"up to {self.rings} rings of at most 4 more, until the best is enclosed")
            if self.refine:
                lines.append("the learning rates a quarter of a decade from the best")
            if self.runs_again:
                lines.append(
                    f"the best {self.shortlist} on {self.repeats} further trial seeds; the best mean is chosen"
                )
        return [*lines, f"the winner on {self.seeds} fresh seeds"]

    @property
    def runs_again(self) -> int:
        """How many runs the shortlist takes on the further trial seeds."""
        return min(self.shortlist, self.trials) * self.repeats

    def tune(self, studies: Sequence[Study], run: Callable[[Iterable[Run]], None]) -> None:
        """Set each study's best point; it stays None where no trial completed.

        Args:
            studies: what to tune, each with the points of its first grid.
            run: does those runs that are not done, and returns when all are.
        """
        run(self._first_trials(studies))
        growing = self._rank(studies)
        while growing := self._add_ring(growing):
            run(self._first_trials(growing))
            self._rank(growing)
        if self.refine:
            for study in studies:
                study.add_rates_between()
            run(self._first_trials(studies))
            self._rank(studies)
        growing = list(studies) if self.runs_again else []
        while growing:
            for study in growing:
                study.add_to_shortlist(self.shortlist, self.trial_seed)
            run((study, point, seed) for study in growing for point in study.shortlist for seed in self.further)
            self._rank(growing, self.repeats)
            growing = self._add_ring(growing)
            run(self._first_trials(growing))

    def runs_left(self, study: Study, is_done: Callable[[Run], bool]) -> int:
        """How many runs a study still takes, rings that are not begun left out, by a replay of those that are done."""
        study = replace(study, points=[*study.points], shortlist=[*study.shortlist])
        done, missing = Counter[int](), 0  # done: runs of each seed

        def look_up(runs: Iterable[Run]) -> None:
            nonlocal done, missing
            asked = {(point, seed): is_done((study, point, seed)) for _, point, seed in runs}
            done |= Counter(seed for (_, seed), ended in asked.items() if ended)
            missing = list(asked.values()).count(False)
            if missing:
                raise _RunsMissing

        try:
            if self.trials:
                self.tune([study], look_up)
            look_up((study, study.best, seed) for seed in self.fresh if study.best)
        except _RunsMissing:
            trials = self.trials + 2 * self.refine - done[self.trial_seed] if self.trials else 0
            again = self.runs_again - sum(done[seed] for seed in self.further) if self.trials else 0
            fresh = self.seeds - sum(done[seed] for seed in self.fresh)
            return max(missing, max(trials, 0) + max(again, 0) + fresh)
        return 0

    def _first_trials(self, studies: Iterable[Study]) -> Iterable[Run]:
        return ((study, point, self.trial_seed) for study in studies for point in study.points)

    def _rank(self, studies: Sequence[Study], repeats: int = 0) -> Sequence[Study]:
        for study in studies:
            study.choose(range(self.trial_seed, self.trial_seed + 1 + repeats))
        return studies

    def _add_ring(self, studies: Iterable[Study]) -> list[Study]:
        """Add the untried neighbours of best points that are not enclosed; returns the studies that got some."""
        return [study for study in studies if study.rings < self.rings and study.add_ring()]

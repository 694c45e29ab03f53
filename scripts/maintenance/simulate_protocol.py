"""Simulate how often the tuning protocol finds a good setting, and how often it calls equal optimizers different.

python scripts/maintenance/simulate_protocol.py --studies 20000

Each simulated optimizer has a validation figure that falls off as a quadratic of log learning rate and log weight decay
around an optimum somewhere within the first grid or up to a quarter of a decade beyond it, and noise from the seed.
The curvatures span those of the grids that this project has measured: from 0.3 to 15 standard deviations of the noise
for half a decade of the learning rate, from 0.05 to 4 for the weight decay. Which runs are done is decided by the
sweeper's own code.

`allowance` is the choice variance that an interval has to allow for (reports/protocol.py): the smallest hundredth with
which at most 5% of equal pairs differ for each number of fresh seeds, and at most 5% of families of seven simultaneous
comparisons have one that differs, with 5 to 20 fresh seeds. Choices are seldom far off, but then very far: the wider an
interval, the more it has to allow for.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

import numpy as np
from omegaconf import OmegaConf
from scipy import stats

from hydra_plugins.tuning_protocol import AXES, Point, Protocol, Run, Study
from reports.protocol import choice_variance
from reports.statistics.selection import NEAR

RULES = {
    "first grid, one trial seed": {"rings": 0, "refine": False, "shortlist": 0, "repeats": 0},
    "rings, one trial seed": {"rings": 4, "refine": False, "shortlist": 0, "repeats": 0},
    "rings, quarter decades, one trial seed": {"rings": 4, "refine": True, "shortlist": 0, "repeats": 0},
    "the protocol: best 3 on 2 further trial seeds": {"rings": 4, "refine": True, "shortlist": 3, "repeats": 2},
    "best 3 on 4 further trial seeds": {"rings": 4, "refine": True, "shortlist": 3, "repeats": 4},
    "best 5 on 4 further trial seeds": {"rings": 4, "refine": True, "shortlist": 5, "repeats": 4},
}
FRESH = (3, 5, 10, 20, 50)  # seeds
COMMON = 0.5  # standard deviation of the part of the noise that all runs with one seed share
FALSE_WINS = 0.05  # the share of equal pairs, or of families of equal ones, that may be called different
FAMILY, FRESH_OF_FAMILIES = 7, (5, 10, 20)  # the optimizers of 2026 on a task


@dataclass
class Surface:
    """The loss of settings and the noise of runs, both in standard deviations of one run's noise."""

    random: np.random.Generator
    curvature: np.ndarray = field(init=False)  # [2, 2], per half decade squared
    optimum: np.ndarray = field(init=False)  # half decades from the centre

    def __post_init__(self) -> None:
        """Draw the curvatures and the place of the optimum."""
        rate, decay = np.exp(self.random.uniform(np.log([0.3, 0.05]), np.log([15, 4])))
        mixed = self.random.uniform(-0.5, 0.5) * math.sqrt(rate * decay)
        self.curvature = np.array([[rate, mixed], [mixed, decay]])
        self.optimum = self.random.uniform(-1.5, 1.5, size=2)

    def shortfall(self, point: Point) -> float:
        """How much a setting is worse than the best one."""
        away = 2 * np.log10(point) - self.optimum  # the centre is (1, 1)
        return float(away @ self.curvature @ away)


class SimulatedStudy(Study):
    """A study whose runs are draws from a surface. It chooses as `Study` does, on numbers instead of tables."""

    def __init__(self, surface: Surface, shared: Callable[[int], float], trials: int) -> None:
        from recipes.tuning_grid import around

        super().__init__([], OmegaConf.create({"optim": {"lr": 1.0, "weight_decay": 1.0}}))
        self.surface, self.shared, self.figures = surface, shared, dict[tuple[Point, int], float]()
        self.points = around(self.centre, trials)

    @property
    def centre(self) -> Point:
        """The unit of both axes."""
        return 1.0, 1.0

    def figure(self, point: Point, seed: int) -> float:
        """The validation figure of a run; higher is better."""
        if (point, seed) not in self.figures:
            noise = self.surface.random.normal() + self.shared(seed)
            self.figures[point, seed] = noise - self.surface.shortfall(point)
        return self.figures[point, seed]

    def add_to_shortlist(self, size: int, trial_seed: int) -> None:
        """Add the best points of the first trial seed."""
        best = sorted(self.points, key=lambda point: (-self.figures[point, trial_seed], point))[:size]
        self.shortlist += [point for point in best if point not in self.shortlist]

    def choose(self, trial_seeds: range) -> None:
        """Set the best point: of the shortlist by the mean over these seeds, without one by the first seed."""
        again = len(trial_seeds) > 1
        means = {
            point: np.mean([self.figures[point, seed] for seed in (trial_seeds if again else trial_seeds[:1])])
            for point in (self.shortlist if again else self.points)
        }
        self.best = min(means, key=lambda point: (-means[point], point))
        self.open_sides = [(name, side) for axis, name in enumerate(AXES) for side in self._open_sides(axis)]

    def _open_sides(self, axis: int) -> list[int]:
        assert self.best is not None
        level = self.best[1 - axis]
        tried = [point[axis] for point in self.points if level / NEAR <= point[1 - axis] <= level * NEAR]
        lowest, highest = min(tried), max(tried)
        return [side for side, end in ((-1, lowest), (1, highest)) if self.best[axis] == end]


def simulate(protocol: Protocol, studies: int, seed: int = 0) -> dict[str, float]:
    """Tune pairs of equal optimizers, and compare the two of each on fresh seeds.

    Returns:
        within: share of choices at most half a standard deviation worse than the best setting there is.
        shortfall: the mean of what a choice is worse by, in standard deviations.
        enclosed: share of choices that are enclosed by what was tried.
        runs: mean number of trials of an optimizer.
        choice_variance: variance of the difference between two optimizers' choices, over that of one seed's difference.
        allowance: see above.
        plain N, with choice N: share of pairs called different on N fresh seeds by the t interval alone, and by the
            interval that allows for the choice.
        family N: the same of families of seven, at most.
    """
    random = np.random.default_rng(seed)
    shortfalls, enclosed, runs = np.empty((studies, 2)), [], []
    differences = np.empty((studies, max(FRESH)))
    for number in range(studies):
        surface = Surface(random)
        shared: dict[int, float] = {}

        def common(seed: int, shared: dict[int, float] = shared) -> float:
            return shared.setdefault(seed, COMMON * random.normal())

        pair = [SimulatedStudy(surface, common, protocol.trials) for _ in range(2)]

        def run(todo: Iterable[Run]) -> None:
            for study, point, seed in todo:
                study.figure(point, seed)  # type: ignore[attr-defined]

        protocol.tune(pair, run)
        best = [study.best or study.centre for study in pair]
        shortfalls[number] = [surface.shortfall(point) for point in best]
        enclosed += [not study.open_sides for study in pair]
        runs += [len(study.figures) for study in pair]
        ours, theirs = (
            [study.figure(point, seed) for seed in range(max(FRESH))] for study, point in zip(pair, best, strict=True)
        )
        differences[number] = np.subtract(ours, theirs)
    allowed = choice_variance(protocol.repeats + 1)
    return {
        "within": float(np.mean(shortfalls <= 0.5)),
        "shortfall": float(np.mean(shortfalls)),
        "enclosed": float(np.mean(enclosed)),
        "runs": float(np.mean(runs)),
        "choice_variance": float(np.var(shortfalls[:, 0] - shortfalls[:, 1]) / 2),
        "allowance": smallest_allowance(differences),
        **{f"plain {n}": differing(differences, n, 0.0) for n in FRESH},
        **{f"with choice {n}": differing(differences, n, allowed) for n in FRESH},
        **{f"family {n}": differing(differences, n, allowed, FAMILY) for n in FRESH_OF_FAMILIES},
    }


def smallest_allowance(differences: np.ndarray) -> float:
    """The smallest hundredth with which equal optimizers are seldom enough called different."""
    cases = [(n, 1) for n in FRESH] + [(n, FAMILY) for n in FRESH_OF_FAMILIES]
    hundredths = (step / 100 for step in itertools.count())
    return next(c for c in hundredths if all(differing(differences, n, c, size) <= FALSE_WINS for n, size in cases))


def differing(differences: np.ndarray, seeds: int, allowance: float, comparisons: int = 1) -> float:
    """The share of families in which some pair differs by simultaneous intervals of the paired t test.

    Args:
        differences: pairs in rows, fresh seeds in columns.
        seeds: how many of them are used.
        allowance: the choice variance that the interval allows for.
        comparisons: the size of a family; if it is above 1 the share is an upper bound (Bonferroni).
    """
    few = differences[:, :seeds]
    quantile = stats.t.ppf(1 - 0.05 / comparisons / 2, seeds - 1)
    half = quantile * few.std(axis=1, ddof=1) * math.sqrt(1 / seeds + allowance)
    return float(comparisons * np.mean(np.abs(few.mean(axis=1)) > half))


def main() -> None:
    """Print a row a rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--studies",
        type=int,
        default=500,
        help="pairs of optimizers for each rule (default 500; 2,000 take about 15 s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default 0)")
    args = parser.parse_args()
    if args.studies < 1:
        parser.error(f"--studies {args.studies} must be at least 1")
    rows = {}
    for name, rule in RULES.items():
        protocol = Protocol(trials=9, trial_seed=1000, seeds=5, first_seed=0, **rule)  # type: ignore[arg-type]
        rows[name] = simulate(protocol, args.studies, args.seed)
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)


if __name__ == "__main__":
    main()

"""Simulate how often the tuning protocol finds a good setting, and how often it calls equal optimizers different.

python scripts/maintenance/simulate_protocol.py --studies 500

Each simulated optimizer has a validation figure that falls off as a quadratic of log learning rate and log weight decay
around an optimum somewhere within the first grid or up to a quarter of a decade beyond it, and noise from the seed.
The curvatures span those of the grids that this project has measured: from 0.3 to 15 standard deviations of the noise
for half a decade of the learning rate, from 0.05 to 4 for the weight decay. What runs is the sweeper's own code.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the packages of this checkout

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from hydra_plugins.tuning_protocol import Point, Protocol, Run, Study
from reports.protocol import choice_variance
from reports.statistics.intervals import paired_difference

RULES = {
    "first grid, one trial seed": {"rings": 0, "refine": False, "shortlist": 0, "repeats": 0},
    "rings, one trial seed": {"rings": 4, "refine": False, "shortlist": 0, "repeats": 0},
    "rings, quarter decades, one trial seed": {"rings": 4, "refine": True, "shortlist": 0, "repeats": 0},
    "the protocol: best 3 on 2 further trial seeds": {"rings": 4, "refine": True, "shortlist": 3, "repeats": 2},
    "best 5 on 4 further trial seeds": {"rings": 4, "refine": True, "shortlist": 5, "repeats": 4},
}
FRESH = (3, 5, 10)  # seeds
COMMON = 0.5  # standard deviation of the part of the noise that all runs with one seed share


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
    """A study whose runs are draws from a surface."""

    def __init__(self, surface: Surface, shared: Callable[[int], float], trials: int) -> None:
        from recipes.tuning_grid import around

        super().__init__([], OmegaConf.create({"optim": {"lr": 1.0, "weight_decay": 1.0}}))
        self.surface, self.shared, self.figures = surface, shared, dict[tuple[Point, int], float]()
        self.points = around(self.centre, trials)

    def figure(self, point: Point, seed: int) -> float:
        """The validation figure of a run; higher is better."""
        if (point, seed) not in self.figures:
            noise = self.surface.random.normal() + self.shared(seed)
            self.figures[point, seed] = noise - self.surface.shortfall(point)
        return self.figures[point, seed]

    def _runs(self, trial_seeds: Sequence[int]) -> pd.DataFrame:
        runs = [(point, trial_seeds[0]) for point in self.points]
        runs += [(point, seed) for point in self.shortlist for seed in trial_seeds[1:]]
        rows = [(*point, seed, self.figure(point, seed)) for point, seed in runs]
        frame = pd.DataFrame(rows, columns=["lr", "weight_decay", "seed", "final"])
        return frame.assign(status="completed", goal="max", metric="figure")


def simulate(protocol: Protocol, studies: int, seed: int = 0) -> dict[str, float]:
    """Tune pairs of equal optimizers, and compare the two of each on fresh seeds.

    Returns:
        within: share of choices at most half a standard deviation worse than the best setting there is.
        shortfall: the mean of what a choice is worse by, in standard deviations.
        enclosed: share of choices that are enclosed by what was tried.
        runs: mean number of trials of an optimizer.
        choice_variance: variance of the difference between two optimizers' choices, over that of one seed's difference.
        plain N, with choice N: share of pairs called different on N fresh seeds by the t interval alone, and by the
            interval that allows for the choice.
    """
    random = np.random.default_rng(seed)
    shortfalls, enclosed, runs = [], [], []
    differing: dict[str, list[bool]] = {f"{kind} {n}": [] for n in FRESH for kind in ("plain", "with choice")}
    for _ in range(studies):
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
        shortfalls.append([surface.shortfall(point) for point in best])
        enclosed += [not study.open_sides for study in pair]
        runs += [len(study.figures) for study in pair]
        fresh = [
            pd.Series([study.figure(point, seed) for seed in range(max(FRESH))])
            for study, point in zip(pair, best, strict=True)
        ]
        for n in FRESH:
            few = [values.head(n) for values in fresh]
            for kind, allowance in (("plain", 0.0), ("with choice", choice_variance(protocol.repeats + 1))):
                difference = paired_difference(few[0], few[1], choice_variance=allowance)
                differing[f"{kind} {n}"].append(difference.verdict("max") in ("better", "worse"))
    losses = np.array(shortfalls)
    return {
        "within": float(np.mean(losses <= 0.5)),
        "shortfall": float(np.mean(losses)),
        "enclosed": float(np.mean(enclosed)),
        "runs": float(np.mean(runs)),
        "choice_variance": float(np.var(losses[:, 0] - losses[:, 1]) / 2),
        **{name: float(np.mean(values)) for name, values in differing.items()},
    }


def main() -> None:
    """Print a row a rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500, help="pairs of optimizers for each rule (default 500)")
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

"""The simulated protocol chooses as the sweeper does, and its figures are those of docs/comparison.md."""

import numpy as np
import pandas as pd
import pytest

from hydra_plugins.tuning_protocol import Protocol, Study
from reports.statistics.intervals import paired_difference
from scripts.maintenance.simulate_protocol import FALSE_WINS, FRESH, RULES, SimulatedStudy, Surface, differing, simulate

BEST_3, BEST_5 = "the protocol: best 3 on 2 further trial seeds", "best 5 on 4 further trial seeds"


def protocol(rule: str) -> Protocol:
    return Protocol(trials=9, trial_seed=1000, seeds=5, first_seed=0, **RULES[rule])


class StudyOnTables(SimulatedStudy):
    """Chooses by the sweeper's own code."""

    choose = Study.choose
    add_to_shortlist = Study.add_to_shortlist

    def _runs(self, trial_seeds):
        runs = [(point, trial_seeds[0]) for point in self.points]
        runs += [(point, seed) for point in self.shortlist for seed in trial_seeds[1:]]
        rows = [(*point, seed, self.figures[point, seed]) for point, seed in runs]
        frame = pd.DataFrame(rows, columns=["lr", "weight_decay", "seed", "final"])
        return frame.assign(status="completed", goal="max", metric="figure")


@pytest.mark.parametrize("rule", RULES)
def test_the_choices_are_the_sweepers(rule):
    for seed in range(4):
        tuned = []
        for kind in (SimulatedStudy, StudyOnTables):
            random = np.random.default_rng(seed)
            study = kind(Surface(random), lambda seed: 0.1 * seed % 0.7, 9)

            def run(todo):
                for study, point, seed in todo:
                    study.figure(point, seed)

            protocol(rule).tune([study], run)
            tuned.append((study.best, study.open_sides, study.points, study.shortlist, study.figures))
        assert tuned[0] == tuned[1]


def test_the_pairs_that_differ_are_those_of_the_paired_interval():
    random = np.random.default_rng(0)
    differences = random.normal(0.4, 1, size=(60, 50))
    for seeds in FRESH:
        for allowance, comparisons in ((0.0, 1), (0.14, 1), (0.14, 7)):
            pairs = [(pd.Series(row[:seeds]), pd.Series(np.zeros(seeds))) for row in differences]
            intervals = [paired_difference(*pair, comparisons=comparisons, choice_variance=allowance) for pair in pairs]
            share = sum(each.verdict("max") in ("better", "worse") for each in intervals) / len(intervals)
            assert differing(differences, seeds, allowance, comparisons) == pytest.approx(comparisons * share)


@pytest.mark.slow
def test_the_protocol_finds_good_settings_and_few_false_wins():
    """The figures of docs/comparison.md, within what 4,000 simulated pairs can tell."""
    old, new, better = (
        simulate(protocol(rule), 4000, seed=1) for rule in ("first grid, one trial seed", BEST_3, BEST_5)
    )
    assert old["within"] == pytest.approx(0.57, abs=0.02)
    assert new["within"] == pytest.approx(0.70, abs=0.02)
    assert better["within"] == pytest.approx(0.76, abs=0.02)
    assert new["enclosed"] > 0.99 > 0.3 > old["enclosed"]
    tolerance = 3 * np.sqrt(FALSE_WINS * (1 - FALSE_WINS) / 4000)
    for figures in (new, better):
        for seeds in FRESH:
            assert figures[f"with choice {seeds}"] <= FALSE_WINS + tolerance
            assert figures[f"plain {seeds}"] > figures[f"with choice {seeds}"]

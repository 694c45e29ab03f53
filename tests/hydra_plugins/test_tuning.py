import json
import os
import subprocess
import sys
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.tuning import TuningSweeper
from hydra_plugins.tuning_protocol import Protocol
from recipes.errors import ConfigError
from reports.records.reader import read_records
from reports.statistics.selection import TRIAL_SEEDS_FROM, comparisons
from tests.hydra_plugins.conftest import near

ROOT = Path(__file__).resolve().parents[2]
TRIAL = TRIAL_SEEDS_FROM
# conf/tuned/embedded/vit_b16 centres: Lion 0.001 and 3, AdamW 0.003 and 0.1
BOTH = ("task=vit_b16", "optim=lion,adamw")


def settings(launcher: Any, optim: str, *, trials: bool) -> list[tuple[float, float]]:
    chosen = [cfg for cfg in launcher.runs if cfg.optim.name == optim and (cfg.seed >= TRIAL) == trials]
    return [(cfg.optim.lr, cfg.optim.weight_decay) for cfg in chosen]


def test_equal_trials_on_a_grid_then_the_winner_on_fresh_seeds(sweep):
    done = sweep(*BOTH, trials=9, seeds=3, outcome=near(1e-3, 1.0))
    for optim, lrs, decays in (
        ("lion", {3e-4, 1e-3, 3e-3}, {1, 3, 10}),
        ("adamw", {1e-3, 3e-3, 1e-2}, {0.03, 0.1, 0.3}),
    ):
        tried = settings(done, optim, trials=True)
        assert sorted(tried) == sorted((lr, decay) for lr in lrs for decay in decays)
    assert settings(done, "lion", trials=False) == [(1e-3, 1.0)] * 3
    assert settings(done, "adamw", trials=False) == [(1e-3, 0.3)] * 3
    assert Counter(cfg.seed for cfg in done.runs) == {TRIAL: 18, 0: 2, 1: 2, 2: 2}


def test_the_winner_is_chosen_on_validation_whatever_the_test_figures(sweep):
    best = near(1e-3, 3.0)
    done = sweep(*BOTH, trials=9, seeds=1, outcome=lambda cfg: best(cfg) | {"test": 1 - best(cfg)["final"]})
    assert settings(done, "lion", trials=False) == [(1e-3, 3.0)]


def test_what_reports_choose_is_what_was_run_again(sweep, tmp_path):
    done = sweep(*BOTH, trials=9, seeds=2)
    for comparison in comparisons(read_records([tmp_path / "outputs"]).runs):
        for contender in comparison.contenders:
            assert contender.fresh
            assert {(r.lr, r.weight_decay) for r in contender.at_choice().itertuples()} == set(
                settings(done, contender.label, trials=False)
            )


def test_nothing_is_done_twice_and_a_larger_budget_only_adds(sweep):
    assert len(sweep(*BOTH, trials=9, seeds=2).runs) == 22
    assert sweep(*BOTH, trials=9, seeds=2).runs == []
    more = sweep(*BOTH, trials=10, seeds=3)
    assert len(more.runs) == 4  # a trial and a seed for each


DIVERGED = {"status": "diverged", "final": None, "diverged_step": 5, "cause": "nan"}


@pytest.mark.parametrize("outcome", [near(1e-3, 1.0), near(3e-2, 1.0), lambda cfg: DIVERGED])
def test_the_runs_that_are_left_are_known_after_each(sweep, monkeypatch, outcome):
    """Rings that are not begun are not counted, so the number stays the same while they run; it never grows."""
    studies = []
    monkeypatch.setattr(TuningSweeper, "announce", lambda self, composed: studies.extend(deepcopy(composed)))
    protocol = Protocol(trials=9, rings=4, refine=True, shortlist=3, repeats=2, trial_seed=TRIAL, seeds=3, first_seed=0)
    done = sweep("task=vit_b16", "optim=lion", outcome=outcome, **vars(protocol))
    runs = [((cfg.optim.lr, cfg.optim.weight_decay), cfg.seed) for cfg in done.runs]
    assert len(set(runs)) == len(runs)
    left = [protocol.runs_left(*studies, lambda run, n=n: run[1:] in runs[:n]) for n in range(len(runs) + 1)]
    assert left[0] == 9 + 2 + 3 * 2 + 3
    assert left == sorted(left, reverse=True)
    assert left.index(0) == len(runs)
    if outcome(done.runs[0]) is not DIVERGED:
        assert left[-4:] == [3, 2, 1, 0]


def test_rings_go_on_until_the_best_is_enclosed(sweep, capsys):
    done = sweep("task=vit_b16", "optim=lion", trials=9, outcome=near(1e-1, 1.0), rings=6, seeds=1)
    tried = settings(done, "lion", trials=True)
    assert len(set(tried)) == len(tried)
    assert settings(done, "lion", trials=False) == [(1e-1, 1.0)]
    assert {(3e-2, 1.0), (3e-1, 1.0), (1e-1, 3.0), (1e-1, 0.3)} <= set(tried)
    assert "not enclosed" not in capsys.readouterr().out


def test_a_best_that_the_rings_do_not_enclose_is_said(sweep, capsys):
    sweep("task=vit_b16", "optim=lion", trials=9, outcome=near(1.0, 1.0), rings=1, seeds=0)
    said = capsys.readouterr().out
    assert "lion: best of 11 settings lr 0.01, weight decay 1, validation accuracy 0.8," in said
    assert "not enclosed: a higher lr" in said
    assert "1 of 1 winners are not enclosed by what was tried; a larger rings= than 1 continues from here" in said


def test_no_rings_where_the_best_is_enclosed(sweep):
    done = sweep("task=vit_b16", "optim=lion", trials=9, seeds=1, outcome=near(1e-3, 3.0), rings=4)
    assert len(done.runs) == 10


def test_rates_a_quarter_of_a_decade_beside_the_best(sweep):
    done = sweep("task=vit_b16", "optim=lion", trials=9, seeds=1, outcome=near(1.8e-3, 3.0), refine=True)
    assert settings(done, "lion", trials=True)[9:] == [(1.8e-3, 3.0), (5.3e-3, 3.0)]
    assert settings(done, "lion", trials=False) == [(1.8e-3, 3.0)]


def lucky(cfg):
    """Best at (1e-3, 3), but on the first trial seed another setting has luck."""
    luck = 0.1 if (cfg.optim.lr, cfg.optim.weight_decay, cfg.seed) == (3e-4, 3.0, TRIAL) else 0.0
    return {"final": near(1e-3, 3.0)(cfg)["final"] + luck}


def test_the_best_few_run_again_and_the_best_mean_is_chosen(sweep, tmp_path, capsys):
    numbers = {"trials": 9, "seeds": 1, "outcome": lucky}
    done = sweep("task=vit_b16", "optim=lion", **numbers, shortlist=3, repeats=2)
    assert settings(done, "lion", trials=False) == [(1e-3, 3.0)]
    assert "lr 0.001, weight decay 3, validation accuracy 1 (mean of 3 trial seeds)" in capsys.readouterr().out
    assert Counter(cfg.seed for cfg in done.runs) == {TRIAL: 9, TRIAL + 1: 3, TRIAL + 2: 3, 0: 1}
    ((contender,),) = [c.contenders for c in comparisons(read_records([tmp_path / "outputs"]).runs)]
    assert (contender.chosen["lr"], contender.chosen["weight_decay"]) == (1e-3, 3.0)  # reports choose the same
    single = sweep("task=vit_b16", "optim=lion", "steps=9", **numbers)
    assert settings(single, "lion", trials=False) == [(3e-4, 3.0)]


def shifted(cfg):
    """On the first trial seed the best rate is 1e-3, on the others it lies above 3e-3."""
    return near(1e-3 if cfg.seed == TRIAL else 1e-2, 3.0)(cfg)


def test_a_mean_that_is_not_enclosed_goes_on_with_rings(sweep):
    numbers = {"trials": 9, "seeds": 1, "rings": 4, "shortlist": 5, "repeats": 2}
    done = sweep("task=vit_b16", "optim=lion", **numbers, outcome=shifted)
    ((lr, decay),) = settings(done, "lion", trials=False)
    assert lr == 3e-3
    assert (1e-2, decay) in settings(done, "lion", trials=True)


def test_a_diverged_trial_counts_and_cannot_win(sweep):
    best = near(1e-3, 3.0)

    def outcome(cfg):
        if (cfg.optim.lr, cfg.optim.weight_decay) == (1e-3, 3.0):
            return DIVERGED
        return best(cfg)

    done = sweep("task=vit_b16", "optim=lion", trials=9, seeds=1, outcome=outcome)
    assert settings(done, "lion", trials=False) != [(1e-3, 3.0)]
    assert len(done.runs) == 10


def test_where_all_trials_diverge_there_is_no_winner(sweep, capsys):
    done = sweep("task=vit_b16", "optim=lion", trials=2, outcome=lambda cfg: {"status": "diverged", "final": None})
    assert len(done.runs) == 2
    assert "none of 2 trials completed" in capsys.readouterr().out


def test_a_failed_trial_ends_the_protocol_before_a_choice(sweep):
    with pytest.raises(ConfigError, match="1 of 2 runs failed"):
        sweep(
            "task=vit_b16",
            "optim=lion",
            trials=2,
            outcome=lambda cfg: {"status": "failed" if cfg.optim.lr == 1e-3 else "completed", "final": 0.5},
        )


def test_without_trials_the_centre_is_run_on_the_seeds(sweep):
    done = sweep("task=vit_b16", "optim=lion", trials=0, seeds=2)
    assert settings(done, "lion", trials=False) == [(1e-3, 3.0)] * 2
    assert len(done.runs) == 2


def test_trials_by_scale(sweep):
    done = sweep("task=vit_b16", "optim=lion", "scale=paper", trials={"embedded": 9, "paper": 0}, seeds=1)
    assert settings(done, "lion", trials=True) == []
    assert len(done.runs) == 1


def test_an_experiment_without_runs_at_a_scale_says_which_it_has(sweep):
    with pytest.raises(ConfigError, match="nothing to run at scale=paper; it has embedded"):
        sweep("task=vit_b16", "optim=lion", "scale=paper", conditions={"embedded": ["steps=40"]})


CONDITIONS = ["batch_size=16 steps=40", "batch_size=32 steps=20", "optim=lion optim.betas=[0.9,0.9] steps=10"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        # params give way to the command line; a condition that names one of its values keeps that one
        (
            ["optim=lion,adamw"],
            {("lion", 16, 40), ("adamw", 16, 40), ("lion", 32, 20), ("adamw", 32, 20), ("lion", 64, 10)},
        ),
        # a value that some conditions have leaves out those that have another
        (["batch_size=32"], {("sgd", 32, 20), ("lion", 32, 10)}),
        (["batch_size=32", "steps=20"], {("sgd", 32, 20)}),
        # one that none has takes the place of theirs
        (["batch_size=8", "optim=lion"], {("lion", 8, 40), ("lion", 8, 20), ("lion", 8, 10)}),
    ],
)
def test_the_command_line_chooses_among_conditions(sweep, typed, expected):
    params = {"task": "vit_b16", "optim": "sgd"}
    done = sweep(*typed, trials=1, seeds=0, params=params, conditions=CONDITIONS)
    assert {(cfg.optim.name, cfg.batch_size, cfg.steps) for cfg in done.runs} == expected
    assert all(list(cfg.optim.betas) == [0.9, 0.9] for cfg in done.runs if cfg.steps == 10)


def test_a_value_that_an_experiment_lacks_beside_one_that_it_has_is_refused(sweep):
    with pytest.raises(
        ConfigError, match="batch_size=48: not in this experiment, which has batch_size=16, batch_size=32"
    ):
        sweep("task=vit_b16", "batch_size=16,48", conditions=CONDITIONS[:2])


def test_lists_are_swept_on_the_command_line_and_in_params(sweep):
    given = {"trials": 1, "seeds": 0}
    both = [[0.9, 0.99], [0.95, 0.98]]
    done = sweep("task=vit_b16", "optim=lion", "optim.betas=[0.9,0.99],[0.95,0.98]", **given)
    assert [list(cfg.optim.betas) for cfg in done.runs] == both
    params = {"optim": "lion", "optim.betas": "[0.9,0.999],[0.95,0.98]"}
    done = sweep("task=vit_b16", params=params, **given)
    assert [list(cfg.optim.betas) for cfg in done.runs] == [[0.9, 0.999]]  # the other was done above


def test_a_condition_wins_over_params_and_lists_survive(sweep):
    conditions = ["", "optim=lion optim.betas=[0.9,0.9]"]
    done = sweep(trials=1, seeds=0, params={"task": "vit_b16", "optim": "adamw,lion"}, conditions=conditions)
    assert [(cfg.optim.name, list(cfg.optim.betas)) for cfg in done.runs] == [
        ("adamw", [0.9, 0.999]),
        ("lion", [0.9, 0.99]),
        ("lion", [0.9, 0.9]),
    ]


def test_a_dry_run_does_each_combination_once(sweep):
    done = sweep(*BOTH, "dry_run=true", trials=9, seeds=3)
    assert [cfg.optim.name for cfg in done.runs] == ["lion", "adamw"]


@pytest.mark.parametrize(
    ("overrides", "given", "line"),
    [
        (["seed=3"], {}, "seed= is set by the protocol"),
        (["++seed=3"], {}, "seed= is set by the protocol"),
        (["optim.lr=1e-3,1e-2"], {}, "optim.lr= is set by the protocol"),
        ([], {"trials": -1}, "trials=-1 must be a whole number of at least 0"),
        ([], {"trials": "nine"}, "trials=nine must be a whole number"),
        ([], {"trials": {"paper": 0}}, "trials=None must be a whole number"),
        ([], {"seeds": -1}, "seeds=-1 must be a whole number of at least 0"),
        ([], {"trial_seed": 5}, "trial_seed=5 must be a whole number of at least 1000"),
        ([], {"shortlist": 1, "repeats": 2}, "a single setting run again has none to be compared with"),
        ([], {"first_seed": 998}, "seeds from 1000 on are kept for trials"),
        (["optim.lr=0"], {"trials": 3}, "a grid needs lr above 0"),
        ([], {"trials": 100_000}, "trials=100000 must be at most 169"),
        ([], {"trials": 0, "seeds": 0}, "leave nothing to run"),
        (["scale=paper,embedded"], {}, "scale=paper,embedded: the number of trials depends on the scale"),
        (["init_from=/nowhere"], {}, "init_from=/nowhere does not exist"),
        (["optim.weight_decay=0"], {"trials": 14}, "choose trials=13 or fewer"),
    ],
)
def test_what_is_refused(sweep, overrides, given, line):
    with pytest.raises(ConfigError, match=line):
        sweep("task=vit_b16", "optim=lion", *overrides, **given)


def test_all_mistakes_of_a_plan_are_named(sweep):
    with pytest.raises(ConfigError) as caught:
        sweep("task=vit_b16", "optim=lion,adamw", "steps=0", "init_from=/nowhere", trials=2)
    assert sorted(line.partition("=")[0] for line in str(caught.value).splitlines()) == ["init_from", "steps"]


def test_a_trial_that_another_process_writes_is_waited_for(sweep, monkeypatch):
    """The launcher finds the records locked and leaves them; they are whole when the lock is free."""
    waited = []

    def finished(folder: Path) -> str:
        waited.append(folder)
        summary = json.loads((folder / "summary.json").read_text()) | {"status": "completed"}
        (folder / "summary.json").write_text(json.dumps(summary))
        return "completed"

    monkeypatch.setattr("recipes.runs.sweep.wait_for", finished)
    best = near(1e-3, 3.0)
    done = sweep("task=vit_b16", "optim=lion", trials=2, outcome=lambda cfg: best(cfg) | {"status": "interrupted"})
    assert len(waited) == len(done.runs) == 5  # two trials, three seeds


def test_as_a_user_types_it(tmp_path):
    tiny = ["steps=4", "eval_every=4", "batch_size=8", "model.args.depth=1", "model.args.embed_dim=16"]
    command = [sys.executable, str(ROOT / "scripts" / "tune.py"), "task=vit_b16", "optim=lion", "tracker=none"]
    command += [*tiny, "model.args.num_heads=2", f"output_dir={tmp_path}", "trials=2", "seeds=1"]
    command += ["rings=0", "refine=false", "shortlist=2", "repeats=1"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "(2 trials, 0 of them done), each of:\n  2 trials with seed 1000\n" in done.stdout
    assert "how long that takes is not known" in done.stdout
    assert "sweep of 5 runs: 5 completed" in done.stdout
    assert len(read_records([tmp_path]).runs) == 5
    again = subprocess.run([*command, "plan=true"], capture_output=True, text=True, timeout=240)
    assert "2 trials, 2 of them done" in again.stdout
    assert "all of these runs are done" in again.stdout
    more = subprocess.run([*command, "plan=true", "seeds=3"], capture_output=True, text=True, timeout=240)
    assert "minutes with 1 at a time" in more.stdout

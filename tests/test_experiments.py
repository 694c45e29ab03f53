"""Every experiment composes at both scales and asks for nothing that is not there."""

import csv
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from hydra_plugins.tuning import PLAN, Study, TuningSweeper
from recipes.errors import ConfigError
from recipes.runs.dry_run import gpus
from recipes.runs.dry_run.memory_estimate import Flops
from recipes.settings import schema

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
WANTED = "table2 table2_in21k table3 table7 table8 table10 figure1 figure4 figure8 figure10 figure11"
WANTED += " table1 table4 figure5 figure9 table5 table6 figure7 figure12 batch_size sensitivity betas bf16_momentum"


SAME_RUNS = {"figure1": "table8", "figure4": "table8", "sensitivity": "figure8", "figure9": "figure5"}
MANY_STUDIES = [("table2", "paper"), ("table7", "paper"), ("figure10", "paper")]  # their tasks are in others, too
CHOSEN_BEFORE = ["figure5_diffusion_long"]  # its settings are the winners of another


@cache
def studies(name: str, scale: str) -> tuple[list[Study], str]:
    """What `python run.py -m +experiment=name scale=scale` would tune, composed, and the plan that it prints."""
    schema.register()
    arguments = [f"+experiment={name}", f"scale={scale}", "tracker=none", f"output_dir={ROOT / 'no records'}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        base = compose("config", overrides=arguments, return_hydra_config=True)
        OmegaConf.set_struct(base, False)
        base.hydra.overrides.hydra = []
        node: Any = OmegaConf.to_container(base.hydra.sweeper)
        assert node.pop("_target_") == "hydra_plugins.tuning.TuningSweeper"
        sweeper = TuningSweeper(**node)
        sweeper.context = SimpleNamespace(config_loader=GlobalHydra.instance().config_loader())
        sweeper.prepare(base)
        with patch.dict(os.environ, {PLAN: "1"}):
            composed = sweeper.studies(arguments)
        with redirect_stdout(io.StringIO()) as plan:
            sweeper.announce(composed)
        return composed, plan.getvalue()


def test_those_of_the_paper_are_there():
    assert set(WANTED.split()) <= set(EXPERIMENTS)


def scales(name: str) -> list[str]:
    """The scales at which an experiment has runs."""
    experiment = OmegaConf.load(ROOT / "conf" / "experiment" / f"{name}.yaml")
    conditions = OmegaConf.select(experiment, "hydra.sweeper.conditions")
    everywhere = ["embedded", "paper"]
    return [scale for scale in everywhere if not OmegaConf.is_dict(conditions) or scale in conditions]


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        pytest.param(name, scale, marks=[pytest.mark.slow] * ((name, scale) in MANY_STUDIES))
        for name in EXPERIMENTS
        if name not in SAME_RUNS
        for scale in scales(name)
    ],
)
def test_it_composes_and_its_plan_prints(name, scale):
    study_list, plan = studies(name, scale)
    said = plan.splitlines()
    assert said[0].startswith(f"{len(study_list)} studies")
    assert [line.split(":")[0].strip() for line in said[-len(study_list) :]] == [study.name for study in study_list]
    assert all(study.cfg.scale.name == scale for study in study_list)
    names = [(study.name, study.centre) for study in study_list]
    assert len(set(names)) == len(names)
    if scale == "paper" or name in CHOSEN_BEFORE:
        assert all(study.best == study.centre for study in study_list)
    else:
        assert all(len(study.points) == 9 for study in study_list)
        assert all(study.cfg.tuned.file != "none" for study in study_list), "a centre that nothing is known of"


ON_ONE_GPU = ["table2", "table4", "table6", "table7", "figure5", "figure5_diffusion", "figure7", "figure9", "figure10"]
ON_ONE_GPU += ["figure11", "warmup", "betas", "bf16_momentum"]


@pytest.mark.parametrize("name", ON_ONE_GPU)
def test_it_composes_on_one_gpu_and_its_plan_has_gpu_hours(name, monkeypatch):
    one_hour = gpus.Run(Flops(0, int(3600 * 0.4 * 312e12), 0), 1, 1, torch.bfloat16)
    monkeypatch.setattr(gpus, "of_config", lambda cfg: one_hour)  # of an A100; each model's own takes seconds
    study_list, plan = studies(name, "gpu")
    assert all(study.cfg.scale.name == "gpu" and study.cfg.tuned.file.startswith("gpu/") for study in study_list)
    (line,) = [line for line in plan.splitlines() if line.startswith("GPU-hours")]
    runs = int(re.search(r"of ([\d]+) runs", line)[1])
    assert runs > 9 * len(study_list)
    assert f"A100 80GB {runs:,}, H100 SXM {runs * 312 / 989.4:,.0f}, " in line


def test_an_experiment_without_conditions_on_one_gpu_says_so():
    with pytest.raises(ConfigError, match="this experiment has nothing to run at scale=gpu; it has embedded, paper"):
        studies("table8", "gpu")


def run(*arguments: str, tmp_path: Path) -> str:
    command = [sys.executable, str(ROOT / "run.py"), *arguments, "tracker=none", f"output_dir={tmp_path}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_experiment_as_a_user_types_it(tmp_path):
    """With -m or without: one run of the first value would not be the experiment."""
    plans = [run(*m, "+experiment=bf16_momentum", "plan=true", tmp_path=tmp_path) for m in (["-m"], [])]
    assert plans[0] == plans[1]
    assert plans[0].startswith(
        "6 studies (task and optimizer) (54 trials, 0 of them done), each of:\n  9 trials with seed 1000"
    )


@pytest.mark.slow
def test_a_dry_run_at_paper_scale(tmp_path):
    arguments = ["-m", "+experiment=figure10", "scale=paper", "dry_run=true", "task=vit_s16", "optim=lion"]
    said = run(*arguments, tmp_path=tmp_path)
    assert "sweep of 1 runs: 1 dry run" in said
    assert said.count("22,050,664 parameters") == 1  # the paper's 22.05M
    assert not list(tmp_path.rglob("summary.json"))


@pytest.mark.parametrize(("name", "other"), SAME_RUNS.items())
def test_experiments_of_the_same_runs(name, other):
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        pair = [
            compose("config", overrides=[f"+experiment={each}"], return_hydra_config=True) for each in (name, other)
        ]
    assert pair[0].hydra.sweeper == pair[1].hydra.sweeper


@pytest.mark.parametrize("scale", ["embedded", "paper"])
def test_batch_sizes_see_the_same_number_of_images(scale):
    seen = [study.cfg.batch_size * study.cfg.steps for study in studies("batch_size", scale)[0]]
    assert max(seen) <= 1.005 * min(seen)


def test_the_heatmaps_at_paper_scale_are_the_papers_settings():
    rows = [line.split(",") for line in (ROOT / "reports/paper/sensitivity.csv").read_text().splitlines()[2:]]
    printed = {(optim.lower(), float(lr), float(decay)) for optim, lr, decay, _ in rows}
    study_list, _ = studies("figure8", "paper")
    assert {(study.cfg.optim.name, *study.centre) for study in study_list} == printed


def test_language_models_at_paper_scale_have_the_decay_of_table_12():
    """Medium has one on Wiki-40B alone; every other row of the figure's models is without."""
    lines = [line for line in (ROOT / "reports/paper/hyperparameters.csv").read_text().splitlines() if line[0] != "#"]
    printed = {
        (row["task"], row["optimizer"].lower()): (float(row["lr"]), float(row["weight_decay"] or 0))
        for row in csv.DictReader(lines)
    }
    study_list, _ = studies("figure7", "paper")
    assert len(study_list) == 10
    for study in study_list:
        on_wiki = (study.cfg.task.name, study.cfg.data.name) == ("gpt2_medium", "wiki40b")
        row = "LM medium on Wiki-40B" if on_wiki else "LM and MLM small; medium on PG-19 and C4; large"
        assert tuple(study.centre) == printed[row, study.cfg.optim.name], study.name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_file_begins_with_its_command_and_says_what_the_paper_found(name):
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert comment[0] == "# @package _global_"
    assert comment[1] == f"# python run.py -m +experiment={name}"
    assert "aper" in "".join(comment[2:])


def test_claims_name_experiments_that_are_there():
    claims = yaml.safe_load((ROOT / "reports" / "claims" / "claims.yaml").read_text())
    assert {claim["experiment"] for claim in claims} <= set(EXPERIMENTS)

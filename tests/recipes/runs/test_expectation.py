"""What a run says of its figure at its end: beside tuned runs of its conditions, beside a published one, or nothing."""

import json
import math
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from recipes.runs import expectation, run_id
from tests.recipes.conftest import ROOT, composed

KIND = {"optim_class": "lion.Lion", "optim_args": {"betas": [0.9, 0.99], "momentum_dtype": "bfloat16"}}
LION = {"lr": 0.0018, "weight_decay": 3.0, **KIND, "seeds": 10, "mean": 0.9609, "low": 0.945546, "high": 0.976254}
ADAMW = LION | {"optim_class": "torch.optim.AdamW", "mean": 0.9527, "low": 0.945534, "high": 0.959866}
SUMMARY = {"conditions": "0123456789ab", "status": "completed", "optim": "lion", **KIND, "lr": 0.0018}
SUMMARY |= {"weight_decay": 3, "metric": "accuracy", "goal": "max", "final": 0.5, "test": 0.96}
RANGE = "test accuracy 94.6 to 97.6%"
BASIS = "(95% prediction interval, 10 seeds)"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the file of a scale, with the tuned runs of one task, and return the config of a run."""
    monkeypatch.setattr(expectation, "EXPECTED", tmp_path)

    def written(**changed):
        tuned = {"metric": "accuracy", "goal": "max", "split": "test", "optimizers": {"lion": LION, "adamw": ADAMW}}
        (tmp_path / "embedded.yaml").write_text(yaml.safe_dump({"vit_b16": {"0123456789ab": tuned | changed}}))
        return OmegaConf.create(
            {"scale": {"name": "embedded"}, "task": {"name": "vit_b16"}, "augment": {"name": "none"}}
        )

    return written


@pytest.mark.parametrize(
    ("figure", "word"),
    [(0.9455, "worse"), (0.946, "as"), (0.976, "as"), (0.977, "better"), (0.1, "worse")],
)
def test_the_tuned_setting_is_judged_by_its_interval(write, figure, word):
    than = "as expected" if word == "as" else f"{word} than expected"
    said = expectation.line(write(), SUMMARY | {"test": figure})
    assert said == f"{than}: this setting has {RANGE} {BASIS}"


@pytest.mark.parametrize(("figure", "word"), [(40.0, "worse"), (29.0, "better"), (33.0, "as")])
def test_where_less_is_better_the_sides_are_the_other_way_round(write, figure, word):
    row = LION | {"mean": 33.4, "low": 32.5, "high": 34.3}
    cfg = write(metric="perplexity", goal="min", split="val", optimizers={"lion": row})
    said = expectation.line(cfg, SUMMARY | {"metric": "perplexity", "goal": "min", "test": None, "final": figure})
    assert said.startswith(f"{word} ")
    assert said.endswith(f": this setting has val perplexity 32.5 to 34.3 {BASIS}")


def test_a_run_that_diverged_is_worse(write):
    diverged = SUMMARY | {"status": "diverged", "test": None, "final": 0.97}
    assert expectation.line(write(), diverged).startswith("worse than expected: ")


def test_a_run_without_the_figure_is_not_judged(write):
    assert expectation.line(write(), SUMMARY | {"test": None}).startswith("not judged: this setting has ")
    bare = {key: SUMMARY[key] for key in ("conditions", "status", "optim", "metric", "goal")}
    assert expectation.line(write(), bare).startswith("tuned lion: ")


@pytest.mark.parametrize(
    ("changed", "further"),
    [
        ({"lr": 0.001}, ""),
        ({"weight_decay": 1}, ""),
        ({"optim_args": {"betas": [0.9, 0.9]}}, "optim.betas=[0.9,0.99] "),
        ({"optim_class": "mine.Lion"}, ""),
    ],
)
def test_another_setting_is_told_the_tuned_one(write, changed, further):
    said = expectation.line(write(), SUMMARY | {"test": 0.1} | changed)
    assert said == f"tuned lion: {RANGE} at optim.lr=0.0018 optim.weight_decay=3 {further}{BASIS}"


def test_an_optimizer_that_was_not_tuned_is_told_the_best_that_was(write):
    said = expectation.line(write(), SUMMARY | {"optim": "sgd"})
    assert said == f"sgd is not tuned here; the best that is, lion, has {RANGE} {BASIS}"
    rows = {"optimizers": {"lion": LION | {"mean": 41.0}, "adamw": ADAMW | {"mean": 40.0}}}
    cfg = write(metric="perplexity", goal="min", **rows)
    assert "the best that is, adamw," in expectation.line(cfg, SUMMARY | {"optim": "sgd", "metric": "perplexity"})


def test_nothing_is_said_of_other_conditions_tasks_scales_and_metrics(write):
    cfg = write()
    assert expectation.line(cfg, SUMMARY | {"conditions": "ba9876543210"}) is None
    assert expectation.line(cfg, SUMMARY | {"metric": "image_to_text_1"}) is None
    for key in ("task", "scale"):
        assert expectation.line(OmegaConf.merge(cfg, {key: {"name": "other"}}), SUMMARY) is None


def at_gpu(*overrides: str, metric: str = "accuracy", optim: str = "lion", goal: str = "max") -> str | None:
    cfg = composed("scale=gpu", f"optim={optim}", *overrides)
    summary = SUMMARY | {"conditions": run_id.conditions(cfg), "metric": metric, "optim": optim, "goal": goal}
    return expectation.line(cfg, summary)


def test_a_published_figure_stands_beside_runs_of_its_setting_wherever_the_data_lie(tmp_path):
    for place in (None, tmp_path):
        said = at_gpu("task=vit_cifar100", *([f"data.path={place}"] if place else []), "seed=7", "optim.lr=1e-3")
        assert said == (
            "published: accuracy 53.7% with lion, 52.0% with adamw, 53.7% with sgd "
            "(github.com/hackerman70000/optim-bench, means of 3 seeds)"
        )
    unet = at_gpu("task=unet_64", metric="ema_fid", goal="min")
    assert unet is not None
    assert unet.startswith("published: fid 4.160 with adam ")
    for changed in ("steps=100", "augment.flip=false", "data=cifar10", "batch_size=64", "precision=fp32"):
        assert at_gpu("task=vit_cifar100", changed) is None
    assert at_gpu("task=vit_cifar100", metric="loss") is None
    assert at_gpu("task=mixer_s16") is None  # nothing is published for it


def test_an_augmentation_has_the_figures_of_its_own():
    cfg = composed("scale=paper", "task=vit_b16", "augment=randaug_mixup")
    assert "80.8% with lion" in str(expectation.line(cfg, SUMMARY))
    assert "77.4% with lion" in str(expectation.line(composed("scale=paper", "task=vit_b16"), SUMMARY))


def files(scale: str) -> dict:
    return yaml.safe_load((ROOT / "conf" / "expected" / f"{scale}.yaml").read_text())


@pytest.mark.parametrize("task", files("gpu"))
def test_figures_for_one_gpu_are_those_that_its_setting_names(task):
    header = (ROOT / "conf" / "setting" / "gpu" / f"{task}.yaml").read_text().partition("defaults:")[0]
    entry = files("gpu")[task]
    numbers = {float(text) for text in re.findall(r"\d+\.\d+", header)}
    for figure in entry["figures"].values():
        assert any(math.isclose(number, as_printed(entry["metric"], figure), rel_tol=1e-3) for number in numbers)


def as_printed(metric: str, figure: float) -> float:
    if metric == "perplexity":
        return math.log(figure)
    return figure if metric == "fid" else 100 * figure


def test_figures_of_the_paper_are_of_settings_that_are_there():
    for task in files("paper"):
        plain = task.removesuffix("_randaug_mixup")
        assert (ROOT / "conf" / "setting" / "paper" / f"{plain}.yaml").is_file(), task


def test_published_runs_at_the_tuned_settings_are_judged_by_them():
    """The hash of conditions, arguments and rates of each committed record lead to its own row."""
    judged = 0
    expected = files("embedded")
    for path in sorted((ROOT / "reports" / "published" / "records").glob("*.runs.jsonl")):
        for summary in map(summary_of, Path(path).read_text().splitlines()):
            tuned = expected.get(summary["task"], {}).get(summary["conditions"])
            row = (tuned or {"optimizers": {}})["optimizers"].get(summary["optim"])
            if row is None or (row["lr"], row["weight_decay"]) != (summary["lr"], summary["weight_decay"]):
                continue
            cfg = {"scale": {"name": "embedded"}, "task": {"name": summary["task"]}, "augment": {"name": "none"}}
            said = str(expectation.line(OmegaConf.create(cfg), summary))
            recorded = {key: value for key, value in summary["optim_args"].items() if key != "refuses_shards"}
            if row["optim_args"] != recorded:
                assert re.search(r" at .* optim\.eps=1e-06 \(95%", said)  # the tuned one's, of which this is a variant
                continue
            assert re.match(r"(as|better than|worse than) expected: this setting has ", said), (said, summary)
            judged += summary["seed"] < 1000
    assert judged >= 3 * len(expected)


def summary_of(line: str) -> dict:
    summary: dict = json.loads(line)["summary"]
    return summary

"""Compiled runs against the same runs without the compiler, and how many graphs they take."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from recipes import protocol
from recipes.classification import Recipe
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.record import folder_of, read_metrics, read_summary
from recipes.training.execution import compilation
from tests.processes import end, start, train
from tests.recipes.conftest import TINY, TINY_BERT, TINY_GPT2, composed

RESNET = [
    "task=resnet50",
    *(text for text in TINY if not text.startswith(("task=", "model.args"))),
    "precision=fp32",
]
TASKS = {
    "vit": [*TINY, "ema_decay=0.9", "clip_norm=1.0"],
    "vit-bf16": [*TINY, "precision=bf16", "accumulate=2"],
    "resnet": RESNET,  # running statistics, which compiling must not touch
    "gpt2-chunks": [*TINY_GPT2, "logit_rows=50", "activation_checkpointing=true"],
    "bert": [
        *TINY_BERT,
        "model.args.hidden_dropout_prob=0",
        "model.args.attention_probs_dropout_prob=0",
        "logit_rows=50",
    ],
}
SLOW = ("vit-bf16", "bert")


def losses(cfg: DictConfig) -> list[float]:
    lines = read_metrics(folder_of(cfg) / "metrics.jsonl")
    return [line["value"] for line in lines if (line["split"], line["name"]) == ("train", "loss")]


def weights(cfg: DictConfig) -> dict[str, torch.Tensor]:
    (newest,) = (folder_of(cfg) / "checkpoint").glob("step-*")
    return load_file(newest / "model.safetensors")


@pytest.fixture
def without_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are captured and differentiated as ever, and then run by torch's own operations: seconds, not minutes."""
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")


@pytest.mark.usefixtures("without_inductor")
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[pytest.mark.slow] * (name in SLOW)) for name, task in TASKS.items()], ids=TASKS
)
def test_a_run_takes_one_graph_and_has_the_eager_runs_losses(tmp_path: Path, task: list[str]) -> None:
    """With evaluations whose last batch is smaller, and with the run gone on from a checkpoint."""
    eager, compiled = (
        composed(*task, "log_every=1", "eval_batch_size=300", f"output_dir={tmp_path / name}", f"compile={name}")
        for name in ("false", "true")
    )
    experiment.run(eager)
    counters.clear()
    assert experiment.run(compiled) == "completed"
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert losses(compiled) == pytest.approx(losses(eager), rel=2e-3 if "precision=bf16" in task else 1e-5)
    if "precision=bf16" not in task:
        expected = weights(eager)
        for name, value in weights(compiled).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    summary = read_summary(folder_of(compiled))
    assert summary is not None
    assert summary["seconds"]["compilation"] > 0
    assert summary["execution"] == {
        "device": "cpu",
        "compile": True,
        "activation_checkpointing": "activation_checkpointing=true" in task,
        "channels_last": False,  # on CUDA alone, as is the next
        "tf32": False,
        "data_workers": 0,
    }
    assert summary["steps_per_second"] * summary["seconds"]["compilation"] > 1  # it would have been the slowest step


@pytest.mark.usefixtures("without_inductor")
def test_a_model_that_is_no_single_graph_is_refused_in_a_line_or_runs_without_the_compiler(
    tiny: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make = Recipe.model

    def broken(self: Any) -> torch.nn.Module:
        model = make(self)
        model.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
        return model

    monkeypatch.setattr(Recipe, "model", broken)
    cfg = tiny("compile=true")
    with pytest.raises(ConfigError, match=r"^compile=true: this model cannot be compiled \(.+\); set compile=false$"):
        experiment.run(cfg)
    assert read_summary(folder_of(cfg)) is None
    # By default it runs all the same, as one that nobody tried to compile.
    monkeypatch.setattr(compilation, "applies", lambda setting, *_: setting is not False)
    said = {}
    for setting in ("auto", "false"):
        assert (
            experiment.run(tiny(f"compile={setting}", "log_every=1", f"output_dir={tmp_path / setting}")) == "completed"
        )
        said[setting] = capsys.readouterr().out
    assert "without the compiler: compile=auto: this model cannot be compiled (" in said["auto"]
    assert "without the compiler" not in said["false"]
    default, eager = (tiny(f"compile={name}", "log_every=1", f"output_dir={tmp_path / name}") for name in said)
    assert losses(default) == losses(eager)
    summary = read_summary(folder_of(default))
    assert summary is not None
    assert summary["execution"]["compile"] is False


def test_a_model_is_compiled_by_itself_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    capability = [7, 0]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: tuple(capability))
    assert compilation.applies("auto", "gpu", cuda)
    assert compilation.applies("auto", "paper", cuda)
    assert not compilation.applies("auto", "embedded", cuda)
    assert not compilation.applies("auto", "gpu", cpu)
    assert [compilation.applies(setting, "embedded", cpu) for setting in (True, False)] == [True, False]
    assert not compilation.applies(False, "gpu", cuda)
    capability[0] = 6  # Pascal, for which Triton writes no code
    assert not compilation.applies("auto", "gpu", cuda)
    capability[0] = 8
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not compilation.applies("auto", "gpu", cuda)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vit_b16", "gpt2_small"])
def test_inductors_code_has_the_eager_runs_losses(tmp_path: Path, task: str) -> None:
    settings = ["tracker=none", "steps=50", "eval_every=50", "log_every=1", "batch_size=16", "precision=fp32"]
    eager, compiled = (
        composed(f"task={task}", *settings, f"output_dir={tmp_path / name}", f"compile={name}")
        for name in ("false", "true")
    )
    for cfg in (eager, compiled):
        assert experiment.run(cfg) == "completed"
    assert losses(compiled) == pytest.approx(losses(eager), abs=1e-4)


def several(runs: list[list[str]]) -> None:
    compilation.BACKEND = "aot_eager"
    for run in runs:
        counters.clear()
        train([run])
        print(f"{counters['stats']['unique_graphs']} graphs, breaks {dict(counters['graph_break'])}")


@pytest.mark.slow
def test_replicas_and_shards_are_compiled_too(tmp_path: Path) -> None:
    task = [*TINY, "log_every=1", "model.args.depth=2"]
    one = composed(*task, f"output_dir={tmp_path / 'one'}")
    experiment.run(one)
    settings = {
        "replicas": ["accumulate=2"],
        "shards": ["shard=true"],
        "shards-bf16": ["shard=true", "precision=bf16", "accumulate=2"],  # gathers within its blocks
    }
    runs = {name: [*task, "compile=true", *more, f"output_dir={tmp_path / name}"] for name, more in settings.items()}
    said = tmp_path / "said"
    status = end(start(several, [*runs.values()], said=said), said)
    printed = Path(f"{said}-0").read_text()
    assert status == [0, 0], printed
    assert printed.count("1 graphs, breaks {}") == 2, printed
    assert printed.count("the run's end") == 3, printed
    for name, run in runs.items():
        assert losses(composed(*run)) == pytest.approx(losses(one), rel=2e-3 if "bf16" in name else 1e-5)


FAMILIES = ["mixer_s16", "coatnet_1", "gpt2_small", "t5_pretrain", "lit_b16_b", "unet_64", "t2i_64", "t2i_256_sr"]


@pytest.mark.slow
@pytest.mark.usefixtures("without_inductor")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", FAMILIES)
def test_the_models_of_every_family_are_one_graph(task: str, precision: str) -> None:
    recipe = protocol.make(composed(f"task={task}"))
    model = recipe.model().train()
    batch = {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in recipe.blank_batch(4).items()
    }

    def loss() -> torch.Tensor:
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return recipe.loss(model, batch)["loss"]

    expected = loss().item()
    counters.clear()
    compilation.begin(model)
    assert compilation.warm_up(model, loss, torch.Tensor.backward, setting=True)
    assert [loss().item() for _ in range(2)] == pytest.approx([expected] * 2, rel=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]

"""What scale=gpu says against what was published, and runs on its data formats in tiny files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose

from recipes import protocol
from recipes.errors import ConfigError
from recipes.runs import build, experiment
from recipes.settings import from_data, schema, validation
from recipes.training import param_groups
from tests.recipes.data.images.test_cifar import binary10, binary100
from tests.recipes.data.text.test_token_shards import shard

ROOT = Path(__file__).resolve().parents[2]
TASKS = sorted(path.stem for path in (ROOT / "conf/setting/gpu").glob("*.yaml"))
FAMILIES = {  # every family of tasks that the paper has
    "classification",
    "contrastive.recipe",
    "diffusion.class_conditional",
    "language.language_modelling",
    "language.span_corruption",
    "language.text_to_text",
}
# Millions of parameters that the published runs of a setting name; of LiT the text tower, which is what is trained.
PUBLISHED = {
    "resnet_cifar10": 0.27,  # He et al. 2016, Table 6
    "vit_s16": 22.05,  # Lion paper, Table 2
    "resnet50": 25.56,
    "mixer_s16": 18.53,
    "gpt2_124m": 124.4,  # GPT-2
    "gpt2_speed_run": 162.4,  # its train_gpt_simple.py
    "t5_pretrain": 247.6,  # nanoT5: 248M
    "t5_base": 247.6,
}
# Settings that nobody has published a figure of: at their length, or of what they measure.
NOT_PUBLISHED = {"bert_small", "mixer_s16", "t5_base"}


def composed(*overrides: str):
    with schema.composing():
        return compose("config", overrides=["scale=gpu", *overrides])


def header(task: str) -> dict[str, str]:
    """The comment of a setting by its paragraphs: Data, Setting, Published, Hours."""
    lines = (ROOT / "conf/setting/gpu" / f"{task}.yaml").read_text(encoding="utf-8").splitlines()[2:]
    text = "\n".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    parts = re.split(r"^(Data|Setting|Published|Hours)\b:?", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (" ".join(part.split()) for part in parts[2::2]), strict=True))


def test_every_family_has_a_setting() -> None:
    assert {composed(f"task={task}").task.recipe for task in TASKS} == FAMILIES


@pytest.mark.parametrize("task", TASKS)
def test_its_file_names_its_setting_a_published_figure_with_its_source_and_hours(task: str) -> None:
    parts = header(task)
    assert list(parts) == ["Data", "Setting", "Published", "Hours"]
    published = parts["Published"]
    assert re.search(r"\d\.\d", published), "a figure"
    assert re.search(
        r"arXiv:\d{4}\.\d{5}, Table \d|github\.com/[\w-]+/[\w-]+, [\w/.]+\.(md|py|json)|model_card\.md", published
    )
    assert ("no published figure" in published) == (task in NOT_PUBLISHED)
    assert re.match(r"(under )?\d", parts["Hours"])


@pytest.mark.parametrize("task", TASKS)
def test_its_file_names_the_size_and_terms_that_its_data_set_is_announced_with(task: str) -> None:
    name, size, terms = re.match(r"([^,]+), (.*?[MG]B[^,]*), (.+?): ", composed(f"task={task}").data.download).groups()
    stated = header(task)["Data"]
    assert name.split()[0].split("-")[0] in stated
    assert re.search(r"\d+ [MG]B", size.split(" and ")[-1])[0] in stated
    assert terms in stated


@pytest.mark.parametrize("task", TASKS)
def test_both_centres_have_a_source_and_others_say_whose_numbers_they_take(task: str) -> None:
    for optim in ("adamw", "lion"):
        cfg = composed(f"task={task}", f"optim={optim}")
        assert cfg.tuned.file == f"gpu/{task}/{optim}"
        assert "since" not in cfg.tuned.source
    source = composed(f"task={task}", "optim=radam").tuned.source
    assert source.endswith("adamw's numbers, since radam has none of its own")


@pytest.mark.parametrize("task", TASKS)
def test_its_data_say_what_to_get(task: str) -> None:
    data = composed(f"task={task}").data
    assert re.search(r"\d ?(MB|GB)", data.download)
    assert "http" in data.download or f"data.hub={data.hub}" in data.download or str(data.hub) in data.download


@pytest.mark.parametrize("task", PUBLISHED)
def test_models_have_the_published_size(task: str) -> None:
    cfg = composed(f"task={task}")
    with torch.device("meta"):
        model = protocol.make(cfg).model()
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[task], rel=0.02)


def test_lengths_are_the_published_ones() -> None:
    assert composed("task=vit_s16").steps == round(1281167 / 1024 * 90)
    assert composed("task=resnet50").steps == round(1281167 / 1024 * 16)
    t5 = composed("task=t5_pretrain")
    blank = protocol.make(t5).blank_batch(1)
    assert (blank["input"].shape[1], blank["target"].shape[1]) == (512, 114)  # nanoT5's, by T5's own rule


def test_lion_on_gpt2_is_the_first_row_of_the_speed_run_but_for_its_optimizer() -> None:
    """modded-nanogpt, records/101324_llmc: llm.c's GPT-2, 10.26 billion tokens, and what its loss is of."""
    import inspect

    from transformers import GPT2Config

    from recipes.data.text import token_shards

    lion, adamw = (composed("task=gpt2_124m", f"optim={optim}") for optim in ("lion", "adamw"))
    assert {key for key in lion if lion[key] != adamw[key]} == {"optim", "tuned"}
    assert lion.data.hub == "kjj0/fineweb10B-gpt2"
    assert inspect.signature(token_shards.load).parameters["eval_tokens"].default == 10 * 2**20
    assert lion.batch_size * lion.data.options.context == 524_288
    assert lion.steps * 524_288 == pytest.approx(10.26e9, rel=1e-3)
    plain = GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)  # OpenAI's smallest
    assert dict(lion.model.args) == {name: getattr(plain, name) for name in lion.model.args}
    # scripts/run_gpt2_124M.sh of llm.c, -l -u -c, and its default clipping.
    assert (adamw.optim.lr, adamw.schedule.warmup_steps, adamw.optim.weight_decay, adamw.clip_norm) == (
        6e-4,
        700,
        0.1,
        1,
    )


def test_lion_in_the_speed_run_for_optimizers_is_its_adam_row_but_for_the_blocks_matrices() -> None:
    """modded-nanogpt, records/track_3_optimization, log a63a68d1."""
    lion, adamw = (composed("task=gpt2_speed_run", f"optim={optim}") for optim in ("lion", "adamw"))
    assert {key for key in lion if lion[key] != adamw[key]} == {"optim", "tuned"}
    assert lion.optim.routes == adamw.optim.routes == composed("task=gpt2_speed_run", "optim=radam").optim.routes
    assert lion.data.hub == "kjj0/fineweb10B-gpt2"
    assert lion.batch_size * lion.data.options.context == 524_288
    assert lion.steps * 524_288 < lion.data.options.shards * 100_000_000
    with torch.device("meta"):
        model = protocol.make(adamw).model()
    groups = param_groups.parameter_groups(model, adamw.decay, adamw.optim.weight_decay)
    stepped = build.optimizer_factory(adamw.optim)(groups).param_groups
    theirs = [  # learning rate, decay, betas, number of parameters
        (1.5e-3, 0.1, (0.9, 0.95), 12 * (4 * 768**2 + 2 * 4 * 768**2)),
        (0.3, 0, (0.8, 0.95), 50304 * 768),
        (1 / 320, 0, (0.8, 0.95), 50304 * 768),
        (0.01, 0, (0.8, 0.95), 12 * 11 * 768 + 50304 + 2 * 768),
    ]
    for group, (lr, decay, betas, size) in zip(stepped, theirs, strict=True):
        assert (group["lr"], group["weight_decay"]) == pytest.approx((lr, decay))
        assert group["eps"] == pytest.approx(1e-10 / 524_288, rel=0.01)  # their gradients are sums over tokens
        assert tuple(group["betas"]) == betas
        assert sum(p.numel() for p in group["params"]) == size
    tuned = build.optimizer_factory(composed("task=gpt2_speed_run", "optim=lion", "optim.lr=1e-5").optim)(groups)
    assert [group["lr"] for group in tuned.param_groups] == pytest.approx([1e-5, 0.3, 1 / 320, 0.01])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Do a run on the CPU; returns its summary."""

    def on_cpu(*arguments: str) -> dict:
        monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))
        cpu = ["device=cpu", "tracker=none", "data.workers=0", "precision=fp32", "scale.threads=1"]
        assert experiment.run(composed(*arguments, *cpu, f"output_dir={tmp_path}/outputs")) == "completed"
        (summary,) = (tmp_path / "outputs").rglob("summary.json")
        return json.loads(summary.read_text())

    return on_cpu


SHORT = ["steps=3", "batch_size=4", "eval_every=3", "schedule.warmup_steps=1", "eval_batch_size=8"]


def test_a_run_on_cifar(tmp_path: Path, run: Callable[..., dict]) -> None:
    binary100(tmp_path)
    summary = run("task=vit_cifar100", f"data.path={tmp_path}", "+data.options.val_size=8", *SHORT)
    assert (summary["status"], summary["scale"], summary["num_parameters"]) == ("completed", "gpu", 1_376_356)


def test_a_run_on_fineweb_shards(tmp_path: Path, run: Callable[..., dict]) -> None:
    rng = np.random.default_rng(0)
    shard(tmp_path / "data" / "fineweb_train_000001.bin", rng.integers(0, 90, 4000))
    shard(tmp_path / "data" / "fineweb_val_000000.bin", rng.integers(0, 90, 600))
    small = ["model.args.n_embd=16", "model.args.n_layer=1", "model.args.n_head=2", "data.options.context=32"]
    more = ["optim=adamw", "accumulate=2", "model.args.vocab_size=50257"]
    summary = run("task=gpt2_124m", f"data.path={tmp_path}/data", *small, *more, *SHORT)
    assert summary["status"] == "completed"
    assert summary["final"] == pytest.approx(50257, rel=0.2)  # perplexity of a model that knows nothing


@pytest.mark.parametrize("optim", ["adamw", "lion", "muon"])
def test_the_speed_run_runs_on_shards(run, tmp_path: Path, optim: str) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    shard(tmp_path / "data" / "fineweb_train_000001.bin", rng.integers(0, 90, 1200))
    shard(tmp_path / "data" / "fineweb_val_000000.bin", rng.integers(0, 90, 600))
    small = ["model.args.hidden_size=16", "model.args.head_dim=8", "model.args.num_hidden_layers=1"]
    less = ["data.options.shards=1", "data.options.context=32", "accumulate=2"]
    summary = run("task=gpt2_speed_run", f"optim={optim}", f"data.path={tmp_path}/data", *small, *less, *SHORT)
    assert summary["status"] == "completed"
    assert summary["final"] < 50304  # it begins at exactly this perplexity


def test_cifar_is_what_the_diffusion_setting_reads(tmp_path: Path) -> None:
    cfg = composed("task=unet_64", f"data.path={binary10(tmp_path)}", "+data.options.val_size=8")
    recipe = protocol.make(cfg)
    rows = recipe._rows(protocol.load_data(cfg)["train"], train=True)
    batch = rows.__getitems__([(0, 0), (1, 1)])
    assert batch["image"].shape == (2, 3, 32, 32)
    assert rows.flip
    assert not recipe._rows(protocol.load_data(cfg)["val"], train=False).flip


def test_a_data_set_that_is_not_there_is_a_line_that_says_what_to_get(tmp_path: Path) -> None:
    cfg = composed("task=vit_cifar100", f"data.path={tmp_path}/none")
    (line,) = from_data.problems(cfg)
    assert line.startswith(f"data.path={tmp_path}/none does not exist: set data.path")
    assert "170 MB" in line
    (line,) = from_data.problems(composed("task=lit_b16_b"))
    assert line.startswith("data=coco needs data.path=")
    assert "20 GB" in line


def test_without_a_gpu_it_is_a_line_that_says_what_device_cpu_means(tmp_path: Path, monkeypatch) -> None:
    from recipes.runs import experiment

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    cfg = composed("task=vit_cifar100", f"data.path={binary100(tmp_path)}", f"output_dir={tmp_path}")
    with pytest.raises(ConfigError, match="torch finds none here: device=cpu would compute the same run") as error:
        experiment.run(cfg)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("summary.json"))


def test_without_a_gpu_that_is_said_first_and_all_else_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    typed = ["task=vit_cifar100", f"data.path={tmp_path}/none", "schedule.final_factor=2"]
    device, factor, data = validation.problems(composed(*typed))
    assert device.startswith("scale=gpu trains on a GPU, and torch finds none here")
    assert factor.startswith("schedule.final_factor=2")
    assert data.startswith(f"data.path={tmp_path}/none does not exist")
    for other in (["device=cpu"], ["dry_run=true"]):
        assert not [line for line in validation.problems(composed(*typed, *other)) if "finds none" in line]
    monkeypatch.setenv(validation.PLAN, "1")  # one plans elsewhere
    assert len(validation.problems(composed(*typed))) == 2
    monkeypatch.delenv(validation.PLAN)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert len(validation.problems(composed(*typed))) == 2

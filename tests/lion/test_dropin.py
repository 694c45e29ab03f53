"""Lion outside this suite: in transformers' Trainer, in timm's training loop, and as a wheel of its own."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lion import Lion

SUITE = {"recipes", "reports", "baselines", "hydra", "omegaconf", "timm", "transformers", "accelerate", "pandas"}
Make = Callable[..., torch.optim.Optimizer]


def timms() -> Make:
    """The one that ours is held against: the same operations in the same order."""
    lion: Make = pytest.importorskip("timm.optim.lion").Lion
    return lion


def assert_same(first: nn.Module, second: nn.Module, start: nn.Module) -> None:
    for p, q, before in zip(first.parameters(), second.parameters(), start.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, before)


# transformers


def trained(make: Make, folder: Path, resume: bool = False) -> tuple[Any, Any]:
    """A tiny GPT-2 on sequences that count upwards, 24 steps, a checkpoint after 12."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    tokens = [[(start + i) % 16 for i in range(8)] for start in range(16)] * 6
    examples = [{"input_ids": torch.tensor(t), "labels": torch.tensor(t)} for t in tokens]
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=16, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0)
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_train_epochs=2,
        save_steps=12,
        logging_steps=6,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    optimizer = make(model.parameters(), lr=3e-3, weight_decay=0.1)
    trainer = transformers.Trainer(model, arguments, train_dataset=examples, optimizers=(optimizer, None))
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-12") if resume else None)
    return model, trainer


def test_in_the_trainer_of_transformers(tmp_path: Path) -> None:
    """The weights are those that timm's Lion reaches there; the Trainer's schedule and clipping act on ours."""
    ours, trainer = trained(Lion, tmp_path / "ours")
    theirs, _ = trained(timms(), tmp_path / "theirs")
    torch.manual_seed(0)
    assert_same(ours, theirs, type(ours)(ours.config))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.state.global_step == 24
    assert trainer.optimizer.param_groups[0]["lr"] == 0  # the linear schedule's end


@pytest.mark.parametrize("options", [{}, {"momentum_dtype": "bfloat16"}, {"momentum_dtype": "int8"}], ids=str)
def test_the_trainer_resumes_to_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    make = lambda params, **given: Lion(params, **given, **options)  # noqa: E731
    straight, _ = trained(make, tmp_path)
    resumed, trainer = trained(make, tmp_path, resume=True)
    torch.manual_seed(0)
    assert_same(straight, resumed, type(straight)(straight.config))
    assert trainer.state.global_step == 24


# timm


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_in_a_training_loop_of_timm(layer_decay: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered with timm, made by its factory with its groups, under its schedule, clipping and loss.

    The weights are those that timm's own Lion reaches.
    """
    timm = pytest.importorskip("timm")
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import OptimInfo, create_optimizer_v2
    from timm.optim._optim_factory import default_registry
    from timm.scheduler import CosineLRScheduler
    from timm.utils import dispatch_clip_grad

    monkeypatch.setattr(default_registry, "_optimizers", dict(default_registry._optimizers))
    default_registry.register(OptimInfo(name="lionbench", opt_class=Lion, has_betas=True))

    def build() -> nn.Module:
        torch.manual_seed(0)
        arguments = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
        model: nn.Module = timm.create_model("vit_tiny_patch16_224", **arguments)
        return model

    def fit(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = build()
        given = {"lr": 1e-3, "weight_decay": 0.1, "betas": (0.95, 0.98), "layer_decay": layer_decay}
        optimizer = create_optimizer_v2(model, name, **given)
        schedule = CosineLRScheduler(optimizer, t_initial=10, warmup_t=3, warmup_lr_init=1e-5)
        criterion = LabelSmoothingCrossEntropy(0.1)
        for step in range(10):
            schedule.step(step)
            random = torch.Generator().manual_seed(step)
            images = torch.randn(4, 3, 16, 16, generator=random)
            labels = torch.randint(3, (4,), generator=random)
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            dispatch_clip_grad(model.parameters(), 1.0)
            optimizer.step()
        return model, optimizer

    ours, optimizer = fit("lionbench")
    theirs, _ = fit("lion")
    assert type(optimizer) is Lion
    assert len(optimizer.param_groups) > 1
    assert_same(ours, theirs, build())


# The package


def test_a_wheel_without_extras_gives_lion(tmp_path: Path) -> None:
    """The C source is inside; a process that sees the wheel, torch and nothing else of ours makes a compiled step."""
    pytest.importorskip("setuptools", minversion="77")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    command += ["--wheel-dir", str(tmp_path), str(_copy(root, tmp_path / "source"))]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        archive.extractall(tmp_path / "installed")
    assert "lion/kernels/cpu.c" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"lion", "lion_bench"}  # and its metadata
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert needed == ["Requires-Dist: torch>=2.6"]
    program = (
        "import sys, warnings, torch\n"
        f"sys.path.insert(0, {str(tmp_path / 'installed')!r})\n"
        "before = set(sys.modules)\n"
        "import lion\n"
        f"assert lion.__file__.startswith({str(tmp_path)!r})\n"
        "warnings.simplefilter('error')\n"
        "weight = torch.ones(5, requires_grad=True)\n"
        "weight.grad = torch.ones(5)\n"
        "lion.Lion([weight], lr=0.5, fused=True).step()\n"
        f"print(weight.tolist(), *{SUITE!r} & {{name.split('.')[0] for name in set(sys.modules) - before}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[0.5, 0.5, 0.5, 0.5, 0.5]"


def _copy(root: Path, to: Path) -> Path:
    """What a wheel is built from: building in place would leave folders behind."""
    for name in ("lion", "baselines", "recipes", "reports"):
        shutil.copytree(root / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, to / name)
    return to

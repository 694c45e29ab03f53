"""Where a config becomes objects: which parameters decay, which optimizer is made, which values are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from recipes.errors import ConfigError
from recipes.runs import build
from recipes.settings import validation
from recipes.training import checkpoint
from recipes.training.param_groups import DECAYING, Role, parameter_groups, set_training
from tests.recipes.conftest import composed

ROOT = Path(__file__).resolve().parents[3]
OPTIMIZERS = sorted(path.stem for path in (ROOT / "conf" / "optim").glob("*.yaml"))
DECAY = 0.3


class Tokens(nn.Module):
    """What a vision transformer has of every kind: matrices, biases, norms, a class token, positions, a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 4, 2)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.scale = nn.Parameter(torch.ones(()))

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "pos_embed"}


def decaying(model: nn.Module, groups: list[dict[str, Any]]) -> set[str]:
    """The names of the parameters that decay; each trainable one is in one group, once."""
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {group["weight_decay"] for group in groups} <= {DECAY, 0.0}
    chosen = {id(p) for group in groups if group["weight_decay"] == DECAY for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


def test_matrices_decay_and_biases_norms_positions_and_class_token_do_not() -> None:
    model = Tokens()
    assert decaying(model, parameter_groups(model, "weights", DECAY)) == {"embed.weight", "head.weight"}


def test_everything_decays_where_asked() -> None:
    model = Tokens()
    groups = parameter_groups(model, "all", DECAY)
    assert len(groups) == 1
    assert decaying(model, groups) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("rule", sorted(DECAYING))
def test_frozen_parameters_are_left_out(rule: str) -> None:
    model = Tokens()
    model.head.requires_grad_(False)
    assert "head.weight" not in decaying(model, parameter_groups(model, rule, DECAY))


def test_a_group_without_parameters_is_left_out() -> None:
    assert len(parameter_groups(nn.Linear(3, 2, bias=False), "weights", DECAY)) == 1


@pytest.mark.parametrize("task", ["vit_b16", "mixer_b16", "resnet50"])
def test_the_models_own_biases_norms_and_tokens_do_not_decay(tiny: Callable[..., DictConfig], task: str) -> None:
    from recipes import protocol

    # The other models take other arguments than the tiny transformer.
    cfg = tiny() if task == "vit_b16" else composed(f"task={task}", "tracker=none")
    with torch.device("meta"):
        model = protocol.make(cfg).model()
    names = decaying(model, parameter_groups(model, "weights", DECAY))
    assert names
    assert not [
        name for name in names if name.endswith(".bias") or "norm" in name or name in ("pos_embed", "cls_token")
    ]
    weights = {n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert {f"{name}.weight" for name in weights} <= names


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_every_optimizer_is_built_and_steps(tiny: Callable[..., DictConfig], optim: str) -> None:
    cfg = tiny(f"optim={optim}")
    validation.check(cfg)
    torch.manual_seed(0)
    model = Tokens()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = parameter_groups(model, "weights", cfg.optim.weight_decay)
    optimizer = build.optimizer_factory(cfg.optim)(groups)
    name = type(optimizer).__name__
    if cfg.optim.get("routes"):
        assert name == "RoutedOptimizer"
    else:
        assert name == cfg.optim._target_.rpartition(".")[2]
        assert [group["weight_decay"] for group in optimizer.param_groups] == [cfg.optim.weight_decay, 0.0]
        assert {float(group["lr"]) for group in optimizer.param_groups} == {cfg.optim.lr}
    set_training(optimizer, True)
    for _ in range(3):  # the first gradient moves nothing with ADOPT and SOAP
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.isfinite(p).all()
        assert not torch.equal(p, before[name]), name


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_every_optimizer_goes_on_from_what_a_checkpoint_holds(
    tiny: Callable[..., DictConfig], tmp_path: Path, optim: str
) -> None:
    cfg = tiny(f"optim={optim}")

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Tokens()
        groups = parameter_groups(model, "weights", cfg.optim.weight_decay)
        return model, build.optimizer_factory(cfg.optim)(groups)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        set_training(optimizer, True)
        optimizer.step()

    model, optimizer = made()
    for number in range(3):
        step(model, optimizer, number)
    checkpoint.save(tmp_path, "run", checkpoint.Checkpoint(3, model.state_dict(), None, optimizer.state_dict(), {}))
    saved = checkpoint.load_newest(tmp_path, "run")
    assert saved is not None
    again, another = made()
    again.load_state_dict(saved.model)
    another.load_state_dict(saved.optimizer)
    for number in range(3, 5):
        step(model, optimizer, number)
        step(again, another, number)
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_what_is_said_of_an_optimizer_is_no_argument_of_it(tiny: Callable[..., DictConfig]) -> None:
    cfg = tiny("optim.name=other", "optim.variant=words")
    assert type(build.optimizer_factory(cfg.optim)([{"params": [nn.Parameter(torch.ones(2))]}])).__name__ == "Lion"


def test_an_argument_that_the_class_does_not_take_is_refused_with_those_it_takes(
    tiny: Callable[..., DictConfig],
) -> None:
    with pytest.raises(ConfigError, match=r"optim=lion has no argument beta; it takes lr, betas, .*weight_decay"):
        build.optimizer_factory(tiny("+optim.beta=0.9").optim)


@pytest.mark.parametrize("override", ["optim.betas=[0.9,1.5]", "optim.betas=[0.9]", "optim.betas=3"])
def test_a_value_that_the_class_refuses_is_the_users_mistake(tiny: Callable[..., DictConfig], override: str) -> None:
    make = build.optimizer_factory(tiny(override).optim)
    with pytest.raises(ConfigError, match=r"^optim=lion: "):
        make([{"params": [nn.Parameter(torch.ones(2))]}])


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["optim=adamw", "+optim.fused=true", "+optim.foreach=true"], "optim=adamw: `fused` and `foreach`"),
        (["optim=mars", "optim.mars_type=adam"], "optim=mars: MARS type not supported"),
        (["optim=adafactor", "optim.momentum_dtype=int8"], "optim=adafactor: int8 dtype not supported"),
        (["optim=adamw", "+optim.differentiable=true"], "optim=adamw: a leaf Variable that requires grad"),
        (["optim=muon", "optim.ns_steps=100"], "optim=muon: Number of steps must be less than 100"),
        (
            ["optim=schedule_free_adamw", "optim.betas=[0,0.999]"],
            "optim=schedule_free_adamw: a step with these settings ends in a division by zero",
        ),
    ],
)
def test_what_a_class_refuses_at_its_first_step_is_said_before_it(overrides: list[str], line: str) -> None:
    weights = [nn.Parameter(torch.ones(3, 2)) for _ in range(2)]
    groups = [{"params": [weight], "roles": [Role.MATRIX]} for weight in weights]
    before = torch.random.get_rng_state()
    with pytest.raises(ConfigError) as refused:
        build.optimizer_factory(composed("task=vit_b16", *overrides).optim)(groups)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(weight, torch.ones(3, 2)) and weight.grad is None for weight in weights)


def test_a_class_that_cannot_be_imported_is_the_users_mistake(tiny: Callable[..., DictConfig]) -> None:
    for target in ("lion.Tiger", "nowhere.Lion", "Lion"):
        with pytest.raises(ConfigError, match=f"optim=lion: _target_={target} cannot be imported"):
            build.optimizer_factory(tiny(f"optim._target_={target}").optim)


def test_the_config_is_left_as_it_was(tiny: Callable[..., DictConfig]) -> None:
    cfg = tiny()
    before = OmegaConf.to_yaml(cfg)
    build.optimizer_factory(cfg.optim)
    assert OmegaConf.to_yaml(cfg) == before


@pytest.mark.parametrize(
    ("name", "settings", "fused"),
    [
        ("adamw", {}, True),
        ("amsgrad_torch", {}, True),
        ("adamw", {"foreach": True}, None),
        ("adamw", {"fused": False}, False),
        ("lion", {}, None),  # chooses by itself
    ],
)
def test_torchs_optimizers_are_fused_on_cuda_as_lion_is(
    name: str, settings: dict[str, Any], fused: bool | None
) -> None:
    config = OmegaConf.merge(OmegaConf.load(ROOT / "conf" / "optim" / f"{name}.yaml"), settings)
    assert isinstance(config, DictConfig)
    for device, expected in (("cuda", fused), ("cpu", settings.get("fused"))):
        with FakeTensorMode():
            weight = nn.Parameter(torch.empty(2, device=device))
            optimizer = build.optimizer_factory(config)([{"params": [weight]}])
        assert optimizer.param_groups[0]["fused"] is expected
    for other in ("radam", "adafactor"):  # have no fused step
        config = OmegaConf.load(ROOT / "conf" / "optim" / f"{other}.yaml")
        assert isinstance(config, DictConfig)
        with FakeTensorMode():
            build.optimizer_factory(config)([{"params": [nn.Parameter(torch.empty(2, device="cuda"))]}])

"""Values that a run cannot have are all named at once, and those on the edge are taken."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from recipes.errors import ConfigError
from recipes.settings import optimizer_arguments, validation

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        *[(f"{key}=0", f"{key}=0 must be at least 1") for key in ("steps", "batch_size", "accumulate", "eval_every")],
        *[(f"{key}=-2", f"{key}=-2 must") for key in ("eval_batch_size", "log_every", "checkpoint_every")],
        ("seed=-1", "seed=-1 must be at least 0"),
        ("data.workers=-1", "data.workers=-1 must be at least 0"),
        ("scale.threads=0", "scale.threads=0 must be at least 1"),
        ("augment.shift=-1", "augment.shift=-1 must be at least 0"),
        ("augment.mixup=-1", "augment.mixup=-1.0 must be at least 0"),
        ("optim.lr=-1e-3", "optim.lr=-0.001 must be a finite number of at least 0"),
        ("optim.lr=null", "optim.lr=null must be"),
        ("optim.lr=true", "optim.lr=true must be"),
        ("optim.lr=nan", "optim.lr=nan must be"),
        ("optim.lr=abc", "optim.lr=abc must be"),
        ("schedule.final_factor=1.5", "final_factor=1.5 must lie in [0, 1]"),
        ("schedule.final_factor=nan", "final_factor=nan must lie in [0, 1]"),
        ("schedule.warmup_steps=-1", "schedule.warmup_steps=-1 must be at least 0"),
        ("schedule.cooldown_steps=-1", "schedule.cooldown_steps=-1 must be at least 0"),
        ("schedule.timescale=0", "schedule.timescale=0 must be at least 1"),
        ("seed=9007199254740992", "seed=9007199254740992 must be at most 9007199254740991"),
        ("steps=2147483648", "steps=2147483648 must be at most 2147483647"),
        ("optim.weight_decay=inf", "optim.weight_decay=inf must be"),
        ("~optim.weight_decay", "optim.weight_decay=null must be"),
        ("precision=fp8", "precision=fp8 is unknown; known: fp32, bf16"),
        ("device=tpu", "device=tpu is unknown; known: auto, cpu"),
        ("decay=none", "decay=none is unknown; known: weights, matrices, all"),
        ("clip_norm=0", "clip_norm=0.0 must be above 0, or null"),
        ("clip_norm=nan", "clip_norm=nan must be above 0, or null"),
        ("ema_decay=1", "ema_decay=1.0 must lie between 0 and 1"),
        ("schedule.name=foo", "foo is unknown"),
    ],
)
def test_a_value_out_of_range_is_refused(tiny: Callable[..., DictConfig], override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validation.check(tiny(override))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "optim.lr=0",
        "optim.lr=1",
        "clip_norm=null",
        "clip_norm=1",
        "schedule.final_factor=1",
        "seed=9007199254740991",
        "ema_decay=0.99",
        "seed=7",
        "decay=all",
    ],
)
def test_a_value_in_range_is_taken(tiny: Callable[..., DictConfig], override: str) -> None:
    validation.check(tiny(override))


def test_all_mistakes_of_a_config_are_named(tiny: Compose) -> None:
    cfg = tiny("steps=0", "optim.lr=-1", "+optim.cautious=3", "precision=fp8", "model.args.depth=0")
    with pytest.raises(ConfigError) as caught:
        validation.check(cfg)
    lines = str(caught.value).splitlines()
    for key in ("steps=0", "optim.lr=-1", "optim.cautious=3", "precision=fp8", "model.args.depth=0"):
        assert sum(line.startswith(key) for line in lines) == 1, key
    assert len(lines) == 5


def test_what_spoils_a_result_and_can_be_run_is_said(tiny: Compose) -> None:
    assert validation.warnings(tiny()) == []
    assert validation.warnings(tiny("steps=4")) == []  # the rate is reached on the last step
    (line,) = validation.warnings(tiny("steps=3"))
    assert line == "schedule.warmup_steps=4 is longer than the run of 3 steps: it never reaches optim.lr"
    assert validation.warnings(tiny("schedule=rsqrt", "schedule.cooldown_steps=16")) == []
    (line,) = validation.warnings(tiny("schedule=rsqrt", "schedule.cooldown_steps=17"))
    assert line == "schedule.cooldown_steps=17 is longer than the 16 steps after the warm-up"


@pytest.mark.parametrize("target", ["torch.optim.AdamW", "torch.optim.SGD", "lion.Lion", "timm.optim.AdaBelief"])
def test_arguments_read_from_the_source_are_the_classes_own(target: str) -> None:
    import importlib
    import inspect

    module, _, name = target.rpartition(".")
    own = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    declared = optimizer_arguments.arguments(target)
    assert declared is not None
    assert list(declared) == list(own)
    for key, argument in declared.items():
        default = own[key].default
        assert argument.default == (None if default is inspect.Parameter.empty else default), key


def test_a_command_of_a_prerequisite_is_looked_at_too(tiny: Compose) -> None:
    with pytest.raises(ConfigError, match=r"init_from=run:task=vit_s16 steps=0: steps=0 must be at least 1"):
        validation.check(tiny("init_from='run:task=vit_s16 steps=0'"))


def test_the_rules_of_decay_are_those_that_there_are() -> None:
    from recipes.training.param_groups import DECAYING

    assert set(validation.DECAY_RULES) == set(DECAYING)


def test_the_checks_leave_the_config_as_it_was(tiny: Compose) -> None:
    cfg = tiny()
    before = OmegaConf.to_yaml(cfg)
    validation.check(cfg)
    assert OmegaConf.to_yaml(cfg) == before

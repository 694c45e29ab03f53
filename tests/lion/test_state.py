"""Saving, loading and copying Lion: types kept, training continued bit for bit, other Lions' states taken over."""

import copy
import io
import pickle
from typing import Any

import hydra.utils
import lion_pytorch
import numpy as np
import pytest
import timm.optim.lion
import torch
from omegaconf import OmegaConf
from torch import Tensor

from lion import Lion
from lion.settings import OPTIONS

OTHERS = {"timm": timm.optim.lion.Lion, "lion-pytorch": lion_pytorch.Lion}


def weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random).to(dtype).requires_grad_() for shape in [(), (6,), (4, 3)]]


def train(optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """The steps `first` to `last` of a training whose gradients depend on nothing but the step."""
    for step in range(first, last):
        random = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn(parameter.shape, generator=random).to(parameter.dtype)
        optimizer.step()


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Saved and loaded the safe way."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def copies(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p.detach().clone().requires_grad_() for group in optimizer.param_groups for p in group["params"]]


def momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [optimizer.state[p]["exp_avg"] for group in optimizer.param_groups for p in group["params"]]


def assert_same(first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
    """Weights and momenta are equal bit for bit, and so are their types."""
    for one, other in zip(first.param_groups, second.param_groups, strict=True):
        for p, q in zip(one["params"], other["params"], strict=True):
            assert p.dtype == q.dtype
            assert torch.equal(p, q)
    for m, n in zip(momenta(first), momenta(second), strict=True):
        assert m.dtype == n.dtype
        assert torch.equal(m, n)


@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16", torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [{}, {"capturable": True}, {"foreach": True}, {"maximize": True}], ids=str)
def test_resumed_equals_uninterrupted(
    dtype: torch.dtype, momentum_dtype: torch.dtype | str | None, given: dict[str, Any]
) -> None:
    """Ten steps, or five, a file, a new process's optimizer, and five more: the same bits."""
    given = {"lr": 0.01, "weight_decay": 0.1, "momentum_dtype": momentum_dtype, **given}
    straight = Lion(weights(dtype), **given)
    train(straight, 0, 5)
    resumed = Lion(copies(straight), **given)
    resumed.load_state_dict(through_a_file(straight.state_dict()))
    assert_same(straight, resumed)
    for optimizer in (straight, resumed):
        train(optimizer, 5, 10)
    assert_same(straight, resumed)
    fresh = Lion(weights(dtype), **given)
    train(fresh, 0, 10)
    assert_same(straight, fresh)


@pytest.mark.parametrize("momentum_dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_momentum_keeps_its_type(momentum_dtype: torch.dtype) -> None:
    """torch would cast it to the parameter's when it loads."""
    saved = Lion(weights(), momentum_dtype=momentum_dtype)
    train(saved, 0, 3)
    state = through_a_file(saved.state_dict())
    assert {entry["exp_avg"].dtype for entry in state["state"].values()} == {momentum_dtype}
    loaded = Lion(weights(), momentum_dtype=momentum_dtype)
    loaded.load_state_dict(state)
    assert {m.dtype for m in momenta(loaded)} == {momentum_dtype}
    train(loaded, 3, 4)
    assert {m.dtype for m in momenta(loaded)} == {momentum_dtype}


def test_float32_momentum_of_bfloat16_weights_is_not_rounded() -> None:
    saved = Lion(weights(torch.bfloat16), momentum_dtype="float32")
    train(saved, 0, 3)
    loaded = Lion(copies(saved), momentum_dtype="float32")
    loaded.load_state_dict(saved.state_dict())
    assert_same(saved, loaded)
    assert any(not torch.equal(m, m.bfloat16().float()) for m in momenta(loaded))


def test_momentum_type_follows_the_checkpoint_where_none_is_asked_for() -> None:
    saved = Lion(weights(), momentum_dtype="bfloat16")
    train(saved, 0, 3)
    loaded = Lion(copies(saved))
    loaded.load_state_dict(through_a_file(saved.state_dict()))
    assert_same(saved, loaded)
    train(loaded, 3, 4)
    assert {m.dtype for m in momenta(loaded)} == {torch.bfloat16}


@pytest.mark.parametrize("source", ["timm", "lion-pytorch", "ours"])
@pytest.mark.parametrize("asked", ["bfloat16", torch.bfloat16])
def test_float32_checkpoint_becomes_bfloat16_where_asked_for(source: str, asked: torch.dtype | str) -> None:
    """Whoever made the checkpoint, a bfloat16 momentum stays half the size that its user asked for."""
    saved = {**OTHERS, "ours": Lion}[source](weights(), lr=0.01)
    train(saved, 0, 3)
    loaded = Lion(copies(saved), momentum_dtype=asked)
    loaded.load_state_dict(through_a_file(saved.state_dict()))
    for before, after in zip(momenta(saved), momenta(loaded), strict=True):
        assert torch.equal(after, before.bfloat16())
        assert after.dtype == torch.bfloat16
    train(loaded, 3, 5)
    assert {m.dtype for m in momenta(loaded)} == {torch.bfloat16}


@pytest.mark.parametrize("source", list(OTHERS))
def test_continues_another_lions_training(source: str) -> None:
    """The rate, the betas and the decay come with the state; so do the next ten steps."""
    theirs = OTHERS[source](weights(), lr=0.02, betas=(0.95, 0.98), weight_decay=0.3)
    train(theirs, 0, 5)
    ours = Lion(copies(theirs), lr=123.0, maximize=False, foreach=False)
    ours.load_state_dict(through_a_file(theirs.state_dict()))
    group = ours.param_groups[0]
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (0.02, (0.95, 0.98), 0.3)
    assert group["momentum_dtype"] is None
    for optimizer in (theirs, ours):
        train(optimizer, 5, 15)
    for p, q in zip(theirs.param_groups[0]["params"], group["params"], strict=True):
        assert torch.equal(p, q)
    for m, n in zip(momenta(theirs), momenta(ours), strict=True):
        torch.testing.assert_close(m, n, rtol=0 if source == "timm" else 1e-5, atol=0 if source == "timm" else 1e-7)


@pytest.mark.parametrize("source", list(OTHERS))
def test_settings_another_lion_does_not_know_stay(source: str) -> None:
    """A capturable optimizer keeps its rate in a tensor, whatever number the checkpoint held."""
    theirs = OTHERS[source](weights(), lr=0.02)
    train(theirs, 0, 2)
    ours = Lion(copies(theirs), lr=0.5, capturable=True, momentum_dtype="bfloat16")
    ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert group["capturable"] is True
    assert group["momentum_dtype"] in (torch.bfloat16, "bfloat16")
    assert isinstance(group["lr"], Tensor)
    assert group["lr"].item() == pytest.approx(0.02)
    train(ours, 2, 4)


def test_settings_of_one_group_stay_too() -> None:
    """What lion-pytorch does not save is not taken from the defaults where a group had its own."""
    theirs = lion_pytorch.Lion([{"params": [p]} for p in weights()], lr=0.02)
    train(theirs, 0, 2)
    first, second, third = copies(theirs)
    own = {"maximize": True, "foreach": True, "momentum_dtype": "float64"}
    ours = Lion([{"params": [first]}, {"params": [second], **own}, {"params": [third]}])
    ours.load_state_dict(theirs.state_dict())
    assert [group["maximize"] for group in ours.param_groups] == [False, True, False]
    assert [group["foreach"] for group in ours.param_groups] == [None, True, None]
    assert [m.dtype for m in momenta(ours)] == [torch.float32, torch.float64, torch.float32]


def test_timm_continues_ours() -> None:
    """And the other way round."""
    ours = Lion(weights(), lr=0.02, weight_decay=0.3)
    train(ours, 0, 5)
    theirs = timm.optim.lion.Lion(copies(ours), lr=1.0)
    theirs.load_state_dict(through_a_file(ours.state_dict()))
    for optimizer in (ours, theirs):
        train(optimizer, 5, 15)
    assert_same(ours, theirs)


def test_loading_copies() -> None:
    """The one goes on without moving the other's momentum."""
    saved = Lion(weights(), momentum_dtype="bfloat16")
    train(saved, 0, 3)
    state = saved.state_dict()
    before = copy.deepcopy(state)
    loaded = Lion(weights(), momentum_dtype="bfloat16")
    loaded.load_state_dict(state)
    train(loaded, 3, 6)
    for number, entry in before["state"].items():
        assert torch.equal(entry["exp_avg"], saved.state_dict()["state"][number]["exp_avg"])


def test_parameters_that_had_no_gradient_yet() -> None:
    """A state with gaps loads, and the gaps are filled when a gradient comes."""
    saved = Lion(weights(), momentum_dtype="bfloat16")
    saved.param_groups[0]["params"][1].grad = torch.ones(6)
    saved.step()
    loaded = Lion(weights(), momentum_dtype="bfloat16")
    loaded.load_state_dict(through_a_file(saved.state_dict()))
    assert list(loaded.state) == [loaded.param_groups[0]["params"][1]]
    train(loaded, 0, 1)
    assert {m.dtype for m in momenta(loaded)} == {torch.bfloat16}


def test_several_groups() -> None:
    """Each gets its own settings and types back."""

    def build() -> Lion:
        first, second, third = weights()
        groups = [
            {"params": [first, second], "lr": 0.1, "momentum_dtype": "bfloat16"},
            {"params": [third], "weight_decay": 0.5, "momentum_dtype": torch.float64, "maximize": True},
        ]
        return Lion(groups, lr=0.01)

    straight = build()
    train(straight, 0, 4)
    resumed = build()
    with torch.no_grad():
        for p, q in zip(copies(straight), copies(resumed), strict=True):
            assert p.shape == q.shape
        for group, other in zip(resumed.param_groups, straight.param_groups, strict=True):
            for p, q in zip(group["params"], other["params"], strict=True):
                p.copy_(q)
    resumed.load_state_dict(through_a_file(straight.state_dict()))
    for optimizer in (straight, resumed):
        train(optimizer, 4, 8)
    assert_same(straight, resumed)
    assert [m.dtype for m in momenta(resumed)] == [torch.bfloat16, torch.bfloat16, torch.float64]


def test_mismatched_checkpoint_is_refused() -> None:
    saved = Lion(weights())
    with pytest.raises(ValueError, match="different number of parameter groups"):
        Lion([{"params": [p]} for p in weights()]).load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size"):
        Lion(weights()[:2]).load_state_dict(saved.state_dict())


def test_hooks_before_loading_are_heeded() -> None:
    """torch lets a hook adapt a foreign state before it is loaded: another name of the momentum, here."""
    saved = Lion(weights())
    train(saved, 0, 3)
    foreign = saved.state_dict()
    foreign["state"] = {number: {"m": entry["exp_avg"]} for number, entry in foreign["state"].items()}
    loaded = Lion(copies(saved))

    def rename(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "state": {number: {"exp_avg": entry["m"]} for number, entry in state["state"].items()}}

    loaded.register_load_state_dict_pre_hook(rename)
    loaded.load_state_dict(foreign)
    assert_same(saved, loaded)


@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_pickle_and_deepcopy(momentum_dtype: str | None, way: str) -> None:
    optimizer = Lion(weights(), lr=0.01, weight_decay=0.1, momentum_dtype=momentum_dtype)
    train(optimizer, 0, 3)
    other = pickle.loads(pickle.dumps(optimizer)) if way == "pickle" else copy.deepcopy(optimizer)
    assert other.param_groups[0]["params"][0] is not optimizer.param_groups[0]["params"][0]
    assert_same(optimizer, other)
    before = [m.clone() for m in momenta(optimizer)]
    train(other, 3, 6)
    for m, n in zip(momenta(optimizer), before, strict=True):
        assert torch.equal(m, n)
    train(optimizer, 3, 6)
    assert_same(optimizer, other)


def test_hooks_after_loading_see_the_final_state() -> None:
    """A hook that moves the state elsewhere, or looks at it, finds the type that stays; and its change stays too."""
    saved = Lion(weights(), momentum_dtype="bfloat16")
    train(saved, 0, 3)
    loaded = Lion(weights(), momentum_dtype="bfloat16")
    seen = []

    def double(optimizer: torch.optim.Optimizer) -> None:
        seen.extend(m.dtype for m in momenta(optimizer))
        for m in momenta(optimizer):
            m.mul_(2)

    loaded.register_load_state_dict_post_hook(double)
    for _ in range(2):
        loaded.load_state_dict(saved.state_dict())
        for m, n in zip(momenta(saved), momenta(loaded), strict=True):
            assert torch.equal(2 * m, n)
    assert seen == [torch.bfloat16] * 6
    assert len(loaded._optimizer_load_state_dict_post_hooks) == 1
    assert not loaded._optimizer_load_state_dict_pre_hooks


def test_a_refused_checkpoint_leaves_no_hooks() -> None:
    loaded = Lion(weights())
    with pytest.raises(ValueError, match="size"):
        loaded.load_state_dict(Lion(weights()[:1]).state_dict())
    assert not loaded._optimizer_load_state_dict_pre_hooks
    assert not loaded._optimizer_load_state_dict_post_hooks


def test_pickles_from_before_any_option_existed() -> None:
    """Neither the groups nor the defaults have them; a group added later finds them as well."""
    optimizer = Lion(weights(), lr=0.01)
    for settings in (optimizer.defaults, *optimizer.param_groups):
        for option in OPTIONS:
            del settings[option]
    old = pickle.loads(pickle.dumps(optimizer))
    old.add_param_group({"params": weights()})
    fresh = Lion([{"params": weights()}, {"params": weights()}], lr=0.01)
    for each in (old, fresh):
        train(each, 0, 3)
    assert_same(old, fresh)
    for group, other in zip(old.param_groups, fresh.param_groups, strict=True):
        for name in fresh.defaults:
            assert group[name] == other[name]


def test_pickles_that_hold_a_torch_dtype() -> None:
    """The type's name is what is kept today."""
    optimizer = Lion(weights(), lr=0.01, momentum_dtype="bfloat16")
    optimizer.param_groups[0]["momentum_dtype"] = torch.bfloat16
    old = pickle.loads(pickle.dumps(optimizer))
    train(old, 0, 2)
    assert old.param_groups[0]["momentum_dtype"] == "bfloat16"
    assert {m.dtype for m in momenta(old)} == {torch.bfloat16}


def test_settings_from_hydra_become_plain() -> None:
    """A partial of a YAML file brings ListConfig betas, numpy brings its own numbers: a safe load knows neither."""
    config = OmegaConf.create({"_target_": "lion.Lion", "_partial_": True, "betas": [0.95, 0.98], "lr": 0.02})
    config.momentum_dtype = "bfloat16"
    optimizer = hydra.utils.instantiate(config)(weights(), weight_decay=np.float32(0.5))
    train(optimizer, 0, 1)
    group = through_a_file(optimizer.state_dict())["param_groups"][0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.02, (0.95, 0.98), 0.5)
    assert type(group["betas"]) is tuple
    assert {type(group[name]) for name in ("lr", "weight_decay")} == {float}


@pytest.mark.parametrize("missing", list(OPTIONS))
def test_pickles_from_before_a_setting_existed(missing: str) -> None:
    """They get the optimizer's default, and go on."""
    optimizer = Lion(weights(), lr=0.01, momentum_dtype="bfloat16")
    for group in optimizer.param_groups:
        del group[missing]
    old = pickle.loads(pickle.dumps(optimizer))
    assert missing in old.param_groups[0]
    train(old, 0, 2)
    assert {m.dtype for m in momenta(old)} == {torch.bfloat16}


def test_state_dict_is_plain() -> None:
    """Keys and types that any tool can read: numbers, tensors, and torch's own types."""
    optimizer = Lion(weights(), momentum_dtype="bfloat16")
    train(optimizer, 0, 1)
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    assert {tuple(entry) for entry in state["state"].values()} == {("exp_avg",)}
    assert state["param_groups"][0]["params"] == [0, 1, 2]
    assert through_a_file(state)["param_groups"] == state["param_groups"]


def test_a_key_that_older_checkpoints_have_too_many_is_dropped() -> None:
    """torch once put it into groups that were loaded."""
    saved = Lion(weights()).state_dict()
    keys = set(saved["param_groups"][0])
    saved["param_groups"][0]["differentiable"] = False
    loaded = Lion(weights())
    loaded.load_state_dict(saved)
    assert set(loaded.state_dict()["param_groups"][0]) == keys


def test_arithmetic_stays_where_a_checkpoint_does_not_name_it() -> None:
    theirs = timm.optim.lion.Lion(weights(), lr=0.01)
    train(theirs, 0, 2)
    ours = Lion(copies(theirs), momentum_dtype="bfloat16", momentum_arithmetic="storage")
    ours.load_state_dict(theirs.state_dict())
    group = ours.param_groups[0]
    assert (group["momentum_dtype"], group["momentum_arithmetic"]) == ("bfloat16", "storage")
    train(ours, 2, 3)

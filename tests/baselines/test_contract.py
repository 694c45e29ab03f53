"""What torch's and timm's own tests ask of an optimizer, of lion.Lion and every file of conf/optim, flag by flag."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR

from lion import Lion
from recipes.errors import ConfigError
from recipes.runs.build import optimizer_factory
from recipes.training.param_groups import set_training

FILES = sorted((Path(__file__).parents[2] / "conf" / "optim").glob("*.yaml"))
CONF = {path.stem: OmegaConf.load(path) for path in FILES}
FLAGS: dict[str, list[dict[str, Any]]] = {  # beside the file as it is
    "adafactor": [{"caution": True}, {"momentum": None}],
    "adamw": [{"foreach": True}, {"fused": True}, {"capturable": False, "maximize": True}],
    "amsgrad_torch": [{"foreach": True}, {"fused": True}],
    "lion": [{"fused": False}, {"fused": True}, {"foreach": True}, {"momentum_arithmetic": "storage"}],
    "nadam_torch": [{"foreach": True}],
    "program": [{"foreach": True}, {"program": "program1", "lr": 1e-3}],
    "radam": [{"foreach": True}],
    "sgd": [{"nesterov": True}, {"momentum": 0.0}],
}
LIONS: list[dict[str, Any]] = [
    {},
    {"foreach": False},
    {"foreach": True},
    {"fused": True},
    {"fused": False},
    {"capturable": True},
    {"capturable": True, "foreach": True},
    {"maximize": True},
    {"momentum_dtype": "bfloat16"},
    {"momentum_dtype": torch.float16, "momentum_arithmetic": "storage"},
    {"momentum_dtype": "int8"},
    {"cautious": True},
    {"cautious": True, "clip_rms": 1.0},
    {"clip_rms": 0.5},
    {"weight_decay": 0.1, "cautious_decay": True},
    {"weight_decay": 0.1, "corrected_decay": True},
    {"betas": (0.95, 0.98), "weight_decay": 0.1},
]
Make = Callable[..., torch.optim.Optimizer]


def contender(name: str, given: dict[str, Any]) -> Make:
    """What makes an optimizer of parameters or groups, with other settings where asked for."""

    def of_lion(params: Any, **changes: Any) -> torch.optim.Optimizer:
        return Lion(params, **{"lr": 1e-3} | given | changes)

    def of_file(params: Any, **changes: Any) -> torch.optim.Optimizer:
        optim = CONF[name].copy()
        optim.update({"lr": 1.0 if name in ("program", "prodigy") else 1e-3} | given)
        for setting in changes.keys() - {"lr"}:
            optim[setting] = changes[setting]
        optimizer = optimizer_factory(optim)(params)
        set_training(optimizer, True)
        if "lr" in changes:
            for group in optimizer.param_groups:
                group["lr"] = changes["lr"]
        return optimizer

    return of_lion if name == "lion.Lion" else of_file


CONTENDERS = {
    f"{name} {flags}" if flags else name: (name, flags)
    for name, every in [*((name, [{}, *FLAGS.get(name, [])]) for name in CONF), ("lion.Lion", LIONS)]
    for flags in every
}
ROUTED = {"muon": 1.0, "muon_lion": 0.2, "lion_muon": 1.0}  # matrices apart from vectors, at so many times their lr
OURS = ("soap", "kron", "ademamix", "prodigy", "cautious_lion", "lion_cautious_decay", "lion_corrected_decay")
OURS += ("lion.Lion", "lion", "signum", "nadam", "amsgrad", "sgd", "powersign", "addsign", "program")


@pytest.fixture(params=CONTENDERS)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], Make]:
    """A contender's name, its flags, and what makes it."""
    name, flags = CONTENDERS[request.param]
    return name, flags, contender(name, flags)


@pytest.fixture
def make(case: tuple[str, dict[str, Any], Make]) -> Make:
    return case[2]


def tensors(dtype: torch.dtype = torch.float32, spread: bool = False, seed: int = 0) -> list[Parameter]:
    """A matrix and a vector, with gaps between their elements where `spread`."""
    random = torch.Generator().manual_seed(seed)
    if spread:
        return [Parameter(torch.randn(*shape, 2, generator=random).to(dtype)[..., 0]) for shape in ((10, 5), (10,))]
    return [Parameter(torch.randn(shape, generator=random).to(dtype)) for shape in ((10, 5), (10,))]


def bowl(params: list[Parameter]) -> Tensor:
    """What is to become small."""
    return torch.stack([(p.float() - 0.1).square().sum() for p in params]).sum()


def steps(optimizer: torch.optim.Optimizer, params: list[Parameter], count: int, after: Any = None) -> None:
    """Step by a closure that gives the bowl, negated for an optimizer that climbs."""
    sign = -1.0 if optimizer.param_groups[0].get("maximize") else 1.0

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sign * bowl(params)
        loss.backward()
        return loss

    for step in range(count):
        torch.manual_seed(step)  # as the loop does: one of them draws its own directions
        before = sign * bowl(params).detach()
        assert torch.equal(optimizer.step(closure), before)
        if after is not None:
            after()


def equal(one: Any, other: Any) -> bool:
    """Whether two states are equal, tensors by type and bits."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def keys(optimizer: torch.optim.Optimizer) -> list[set[str]]:
    return [set(group) for group in optimizer.param_groups]


@pytest.mark.parametrize("given", ["generator", "one group", "two rates", "named", "spread", "scheduled", "tensor lr"])
def test_it_descends_whatever_it_is_given(case: tuple[str, dict[str, Any], Make], given: str) -> None:
    name, flags, make = case
    if given == "spread" and name in ("adamw", "amsgrad_torch") and flags.get("fused"):
        pytest.skip("torch's fused AdamW on the CPU does not look at strides")
    if given == "two rates" and name == "program" and "lr" not in flags:
        pytest.skip("the program's norms run over the model, so it takes one rate, and says so")
    params = tensors(spread=given == "spread")
    whole = lambda **more: [{"params": params, **more}]  # noqa: E731
    rate = 0.5 if name in ("program", "prodigy") and "lr" not in flags else 2e-3
    if given == "tensor lr":
        library = name in ("adafactor", "adabelief") or (flags.get("foreach") and not flags.get("capturable"))
        if library and name not in ("lion.Lion", "lion", "program"):
            pytest.skip("the library takes no tensor lr here")
        optimizer = make(params, lr=torch.tensor(rate))
        assert isinstance(optimizer.param_groups[0]["lr"], Tensor)
    else:
        groups: Any = {
            "generator": (p for p in params),
            "one group": whole(lr=rate),
            "two rates": [{"params": [params[0]], "lr": rate / 2}, {"params": [params[1]], "lr": rate}],
            "named": [("matrix", params[0]), ("vector", params[1])],
        }.get(given, params)
        optimizer = make(groups)
    assert type(optimizer).__name__ in repr(optimizer)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / 40)
    first = bowl(params)
    steps(optimizer, params, 30, after=schedule.step if given == "scheduled" else None)
    assert bowl(params) < first
    of_vectors = ROUTED.get(name, 1.0)
    rates = {"two rates": [rate / 2, rate * of_vectors], "one group": [rate, rate * of_vectors]}.get(given)
    seen = [float(group["lr"]) for group in optimizer.param_groups]
    assert rates is None or seen == pytest.approx(rates if given == "two rates" or name in ROUTED else rates[:1])
    if given == "named":
        names = [name for group in optimizer.param_groups for name in group["param_names"]]
        assert names == ["matrix", "vector"]


@pytest.mark.parametrize("way", ["state_dict", "file", "deepcopy", "pickle"])
def test_a_copy_goes_on_alike(case: tuple[str, dict[str, Any], Make], way: str) -> None:
    """The same bits, the same state to the last key, and the same keys of groups, old and new."""
    name, _, make = case
    params = tensors()
    optimizer = make([{"params": params[:1]}, {"params": params[1:]}])
    before = keys(optimizer)
    steps(optimizer, params, 5)
    if way in ("state_dict", "file"):
        others = [Parameter(p.detach().clone()) for p in params]
        other = make([{"params": others[:1]}, {"params": others[1:]}])
        state = copy.deepcopy(optimizer.state_dict())
        if way == "file":
            file = io.BytesIO()
            torch.save(state, file)
            state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        unchanged = copy.deepcopy(state)
        other.load_state_dict(state)
        assert equal(state, unchanged), "loading must leave what it is given as it was"
    else:
        other = copy.deepcopy(optimizer) if way == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        others = [p for group in other.param_groups for p in group["params"]]
        assert {name for name in vars(other) if name[0] != "_"} == {name for name in vars(optimizer) if name[0] != "_"}
    assert keys(other) == keys(optimizer) == before
    assert equal(optimizer.state_dict(), other.state_dict())
    steps(optimizer, params, 5)
    steps(other, others, 5)
    assert all(map(torch.equal, params, others))
    assert equal(optimizer.state_dict(), other.state_dict())
    if name in OURS:  # torch adds a key to the defaults of what was loaded
        for each in (optimizer, other):
            each.add_param_group({"params": tensors(seed=2)})
        assert keys(other) == keys(optimizer) == [*before, before[0]]


def test_what_has_no_gradient_stays(make: Make) -> None:
    """A step before any gradient, a frozen parameter, an empty group, and the two ways of clearing gradients."""
    frozen, used = tensors(), tensors(seed=1)
    optimizer = make([{"params": frozen}, {"params": used}, {"params": []}])
    start = copy.deepcopy(frozen)
    optimizer.step()
    for _ in range(2):  # the first gradient of some only makes their state
        for p in used:
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert all(map(torch.equal, frozen, start))
    assert not any(map(torch.equal, used, tensors(seed=1)))
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in used)
    optimizer.zero_grad()
    assert all(p.grad is None for p in used)


def test_a_parameter_without_elements_is_no_obstacle(make: Make) -> None:
    used = tensors()
    empty = Parameter(torch.zeros(0, 5))
    optimizer = make([*used, empty])
    for _ in range(11):  # some compute a basis every tenth step
        for p in (*used, empty):
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert all(p.isfinite().all() for p in used)
    assert not any(map(torch.equal, used, tensors()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.filterwarnings("ignore:.*the plain step is taken")
def test_it_moves_weights_of_other_types(case: tuple[str, dict[str, Any], Make], dtype: torch.dtype) -> None:
    name, flags, make = case
    if name == "prodigy" and dtype != torch.float64:
        pytest.skip("its first steps, of 1e-6, are below these types' spacing")
    if name == "soap" and dtype == torch.float16:
        pytest.skip("squares of rotated gradients are below float16's smallest number")
    if name == "program" and "lr" not in flags and dtype == torch.bfloat16:
        pytest.skip("the program's steps of 1e-4 are below bfloat16's spacing")
    params = tensors(dtype)
    optimizer = make(params, lr=0.5 if name in ("program", "prodigy") and "lr" not in flags else 0.01)
    steps(optimizer, params, 3)
    assert all(p.dtype == dtype and p.isfinite().all() for p in params)
    assert bowl(params) < bowl(tensors(dtype))
    assert not any(map(torch.equal, params, tensors(dtype)))


def test_rosenbrocks_function_falls(case: tuple[str, dict[str, Any], Make]) -> None:
    """With the gradient of one coordinate at a time."""
    name, flags, make = case
    params = [Parameter(torch.tensor([1.5, 1.5]))]
    optimizer = make(params, lr=1.0 if name in ("program", "prodigy") and "lr" not in flags else 1e-3)
    sign = -1.0 if flags.get("maximize") else 1.0
    for step in range(300):
        x, y = params[0].tolist()
        gradient = [-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)]
        gradient[step % 2] = 0.0
        params[0].grad = sign * torch.tensor(gradient)
        optimizer.step()
    x, y = params[0].tolist()
    assert (1 - x) ** 2 + 100 * (y - x**2) ** 2 < 0.8 * (0.25 + 56.25)


def test_complex_and_sparse_are_refused_in_a_line(case: tuple[str, dict[str, Any], Make]) -> None:
    """By ours; a library may step them."""
    name, _, make = case
    if name not in OURS:
        pytest.skip("not ours")
    with pytest.raises((ValueError, ConfigError), match="complex") as error:
        make([Parameter(torch.zeros(2, dtype=torch.complex64))])
    assert "\n" not in str(error.value)
    dense, table = tensors(), tensors(seed=1)[0]
    optimizer = make([{"params": dense}, {"params": [table]}])
    for p in dense:
        p.grad = torch.ones_like(p)
    table.grad = torch.eye(10, 5).to_sparse()
    with pytest.raises(RuntimeError, match="sparse") as refused:
        optimizer.step()
    assert "\n" not in str(refused.value)
    assert all(map(torch.equal, [*dense, table], [*tensors(), tensors(seed=1)[0]])), "nothing may have moved"

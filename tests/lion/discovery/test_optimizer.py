"""Any program as an optimizer of torch: states, checkpoints, groups, and what it refuses."""

import doctest
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lion.discovery.optimizer
from lion.discovery.language.analysis import analyse
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import ProgramError, load, parse, render, shipped
from lion.discovery.optimizer import ProgramOptimizer
from tests.lion.discovery.walks import walk

SHAPES: list[tuple[int, ...]] = [(), (7,), (5, 3), (2, 3, 4)]


def parameters(seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random).requires_grad_() for shape in SHAPES]


def train(optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.randn(p.shape, generator=random)
        optimizer.step()


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", shipped())
def test_it_follows_numpy(name: str, foreach: bool) -> None:
    params = parameters()
    lengths = [p.numel() for p in params]
    w = torch.cat([p.detach().flatten() for p in params]).double().numpy()
    for p in params:
        p.data = p.data.double()
    optimizer = ProgramOptimizer(params, name, lr=0.1, foreach=foreach)
    m, v, function = np.zeros_like(w), np.zeros_like(w), compile_numpy(load(name), lengths)
    random = torch.Generator().manual_seed(1)
    for _ in range(30):
        gradients = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in params]
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        optimizer.step()
        update, m, v = function(w, torch.cat([g.flatten() for g in gradients]).numpy(), m, v, 0.1)
        w = w - update
    np.testing.assert_allclose(torch.cat([p.detach().flatten() for p in params]).numpy(), w, rtol=1e-10, atol=1e-12)
    assert set(optimizer.state[params[1]]) == set(analyse(load(name)).states)


@pytest.mark.parametrize("seed", range(3))
def test_programs_of_a_random_walk_follow_numpy(seed: int) -> None:
    """Every function gets its turn in torch, on lists of tensors, beside the flat vector."""
    random = np.random.default_rng(seed)
    compared = 0
    for program in walk(seed, 200)[::4]:
        w = random.normal(size=12)
        params = [torch.tensor(part, requires_grad=True) for part in np.split(w, [5])]
        optimizer, function = ProgramOptimizer(params, program), compile_numpy(program, [5, 7])
        m, v = np.zeros_like(w), np.zeros_like(w)
        with np.errstate(all="ignore"):
            for _ in range(3):
                g = random.normal(size=12)
                for p, part in zip(params, np.split(g, [5]), strict=True):
                    p.grad = torch.tensor(part)
                optimizer.step()
                update, m, v = function(w, g, m, v, 1.0)
                w = w - update
        ours = torch.cat([p.detach() for p in params]).numpy()
        if np.isfinite(w).all() and np.abs(w).max() < 1e3:  # sines of huge numbers differ
            np.testing.assert_allclose(ours, w, rtol=1e-6, atol=1e-8)
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("name", ["program1", "program4", "program5"])
def test_a_resumed_run_goes_on_to_the_same_bits(name: str) -> None:
    whole, half = (ProgramOptimizer(parameters(), name, lr=0.1) for _ in range(2))
    train(whole, 6)
    train(whole, 6, seed=2)
    train(half, 6)
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    other = ProgramOptimizer(
        [p.detach().clone().requires_grad_() for p in half.param_groups[0]["params"]], name, lr=9.0
    )
    other.load_state_dict(torch.load(file, weights_only=True))
    train(other, 6, seed=2)
    for p, q in zip(whole.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)


def test_another_program_s_state_is_refused() -> None:
    state = ProgramOptimizer(parameters(), "program3").state_dict()
    with pytest.raises(ValueError, match="the state belongs to another program"):
        ProgramOptimizer(parameters(), "program7").load_state_dict(state)
    with pytest.raises(ValueError, match="the state belongs to another program"):
        ProgramOptimizer(parameters(), "program3").load_state_dict(torch.optim.SGD(parameters(), lr=1).state_dict())


def test_groups_have_their_own_lr_unless_the_program_runs_over_all() -> None:
    def groups(first: float, second: float) -> list[dict[str, Any]]:
        params = parameters()
        return [{"params": params[:2], "lr": first}, {"params": params[2:], "lr": second}]

    split, whole = ProgramOptimizer(groups(0.1, 0.1), "program4"), ProgramOptimizer(parameters(), "program4", lr=0.1)
    for optimizer in (split, whole):
        train(optimizer, 5)
    ours = [p for group in split.param_groups for p in group["params"]]
    for p, q in zip(ours, whole.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)  # one norm over both groups
    with pytest.raises(RuntimeError, match=r"takes one lr, not \[0.1, 0.2\]"):
        train(ProgramOptimizer(groups(0.1, 0.2), "program4"), 1)
    frozen = ProgramOptimizer(groups(0.1, 0.0), "program3")
    before = [p.detach().clone() for p in frozen.param_groups[1]["params"]]
    train(frozen, 2)
    assert all(torch.equal(p, q) for p, q in zip(frozen.param_groups[1]["params"], before, strict=True))


def test_a_tensor_lr_and_a_closure_work() -> None:
    plain, tensor = (
        ProgramOptimizer(parameters(), "program8", lr=0.5),
        ProgramOptimizer(parameters(), "program8", lr=torch.tensor(0.5)),
    )
    train(plain, 4)
    train(tensor, 4)
    for p, q in zip(plain.param_groups[0]["params"], tensor.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(p, q)
    weight = nn.Parameter(torch.ones(3))

    def closure() -> Tensor:
        weight.grad = None
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert ProgramOptimizer([weight], "program1", lr=0.1).step(closure).item() == 3


def test_a_bfloat16_model_keeps_its_type() -> None:
    params = [p.detach().bfloat16().requires_grad_() for p in parameters()]
    random = torch.Generator().manual_seed(0)
    optimizer = ProgramOptimizer(params, "program5", lr=0.1)
    for p in params:
        p.grad = torch.randn(p.shape, generator=random).bfloat16()
    optimizer.step()
    assert {p.dtype for p in params} | {s.dtype for p in params for s in optimizer.state[p].values()} == {
        torch.bfloat16
    }
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr must be a finite number of at least 0, not -1.0"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": "1"}, "lr must be"),
        ({"weight_decay": 0.1}, "weight_decay must be 0, not 0.1: a program's decay stands in the program"),
        ({"program": "nothing.py"}, "program nothing.py: No such file or directory; give a file or one of "),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProgramOptimizer(parameters(), **settings)


def test_an_invalid_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.py"
    file.write_text(render(parse("def train(w, g, m, v, lr):\n    update = norm(g)\n    return update, m, v\n")))
    with pytest.raises(ProgramError, match="'update' is returned and must be a tree"):
        ProgramOptimizer(parameters(), file)


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="needs dense gradients"):
        ProgramOptimizer(table.parameters(), "program1").step()


def test_the_docstring_s_example_runs() -> None:
    assert doctest.testmod(lion.discovery.optimizer).attempted == 5
    assert not doctest.testmod(lion.discovery.optimizer).failed


def test_importing_lion_does_not_import_the_search() -> None:
    code = "import lion, sys; assert not [m for m in sys.modules if m.startswith('lion.discovery')]"
    subprocess.run([sys.executable, "-c", code], check=True)

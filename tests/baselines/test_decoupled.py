"""Weight decay is the same thing for every optimizer: theta <- theta - lr * lambda * theta, with the current rate."""

import pytest
import torch
from omegaconf import OmegaConf

from recipes.runs.build import optimizer_factory
from recipes.training.param_groups import set_training
from tests.baselines.conftest import OPTIM

# Another decay than all others have, as their files say.
OTHER_DECAY = ("prodigy", "schedule_free_adamw", "lion_corrected_decay", "lion_cautious_decay")
WAITS = ("adopt",)  # the first gradient of which only makes the second moment, without a decay


def build(yaml_file, weights, lr, weight_decay):
    optim = OmegaConf.load(yaml_file)
    optim.update({"lr": lr, "weight_decay": weight_decay})
    optimizer = optimizer_factory(optim)([{"params": weights}])
    set_training(optimizer, True)
    return optimizer


def weights(dtype=torch.float64):
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((40, 33), (6, 5), (7,))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("lr", [0.1, 0.003])
def test_without_a_gradient_only_the_decay_moves_a_weight(yaml_file, lr, dtype):
    if yaml_file.stem in OTHER_DECAY and yaml_file.stem != "lion_cautious_decay":
        pytest.skip("tested below and in tests/lion")
    params = weights(dtype)
    optimizer = build(yaml_file, params, lr=1.0, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] *= lr  # a route's own ratio stays
    if yaml_file.stem in WAITS:
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for _ in range(3):
        before = [p.detach().clone() for p in params]
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        for p, old in zip(params, before, strict=True):
            # Both ways of writing it, theta - (lr lambda) theta and (1 - lr lambda) theta, to one rounding.
            torch.testing.assert_close(p.detach(), old - lr * 0.5 * old, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_decay_does_not_reach_the_moments(yaml_file):
    """With the same gradients, the optimizer's state is the same whether weights decay or not, bit for bit."""
    if yaml_file.stem in OTHER_DECAY:
        pytest.skip("tested below and in tests/lion")
    states = []
    for weight_decay in (0.0, 0.7):
        torch.manual_seed(3)
        params = weights()
        optimizer = build(yaml_file, params, lr=0.01, weight_decay=weight_decay)
        for _ in range(8):
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step()
        states.append([v for p in params for v in optimizer.state[p].values() if torch.is_tensor(v)])
    assert states[0]
    for without, with_decay in zip(*states, strict=True):
        assert torch.equal(without, with_decay)


def test_decay_adds_to_the_step_and_nothing_else(yaml_file):
    """The first step with decay is the first step without it plus -lr * lambda * theta."""
    if yaml_file.stem in (*OTHER_DECAY, *WAITS):
        pytest.skip("tested below and in tests/lion")
    steps = []
    for weight_decay in (0.0, 0.7):
        torch.manual_seed(4)
        params = weights()
        start = [p.detach().clone() for p in params]
        for p in params:
            p.grad = torch.randn_like(p)
        build(yaml_file, params, lr=0.01, weight_decay=weight_decay).step()
        steps.append([p.detach() - old for p, old in zip(params, start, strict=True)])
    for without, with_decay, old in zip(*steps, start, strict=True):
        torch.testing.assert_close(with_decay, without - 0.01 * 0.7 * old, rtol=0, atol=1e-14)


def test_schedule_free_decays_the_weights_that_train_and_averages_the_rest():
    """Without a gradient z decays by lr * lambda of y, x is the mean of all z, and y lies between: written out here."""
    params = weights()
    x = [p.detach().clone() for p in params]
    z, y = [p.clone() for p in x], [p.clone() for p in x]
    optimizer = build(OPTIM / "schedule_free_adamw.yaml", params, lr=0.1, weight_decay=0.5)
    for step in range(1, 4):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        z = [a - 0.1 * 0.5 * b for a, b in zip(z, y, strict=True)]
        x = [(1 - 1 / step) * a + b / step for a, b in zip(x, z, strict=True)]
        y = [0.9 * a + 0.1 * b for a, b in zip(x, z, strict=True)]
        torch.testing.assert_close([p.detach() for p in params], y, rtol=1e-12, atol=0)
    set_training(optimizer, False)
    torch.testing.assert_close([p.detach() for p in params], x, rtol=1e-12, atol=0)
    assert not torch.allclose(x[0], y[0], rtol=1e-6)


def test_adopt_moves_nothing_by_its_first_gradient():
    params = weights()
    before = [p.detach().clone() for p in params]
    optimizer = build(OPTIM / "adopt.yaml", params, lr=0.1, weight_decay=0.5)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert all(map(torch.equal, params, before))


def test_a_route_decays_by_the_main_share():
    """muon_lion's Lion has a fifth of the rate and five times the coefficient: a step takes lr * lambda off all."""
    optimizer = build(OPTIM / "muon_lion.yaml", weights(), lr=0.1, weight_decay=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.02])
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0.5, 2.5])

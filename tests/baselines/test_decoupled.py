"""Weight decay is the same thing for every optimizer: theta <- theta - lr * lambda * theta, with the current rate."""

import pytest
import torch
from omegaconf import OmegaConf

from recipes.runs.build import optimizer_factory


def build(yaml_file, weights, lr, weight_decay):
    optim = OmegaConf.load(yaml_file)
    optim.update({"lr": lr, "weight_decay": weight_decay})
    return optimizer_factory(optim)([{"params": weights}])


def weights(dtype=torch.float64):
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((40, 33), (6, 5), (7,))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("lr", [0.1, 0.003])
def test_without_a_gradient_only_the_decay_moves_a_weight(yaml_file, lr, dtype):
    params = weights(dtype)
    optimizer = build(yaml_file, params, lr=1.0, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = lr
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

"""Every optimizer of this package against its formula, written down again from its paper in float64 numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from baselines import SGDW, AddSign, AMSGrad, NAdamW, PowerSign

LR, DECAY, B1, B2, EPS = 0.03, 0.1, 0.9, 0.999, 1e-8
gradients = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(-100, 100).map(lambda x: 0.0 if abs(x) < 1e-6 else x),
)


def moments(grads):
    """Both moving averages after each step, from their closed form: a weighted sum over all gradients so far."""
    for t in range(1, len(grads) + 1):
        age = np.arange(t)[::-1, None]
        m = ((1 - B1) * B1**age * grads[:t]).sum(0)
        yield t, grads[t - 1], m, ((1 - B2) * B2**age * grads[:t] ** 2).sum(0)


def nadam(grads):
    for t, g, m, v in moments(grads):
        yield (B1 * m / (1 - B1 ** (t + 1)) + (1 - B1) * g / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)


def amsgrad(grads):
    largest = 0
    for t, _, m, v in moments(grads):
        largest = np.maximum(largest, v / (1 - B2**t))
        yield m / (1 - B1**t) / (np.sqrt(largest) + EPS)


def sgd(grads):
    for t in range(1, len(grads) + 1):
        yield (0.9 ** np.arange(t)[::-1, None] * grads[:t]).sum(0)


def nesterov(grads):
    for g, m in zip(grads, sgd(grads), strict=True):
        yield g + 0.9 * m


def powersign(grads):
    for _, g, m, _ in moments(grads):
        yield math.e ** (np.sign(g) * np.sign(m)) * g


def addsign(grads):
    for _, g, m, _ in moments(grads):
        yield (1 + np.sign(g) * np.sign(m)) * g


RULES = [
    (nadam, NAdamW, {}),
    (amsgrad, AMSGrad, {}),
    (sgd, SGDW, {}),
    (nesterov, SGDW, {"nesterov": True}),
    (powersign, PowerSign, {}),
    (addsign, AddSign, {}),
]


@pytest.mark.parametrize(("rule", "cls", "options"), RULES, ids=[row[0].__name__ for row in RULES])
@settings(deadline=None, max_examples=60, derandomize=True)
@given(grads=gradients)
def test_steps_follow_the_paper(rule, cls, options, grads):
    if rule in (powersign, addsign):  # where the average cancels to rounding, its sign is chance
        means = np.array([m for _, _, m, _ in moments(grads)])
        grads = np.where(np.abs(means).min(0) > 1e-9, grads, 1.0)
    expected = np.linspace(-1, 1, grads.shape[1])
    weight = torch.nn.Parameter(torch.tensor(expected))
    optimizer = cls([weight], lr=1.0, weight_decay=DECAY, **options)
    for step, update in enumerate(rule(grads)):
        lr = LR / (step + 1)
        expected = expected - lr * (update + DECAY * expected)
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(grads[step])
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_first_step_of_powersign_and_addsign_in_hand_computed_numbers():
    for cls, update in ((PowerSign, math.e), (AddSign, 2.0)):
        weight = torch.nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
        weight.grad = torch.tensor([0.5, -0.5, 0.0])
        cls([weight], lr=0.1).step()
        torch.testing.assert_close(weight.data, 1 - 0.1 * update * torch.tensor([0.5, -0.5, 0.0]))


def test_a_gradient_against_its_average_is_damped():
    for cls, factor in ((PowerSign, 1 / math.e), (AddSign, 0.0)):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = cls([weight], lr=1.0)
        for gradient in (1.0, -0.1):
            before = weight.item()
            weight.grad = torch.tensor([gradient], dtype=torch.float64)
            optimizer.step()
        assert weight.item() - before == pytest.approx(0.1 * factor)


@pytest.mark.parametrize("cls", [NAdamW, AMSGrad, SGDW, PowerSign, AddSign])
def test_lists_and_loop_agree_bit_for_bit(cls, monkeypatch):
    def train(together):
        torch.manual_seed(1)
        params = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]

        def everything(group):
            yield group["params"], [p.grad for p in group["params"]]

        if together:
            monkeypatch.setattr("baselines.tensors.with_gradients", everything)
        optimizer = cls(params, lr=0.01, weight_decay=0.1)
        for _ in range(5):
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step()
        return params

    for alone, together in zip(train(False), train(True), strict=True):
        assert torch.equal(alone, together)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (NAdamW, {"lr": -1.0}, r"^lr=-1.0 must be a finite number of at least 0$"),
        (AMSGrad, {"eps": math.nan}, r"^eps=nan must be"),
        (AMSGrad, {"betas": (0.9, 1.0)}, r"^betas=\[0.9, 1.0\] must be 2 numbers of at least 0 and below 1$"),
        (NAdamW, {"betas": (0.9,)}, r"^betas=\[0.9\] must be 2 numbers"),
        (SGDW, {"momentum": 1.0}, r"^momentum=1.0 must be a number of at least 0 and below 1$"),
        (SGDW, {"weight_decay": -0.1}, r"^weight_decay=-0.1 must be"),
        (PowerSign, {"alpha": 0.0}, r"^alpha=0.0 must be a finite number above 0$"),
        (PowerSign, {"beta": -0.1}, r"^beta=-0.1 must be"),
        (AddSign, {"alpha": math.inf}, r"^alpha=inf must be"),
        (NAdamW, {"lr": True}, r"^lr=True must be a finite number"),
        (NAdamW, {"lr": "1e-3"}, r"^lr=1e-3 must be a finite number"),
        (NAdamW, {"lr": torch.ones(2)}, r"^lr=tensor\(\[1., 1.\]\) must be a finite number"),
        (AMSGrad, {"betas": 0.9}, r"^betas=0.9 must be 2 numbers"),
        (AMSGrad, {"betas": "ab"}, r"^betas=ab must be 2 numbers"),
        (SGDW, {"momentum": None}, r"^momentum=None must be a number"),
        (SGDW, {"nesterov": "yes"}, r"^nesterov=yes must be True or False$"),
        (SGDW, {"nesterov": 3}, r"^nesterov=3 must be True or False$"),
        (SGDW, {"nesterov": True, "momentum": 0.0}, r"^nesterov=True changes nothing with momentum=0"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(cls, options, message):
    """For all groups and for one, which is not added then."""
    with pytest.raises(ValueError, match=message):
        cls([torch.nn.Parameter(torch.zeros(1))], **options)
    optimizer = cls([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], **options})
    assert len(optimizer.param_groups) == 1


def test_decay_of_bfloat16_weights_is_rounded_once():
    """1.9 is 1.8984375 in bfloat16, times 0.99 1.8794, and the nearest numbers are 1.8828125 and 1.875."""
    weight = torch.nn.Parameter(torch.full((3,), 1.9, dtype=torch.bfloat16))
    weight.grad = torch.zeros_like(weight)
    SGDW([weight], lr=1e-2, weight_decay=1.0).step()
    assert weight.tolist() == [1.8828125] * 3


def test_groups_have_rates_of_their_own():
    """A tensor that was given to two groups is not shared by them: schedules write into it."""
    lr = torch.tensor(0.5)
    optimizer = SGDW([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=lr)
    optimizer.param_groups[0]["lr"].fill_(1.0)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [1.0, 0.5]
    assert float(lr) == 0.5


@pytest.mark.parametrize("cls", [NAdamW, AMSGrad, SGDW, PowerSign, AddSign])
def test_sparse_gradients_are_refused(cls):
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="a gradient is sparse; this optimizer takes dense real ones"):
        cls(table.parameters()).step()


def test_momentum_of_zero_keeps_no_buffer():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    optimizer = SGDW([weight], lr=0.5, momentum=0.0)
    optimizer.step()
    assert weight.tolist() == [0.5, 0.5]
    assert not optimizer.state

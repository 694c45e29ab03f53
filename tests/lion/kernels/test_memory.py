"""What a parameter's state holds: int8 blocks against exact fractions, bytes, checkpoints, unbiased rounding."""

import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lion import Lion
from lion.kernels import memory

FLOAT, BFLOAT16 = torch.float32, torch.bfloat16


def quantised(tensor: Tensor) -> tuple[Tensor, Tensor]:
    values = torch.empty(tensor.shape, dtype=torch.int8)
    scales = torch.empty(-(-tensor.numel() // memory.BLOCK))
    memory.quantise(tensor, values, scales)
    return values, scales


# int8


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 800), seed=st.integers(0, 2**31), exponent=st.integers(-30, 30))
def test_each_element_is_at_the_nearest_level(size: int, seed: int, exponent: int) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    values, scales = quantised(tensor)
    for block, scale in enumerate(scales.tolist()):
        part = slice(block * 256, (block + 1) * 256)
        exact = [Fraction(x) for x in tensor[part].tolist()]
        assert scale == pytest.approx(float(max(map(abs, exact))) / 127, rel=1e-6)
        for x, level in zip(exact, values[part].tolist(), strict=True):
            assert abs(x / Fraction(scale) - level) <= Fraction(1, 2) + Fraction(1, 10**4)
    back = memory.dequantised(values, scales)
    expected = values.double() * scales.double().repeat_interleave(256)[:size]
    torch.testing.assert_close(back.double(), expected, rtol=1e-6, atol=0)


def test_ties_go_to_the_even_level_and_the_largest_to_127() -> None:
    values, scales = quantised(torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0]))
    assert scales.tolist() == [1.0]
    assert values.tolist() == [127, 0, 2, 2, 0, -2, -127]


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_spoils_its_block_and_no_other(spoilt: float) -> None:
    tensor = torch.ones(600)
    tensor[300] = spoilt
    back = memory.dequantised(*quantised(tensor))
    assert back[:256].eq(1).all()
    assert back[256:512].isnan().all()
    assert back[512:].eq(1).all()


@pytest.mark.parametrize("tiny", [0.0, 1e-45, 1e-43, 1e-38])
def test_blocks_of_nothing_and_of_next_to_nothing(tiny: float) -> None:
    back = memory.dequantised(*quantised(torch.full((5,), tiny)))
    torch.testing.assert_close(back, torch.full((5,), tiny), rtol=0.01, atol=64 * 1.4e-45)


@pytest.mark.parametrize("fused", [False, None])
@pytest.mark.parametrize(("shape", "scales"), [((512, 3), 6), ((255,), 1), ((), 1), ((0,), 0), ((257,), 2)])
def test_bytes_of_the_state(shape: tuple[int, ...], scales: int, fused: bool | None) -> None:
    """One a parameter and four for every 256."""
    weight = torch.ones(shape, requires_grad=True)
    weight.grad = torch.ones(shape)
    optimizer = Lion([weight], momentum_dtype="int8", fused=fused)
    optimizer.step()
    state = optimizer.state[weight]
    assert {name: (v.dtype, v.nbytes) for name, v in state.items()} == {
        "exp_avg": (torch.int8, weight.numel()),
        "exp_avg_scale": (FLOAT, 4 * scales),
    }


@pytest.mark.parametrize("fused", [False, None])
def test_int8_momentum_follows_the_exact_one(fused: bool | None) -> None:
    """On noisy gradients: a step errs by a uniform rounding, of 0.29 levels, of which the average keeps 1/√(1 − 0.99²).

    That makes 2 levels; the momentum's own spread is 127 over its largest of 256, 2.8 deviations: about 45 levels.
    """
    random = torch.Generator().manual_seed(0)
    weight = torch.zeros(64, 64, requires_grad=True)
    optimizer = Lion([weight], momentum_dtype="int8", fused=fused)
    exact = np.zeros((64, 64))
    for _ in range(200):
        weight.grad = 0.1 + torch.randn(64, 64, generator=random)
        exact = 0.99 * exact + 0.01 * weight.grad.double().numpy()
        optimizer.step()
    state = optimizer.state[weight]
    restored = memory.dequantised(state["exp_avg"], state["exp_avg_scale"]).double().numpy()
    levels = (restored - exact) / np.repeat(state["exp_avg_scale"].numpy(), 256).reshape(64, 64)
    assert 1 < levels.std() < 3
    assert abs(levels.mean()) < 0.3
    assert np.corrcoef(restored.ravel(), exact.ravel())[0, 1] > 0.995


def test_shards_are_refused() -> None:
    class Shard(Tensor):
        def to_local(self) -> Tensor:
            return self

    weight = torch.zeros(3).as_subclass(Shard)
    with pytest.raises(RuntimeError, match="whole parameters, not shards"):
        memory.initial(weight, Lion([torch.zeros(1)], momentum_dtype="int8").param_groups[0], 0)


# Checkpoints


def train(optimizer: Lion, first: int, last: int) -> None:
    for step in range(first, last):
        random = torch.Generator().manual_seed(step)
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.randn(p.shape, generator=random).to(p.dtype)
        optimizer.step()


def weights(dtype: torch.dtype = FLOAT) -> list[Tensor]:
    random = torch.Generator().manual_seed(9)
    return [torch.randn(shape, generator=random).to(dtype).requires_grad_() for shape in ((30, 20), (), (7,), (0,))]


def assert_same(one: Lion, other: Lion) -> None:
    for p, q in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)
        assert one.state[p].keys() == other.state[q].keys()
        for name, value in one.state[p].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state[q][name]))
            if isinstance(value, Tensor):
                assert value.dtype == other.state[q][name].dtype


@pytest.mark.parametrize("fused", [False, None])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (FLOAT, {"momentum_dtype": "int8"}),
        (BFLOAT16, {"momentum_dtype": "int8", "stochastic_rounding": True}),
        (BFLOAT16, {"stochastic_rounding": True}),
        (torch.float64, {"momentum_dtype": "int8"}),
        (torch.float16, {"momentum_dtype": "int8"}),
    ],
    ids=str,
)
def test_a_resumed_run_has_the_same_bits(dtype: torch.dtype, options: dict[str, Any], fused: bool | None) -> None:
    """Whatever torch's generators do in between: they are no part of the checkpoint."""
    straight = Lion(weights(dtype), lr=0.01, weight_decay=0.1, fused=fused, **options)
    train(straight, 0, 5)
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    resumed = Lion([p.detach().clone().requires_grad_() for p in straight.param_groups[0]["params"]], **options)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert_same(straight, resumed)
    train(straight, 5, 9)
    torch.manual_seed(123)
    train(resumed, 5, 9)
    assert_same(straight, resumed)


def test_momentum_changes_its_type_on_loading() -> None:
    saved = Lion(weights(), momentum_dtype="float32")
    train(saved, 0, 3)
    smaller = Lion(weights(), momentum_dtype="int8")
    smaller.load_state_dict(saved.state_dict())
    wider = Lion(weights(), momentum_dtype="float32")
    wider.load_state_dict(smaller.state_dict())
    as_saved = Lion(weights())
    as_saved.load_state_dict(smaller.state_dict())
    for p, q, r, s in zip(*(o.param_groups[0]["params"] for o in (saved, smaller, wider, as_saved)), strict=True):
        exact, state = saved.state[p]["exp_avg"], smaller.state[q]
        assert (state["exp_avg"].dtype, wider.state[r]["exp_avg"].dtype) == (torch.int8, FLOAT)
        assert torch.equal(wider.state[r]["exp_avg"], memory.dequantised(state["exp_avg"], state["exp_avg_scale"]))
        if exact.numel():
            assert (wider.state[r]["exp_avg"] - exact).abs().max() <= exact.abs().max() / 127 * 0.501
        assert torch.equal(as_saved.state[s]["exp_avg"], state["exp_avg"])
        state["exp_avg"].zero_()
        assert not as_saved.state[s]["exp_avg"].numel() or as_saved.state[s]["exp_avg"].any()  # a copy
    for optimizer in (smaller, wider, as_saved):
        train(optimizer, 3, 4)


# Stochastic rounding


def rounded(exact: float, times: int, first_word: int = 0) -> Tensor:
    theta, state = torch.empty(times, dtype=BFLOAT16), {"rounding": first_word}
    memory.round_stochastically(theta, torch.full((times,), exact), state)
    return theta.float()


@pytest.mark.parametrize("share", [0.0, 1 / 65536, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_it_rounds_up_as_often_as_the_mean_asks(share: float, sign: float) -> None:
    """Between 1 and its neighbour 1 + 1/128, over a million elements, within 4.5 standard errors."""
    result = (rounded(sign * (1 + share / 128), 10**6) * sign - 1) * 128
    assert set(result.tolist()) <= {0.0, 1.0}
    assert abs(result.mean().item() - share) <= 4.5 * (share * (1 - share) / 10**6) ** 0.5


def test_steps_and_parameters_have_noise_of_their_own() -> None:
    """Over many steps of one element, and between the noises of neighbours: no bias, no correlation."""
    state: dict[str, Any] = {"rounding": memory.hash_word(3)}
    words = torch.tensor([memory.next_rounding(state) for _ in range(4000)])
    steps = (memory.hash_word(words) & 0xFFFF).double() / 65536
    others = memory.hash_word(memory.hash_word(torch.arange(4000))).bitwise_and(0xFFFF).double() / 65536
    noise = torch.stack([steps, others, (memory.hash_word(torch.arange(4000) + words[0]) & 0xFFFF).double() / 65536])
    assert (noise.mean(1) - 0.5).abs().max() < 4.5 * (1 / 12 / 4000) ** 0.5
    assert (torch.corrcoef(noise) - torch.eye(3)).abs().max() < 4.5 / 4000**0.5
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 4.5 / 4000**0.5


def test_what_is_not_finite_stays_and_bfloat16_numbers_do_not_move() -> None:
    exact = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, 1.5, -3.0, 2.0**-133])
    for word in range(50):
        theta = torch.empty(7, dtype=BFLOAT16)
        memory.round_stochastically(theta, exact, {"rounding": word})
        torch.testing.assert_close(theta.float(), exact, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=50, deadline=None)
@given(shape=st.lists(st.integers(0, 7), max_size=3), piece=st.integers(1, 40), transposed=st.booleans())
def test_pieces_round_as_the_whole(shape: list[int], piece: int, transposed: bool) -> None:
    exact = torch.randn(shape)
    exact = exact.mT if transposed and exact.ndim > 1 else exact
    whole, pieces = (torch.empty_like(exact, dtype=BFLOAT16) for _ in range(2))
    memory.round_stochastically(whole, exact, {"rounding": 7})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "PIECE", piece)
        memory.round_stochastically(pieces, exact, {"rounding": 7})
    assert torch.equal(whole, pieces)
    assert (whole.float() - exact).abs().le(exact.abs() / 128).all()


@pytest.mark.parametrize("fused", [False, None])
def test_small_steps_count_on_average(fused: bool | None) -> None:
    """Steps of 1/16 of the spacing at 1: lost when rounded to nearest, a mean of 1 - 64·lr with stochastic rounding."""
    lr = 2.0**-8 / 16  # below 1 the spacing is 1/256
    ends = {}
    for stochastic in (False, True):
        weight = torch.ones(20_000, dtype=BFLOAT16).requires_grad_()
        optimizer = Lion([weight], lr=lr, stochastic_rounding=stochastic, fused=fused)
        for _ in range(64):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        ends[stochastic] = weight.detach().double()
    assert ends[False].eq(1).all()
    # 64 independent roundings of variance (1/16)(15/16) of a squared spacing each.
    error = (64 * 15 / 256) ** 0.5 / 256 / 20_000**0.5
    assert abs(ends[True].mean().item() - (1 - 64 * lr)) < 4.5 * error
    assert ends[True].std() > 0


def test_replicas_round_alike_and_parameters_do_not() -> None:
    """Processes seed their generators differently; the noise must not follow."""
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        twins = [torch.ones(1000, dtype=BFLOAT16).requires_grad_() for _ in range(2)]
        optimizer = Lion(twins, lr=1e-3, stochastic_rounding=True)
        for weight in twins:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        ends.append([weight.detach() for weight in twins])
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert not torch.equal(ends[0][0], ends[0][1])


class Placed:
    """What `memory` asks of a DTensor, without processes: a part of a tensor on one place of a mesh."""

    def __init__(self, whole: Tensor, mesh: list[int], rank: list[int], placements: list[Any]) -> None:
        self.shape, self.ndim, self.placements, self.device_mesh = whole.shape, whole.ndim, placements, self
        self.mesh, self.rank, self.part = mesh, rank, whole
        for size, place, placement in zip(mesh, rank, placements, strict=True):
            if placement.is_shard():
                chunks = self.part.chunk(size, placement.dim)
                nothing = self.part.narrow(placement.dim, 0, 0)
                self.part = chunks[place] if place < len(chunks) else nothing

    def to_local(self) -> Tensor:
        return self.part

    def size(self, axis: int) -> int:
        return self.mesh[axis]

    def get_local_rank(self, axis: int) -> int:
        return self.rank[axis]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_elements_of_shards_have_the_numbers_that_they_have_in_the_whole(data: st.DataObject, shape: list[int]) -> None:
    """Shards are torch.chunk's, one axis of the mesh after the other."""
    from torch.distributed.tensor import Replicate, Shard

    placement = st.sampled_from([Replicate(), *(Shard(axis) for axis in range(len(shape)))])
    mesh = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    rank = [data.draw(st.integers(0, size - 1)) for size in mesh]
    placements = [data.draw(placement) for _ in mesh]
    whole = torch.arange(int(np.prod(shape))).view(shape)
    theta: Any = Placed(whole, mesh, rank, placements)
    assert torch.equal(memory.numbered(theta), theta.to_local())
    first = memory.first_element(theta)
    if first is not None and theta.to_local().numel():
        assert theta.to_local().flatten().tolist() == list(range(first, first + theta.to_local().numel()))


def test_noise_of_shards_of_another_kind_is_refused() -> None:
    from torch.distributed.tensor import Partial, Shard

    theta: Any = Placed(torch.zeros(4), [2], [0], [Partial()])
    with pytest.raises(RuntimeError, match="does not know which elements are here under Partial"):
        memory.numbered(theta)
    theta = Placed(torch.zeros(4), [2], [1], [Shard(0)])
    theta.part = torch.zeros(3)
    with pytest.raises(RuntimeError, match=r"expected a part of shape \[2\], not \[3\]"):
        memory.numbered(theta)

"""The compiled step on the CPU: the same bits as the plain step, whatever the shapes, types, layouts and settings."""

import math
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lion import Lion
from lion.kernels import cpu, launch

NAN, INF = math.nan, math.inf
FLOAT, BFLOAT16 = torch.float32, torch.bfloat16
KINDS = [(FLOAT, None), (FLOAT, "bfloat16"), (FLOAT, "int8"), (BFLOAT16, None), (BFLOAT16, "int8")]
pytestmark = pytest.mark.skipif(isinstance(cpu.library(), str), reason=str(cpu.library()))


def pair(tensors: list[Tensor], **options: Any) -> tuple[Lion, Lion]:
    """Two optimizers over equal parameters of their own: the plain step and the compiled one."""
    copies = [[tensor.detach().clone().requires_grad_() for tensor in tensors] for _ in range(2)]
    return Lion(copies[0], fused=False, **options), Lion(copies[1], fused=True, **options)


def step(optimizers: tuple[Lion, ...], gradients: list[Tensor | None]) -> None:
    """One step of each with the same gradients; a warning is an error: nothing may fall back unseen."""
    for optimizer in optimizers:
        for parameter, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer.step()


def assert_same_bits(plain: Lion, fused: Lion) -> None:
    for p, q in zip(plain.param_groups[0]["params"], fused.param_groups[0]["params"], strict=True):
        assert bits(p).equal(bits(q))
        assert (p in plain.state) == (q in fused.state)
        if p in plain.state:
            m, n = plain.state[p]["exp_avg"], fused.state[q]["exp_avg"]
            assert m.dtype == n.dtype
            assert m.stride() == n.stride()
            assert plain.state[p].keys() == fused.state[q].keys()
            for name, value in plain.state[p].items():
                assert bits(torch.as_tensor(value)).equal(bits(torch.as_tensor(fused.state[q][name])))


def bits(tensor: Tensor) -> Tensor:
    """The bits as integers, with one NaN and one zero.

    No rule says which NaN an operation gives. The sign of a zero momentum depends, in torch's lerp with a weight above
    one half, on whether the element falls into the vectorised part of a loop; nothing reads it.
    """
    if not tensor.is_floating_point():
        return tensor
    values = tensor.detach().contiguous() + 0.0
    values = torch.where(values.isnan(), torch.full_like(values, NAN), values)
    return values.view(torch.int16 if values.dtype == BFLOAT16 else torch.int32)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    sizes=st.lists(st.integers(0, 70) | st.sampled_from([127, 256, 1000, 4097]), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    lr=st.floats(0, 1),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    weight_decay=st.sampled_from([0.0, 0.1, 3.0]) | st.floats(0, 10),
    maximize=st.booleans(),
    variants=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("cautious_decay", "corrected_decay", "stochastic_rounding"), st.booleans())
    ),
    strange=st.sampled_from([0.0, -0.0, NAN, INF, -INF, 1e-40, 3e38]),
)
def test_the_same_bits_as_the_plain_step(
    kind: Any, sizes: Any, seed: Any, lr: Any, betas: Any, weight_decay: Any, maximize: Any, variants: Any, strange: Any
) -> None:
    dtype, momentum_dtype = kind
    random = torch.Generator().manual_seed(seed)
    draw = lambda size: torch.randn(size, generator=random).to(dtype)  # noqa: E731
    options = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "momentum_dtype": momentum_dtype, **variants}
    if lr == 0:
        options["corrected_decay"] = False  # refused
    if weight_decay == 0:
        options |= {"cautious_decay": False, "corrected_decay": False}
    if dtype == FLOAT:
        options["stochastic_rounding"] = False
    optimizers = pair([draw(size) for size in sizes], maximize=maximize, **options)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] *= 0.75  # from a schedule
    for number in range(4):
        gradients = [draw(size) for size in sizes]
        for gradient in gradients:
            gradient[number::7] = strange
        step(optimizers, gradients)
    assert_same_bits(*optimizers)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("dtype", "momentum_dtype"), [(FLOAT, None), (FLOAT, "int8"), (BFLOAT16, "int8")], ids=str)
def test_threads_share_the_elements_and_change_no_bit(
    threads: int, dtype: torch.dtype, momentum_dtype: str | None
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sizes = [1, 70_001, 0, 3, 50_000, 12, 33]  # more than cpu.SMALL in all, cut inside tensors and between them
        options = {"momentum_dtype": momentum_dtype, "stochastic_rounding": dtype == BFLOAT16}
        optimizers = pair([torch.randn(size).to(dtype) for size in sizes], lr=0.1, weight_decay=0.1, **options)
        for _ in range(3):
            step(optimizers, [torch.randn(size).to(dtype) for size in sizes])
    finally:
        torch.set_num_threads(before)
    assert_same_bits(*optimizers)


@pytest.mark.parametrize("momentum_dtype", [None, "int8"])
@pytest.mark.parametrize("stochastic", [False, True])
def test_layouts(momentum_dtype: str | None, stochastic: bool) -> None:
    """Channels last is stepped in one pass; views with gaps and gradients of another layout go the plain way.

    Noise is counted in the order of indices, so with it channels last goes the plain way too.
    """
    dtype = BFLOAT16 if stochastic else FLOAT
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = [image, torch.randn(6, 4).t(), torch.randn(6, 4)[:, ::2], torch.randn(()), torch.randn(3, 0)]
    tensors = [tensor.to(dtype) for tensor in tensors]
    plain, fused = (
        Lion(
            [tensor.clone(memory_format=torch.preserve_format).requires_grad_() for tensor in tensors],
            lr=0.001,
            momentum_dtype=momentum_dtype,
            stochastic_rounding=stochastic,
            fused=way,
        )
        for way in (False, True)
    )
    for kind in (torch.randn_like, lambda t: torch.randn(t.shape).to(dtype)):  # like the weight, and contiguous
        gradients: list[Tensor | None] = [kind(tensor) for tensor in tensors]
        for optimizer in (plain, fused):
            for parameter, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    assert_same_bits(plain, fused)


def test_what_lies_alike_is_told_from_what_does_not() -> None:
    a = torch.zeros(2, 3, 4, 5)
    last = a.to(memory_format=torch.channels_last)
    assert launch.alike(last, last.clone(), last.clone())
    assert not launch.alike(last, a, last)
    assert not launch.alike(a[:, ::2], a[:, ::2], a[:, ::2])  # gaps: the flat range would touch what is not theirs
    assert launch.alike(a.t() if a.ndim == 2 else a.permute(3, 2, 1, 0), *[a.permute(3, 2, 1, 0)] * 2)
    assert not launch.alike(torch.zeros(1).expand(4), torch.zeros(4), torch.zeros(4))


def test_a_view_with_gaps_leaves_its_neighbours_alone() -> None:
    whole = torch.zeros(4, 4)
    part = whole[:, :2].requires_grad_()
    part.grad = torch.ones_like(part)
    Lion([part], lr=1.0, fused=True).step()
    assert whole.detach()[:, 2:].eq(0).all()
    assert part.detach().eq(-1).all()


def test_settings_changed_between_steps_count() -> None:
    optimizers = pair([torch.randn(50)])
    for lr, betas, decay in ((0.1, (0.9, 0.99), 0.0), (0.2, (0.5, 0.5), 1.0), (0.0, (0.0, 0.0), 0.0)):
        for optimizer in optimizers:
            optimizer.param_groups[0].update(lr=lr, betas=betas, weight_decay=decay)
        step(optimizers, [torch.randn(50)])
        assert_same_bits(*optimizers)


def test_parameters_without_gradient_and_new_memory_between_steps() -> None:
    optimizers = pair([torch.randn(40), torch.randn(30)], lr=0.1)
    step(optimizers, [torch.randn(40), None])
    for optimizer in optimizers:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.data = parameter.data.clone()
    step(optimizers, [torch.randn(40), torch.randn(30)])
    assert_same_bits(*optimizers)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3,)])
def test_a_gradient_that_is_marked_as_negative(shape: tuple[int, ...]) -> None:
    """Autograd gives an imaginary part of one element such a gradient: its memory holds the negative."""
    optimizers = pair([torch.full(shape, 0.5)] * 2, lr=0.1)
    for optimizer in optimizers:
        real, imaginary = optimizer.param_groups[0]["params"]
        (torch.complex(real, imaginary).conj() * (1 + 2j)).real.sum().backward()
        assert imaginary.grad is not None
        assert (imaginary.grad > 0).all()
        optimizer.step()
        assert (imaginary < 0.5).all()
    assert_same_bits(*optimizers)


def test_a_checkpoint_of_one_way_goes_on_in_the_other() -> None:
    plain, fused = pair([torch.randn(64)], lr=0.1, momentum_dtype="bfloat16")
    step((plain, fused), [torch.randn(64)])
    saved = plain.state_dict()
    fused.load_state_dict({**saved, "param_groups": [{**saved["param_groups"][0], "fused": True}]})
    step((plain, fused), [torch.randn(64)])
    assert_same_bits(plain, fused)


def test_the_stream_reads_three_arrays_and_writes_two() -> None:
    size = 70_001
    a, b, c = (torch.randn(size) for _ in range(3))
    expected = a + b, b.clone(), c - b
    cpu.stream(a, b, c)
    for found, right in zip((a, b, c), expected, strict=True):
        assert torch.equal(found, right)


def test_autograd_notices_that_a_weight_was_changed() -> None:
    weight = torch.ones(3, requires_grad=True)
    loss = (weight**2).sum()
    weight.grad = torch.ones(3)
    Lion([weight], lr=0.1, fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("weight", "options", "reason"),
    [
        (torch.zeros(3, dtype=torch.float64), {}, "no kernel for torch.float64"),
        (torch.zeros(3, dtype=torch.float16), {}, "no kernel for torch.float16"),
        (torch.zeros(3, dtype=BFLOAT16), {"momentum_dtype": "float32"}, "momentum of torch.float32"),
        (torch.zeros(3, device="meta"), {}, "a parameter is on meta"),
        (torch.zeros(3), {"lr": torch.tensor(0.1)}, "lr is a tensor"),
        (torch.zeros(3), {"cautious": True}, "cautious takes a mean over the tensor"),
        (torch.zeros(3), {"clip_rms": 0.5}, "clip_rms takes a mean over the tensor"),
        (
            torch.zeros(3),
            {"momentum_dtype": "bfloat16", "momentum_arithmetic": "storage"},
            "momentum_arithmetic='storage' has no kernel",
        ),
    ],
    ids=["float64", "float16", "wide momentum", "meta", "tensor lr", "cautious", "clip_rms", "storage"],
)
def test_where_there_is_no_kernel_the_plain_step_is_taken_and_a_line_says_why(
    weight: Tensor, options: Any, reason: str
) -> None:
    weight = weight.clone().requires_grad_()
    weight.grad = torch.ones_like(weight)
    with pytest.warns(UserWarning, match=reason):
        Lion([weight], fused=True, **options).step()
    if weight.device.type == "cpu":
        assert weight.detach().lt(0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lion([weight], **options).step()  # by itself it says nothing


def test_it_is_the_default_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(cpu, "update", lambda *_: used.append("fused"))
    weight = torch.zeros(3, requires_grad=True)
    weight.grad = torch.ones(3)
    Lion([weight]).step()
    assert used == ["fused"]
    Lion([weight], foreach=True).step()
    Lion([weight], fused=False).step()
    assert used == ["fused"]


RUN = """
import sys, time, warnings
import torch
start = time.perf_counter()
import lion
assert time.perf_counter() - start < 1
weight = torch.ones(5, requires_grad=True)
weight.grad = torch.ones(5)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lion.Lion([weight], lr=0.5, fused=True).step()
print(weight.detach().tolist(), [str(w.message) for w in caught], round(time.perf_counter() - start, 1))
"""


def fresh(cache: Path, **environment: str) -> str:
    """A process of its own, with an empty cache."""
    command = [sys.executable, "-c", RUN]
    given = os.environ | {"LION_CACHE": str(cache)} | environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=given)
    return done.stdout.strip()


def test_it_compiles_once_and_is_kept(tmp_path: Path) -> None:
    assert fresh(tmp_path).startswith("[0.5, 0.5, 0.5, 0.5, 0.5] []")
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    assert fresh(tmp_path).startswith("[0.5, 0.5, 0.5, 0.5, 0.5] []")
    assert kept.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="compiles for x86")
@pytest.mark.skipif(
    shutil.which("gcc") is None or sys.platform != "linux",  # elsewhere gcc may be another name of clang
    reason="reads what GCC says of its optimizations",
)
@pytest.mark.parametrize("processor", ["x86-64-v3", "x86-64-v4"])  # with AVX2, and with AVX-512
def test_every_loop_is_vectorized(tmp_path: Path, processor: str) -> None:
    """By GCC's own report, on every kind of x86: timings on the one that runs the tests could not show it."""
    flags = [flag.replace("-march=native", f"-march={processor}") for flag in cpu._flags()]
    command = ["gcc", *flags, "-fopt-info-vec-optimized", "-o", str(tmp_path / "cpu.so"), str(cpu.SOURCE), "-lm"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr
    vectorized = {int(line) for line in re.findall(r"cpu\.c:(\d+):\d+: optimized: loop vectorized", said)}
    lines = list(enumerate(cpu.SOURCE.read_text().splitlines(), 1))
    updates = {number for number, line in lines if re.match(r"RANGE(_INT8)?\(", line)}
    quantising = {number for number, line in lines if "i < size; i++" in line and not line.endswith("\\")}
    assert (len(updates), len(quantising)) == (len(cpu.KERNELS), 1)
    assert updates | quantising <= vectorized


@pytest.mark.parametrize("broken", ["no compiler", "compiler fails", pytest.param("no room", marks=pytest.mark.slow)])
def test_without_a_working_compiler_the_plain_step_is_taken(tmp_path: Path, broken: str) -> None:
    cache, environment = tmp_path / "cache", {}
    if broken == "no compiler":
        environment = {"PATH": str(tmp_path), "CC": "none"}
    elif broken == "compiler fails":
        compiler = tmp_path / "cc"
        compiler.write_text("#!/bin/sh\necho 'cc: out of order' >&2\nexit 1\n")
        compiler.chmod(0o755)
        environment = {"CC": str(compiler)}
    else:
        cache.write_text("a file where a folder should be")
    said = fresh(cache, **environment)
    assert said.startswith("[0.5, 0.5, 0.5, 0.5, 0.5] [")
    assert "Lion(fused=True): " in said
    expected = {"no compiler": "no C compiler was found", "compiler fails": "cc: out of order", "no room": "failed"}
    assert expected[broken] in said
    assert "the plain step is taken" in said


@pytest.mark.slow
@pytest.mark.skipif(psutil.virtual_memory().available < 12 * 2**30, reason="needs 12 GiB of free memory")
@pytest.mark.parametrize("momentum_dtype", ["bfloat16", "int8"])
def test_elements_beyond_32_bits(momentum_dtype: str) -> None:
    """Every element of a tensor of more than 2^31 moves once, where threads share it and in its very end."""
    size = 2**31 + 70_001
    weight = torch.zeros(size, dtype=BFLOAT16)  # pages that nobody writes take no memory: the gradient's first ones
    weight.grad = torch.zeros(size, dtype=BFLOAT16)
    ends = [(0, 3), (2**30 - 5, 2**30 + 5), (2**31 - 5, 2**31 + 5), (size - 3, size)]
    for begin, end in ends:
        weight.grad[begin:end] = -1.0
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer = Lion([weight], lr=0.5, momentum_dtype=momentum_dtype, fused=True)
            optimizer.step()
    finally:
        torch.set_num_threads(before)
    assert all((weight[begin:end] == 0.5).all() for begin, end in ends)
    assert int(weight.count_nonzero()) == sum(end - begin for begin, end in ends)
    assert int(optimizer.state[weight]["exp_avg"].count_nonzero()) == sum(end - begin for begin, end in ends)


def test_a_parameter_of_more_than_32_bits_on_the_meta_device() -> None:
    weight = torch.zeros(2**31 + 9, device="meta", dtype=BFLOAT16, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    optimizer = Lion([weight], momentum_dtype="bfloat16")
    optimizer.step()
    assert optimizer.state[weight]["exp_avg"].shape == weight.shape
    assert optimizer.state[weight]["exp_avg"].nbytes == 2 * weight.numel()

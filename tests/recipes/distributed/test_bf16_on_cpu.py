"""Products of bfloat16 on a CPU in float32: PyTorch's values, for matrices, convolutions and attention."""

import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from recipes.distributed import bf16_on_cpu, devices
from tests.processes import end, start

BF16 = torch.bfloat16


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def _products() -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """Functions of tensors, and float32 tensors for them."""
    torch.manual_seed(0)
    x, w, b = _numbers(48, 40), _numbers(24, 40), _numbers(24)
    many, more = _numbers(6, 16, 20), _numbers(6, 20, 12)
    image, kernel, channels = _numbers(3, 8, 9, 9), _numbers(6, 8, 3, 3), _numbers(8, 1, 3, 3)
    query = _numbers(2, 4, 16, 8)
    return {
        "mm": (lambda x, w: x @ w.T, [x, w]),
        "addmm": (F.linear, [x, w, b]),
        "bmm": (torch.bmm, [many, more]),
        "baddbmm": (torch.baddbmm, [_numbers(6, 16, 12), many, more]),
        "convolution": (lambda x, w: F.conv2d(x, w, padding=1, stride=2), [image, kernel]),
        "convolution with a bias": (F.conv2d, [image, kernel, _numbers(6)]),
        "convolution by channel": (lambda x, w: F.conv2d(x, w, groups=8), [image, channels]),
        "transposed convolution": (F.conv_transpose2d, [image, _numbers(8, 5, 3, 3)]),
        "convolution of a line": (F.conv1d, [_numbers(3, 8, 20), _numbers(6, 8, 3)]),
        "attention": (F.scaled_dot_product_attention, [query, _numbers(2, 4, 16, 8), _numbers(2, 4, 16, 8)]),
    }


def _result_and_gradients(function: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [tensor.detach().to(BF16).to(dtype).requires_grad_() for tensor in tensors]
    result = function(*leaves)
    weights = torch.linspace(-1, 1, result.numel()).to(BF16).to(dtype).reshape(result.shape)
    return [result.detach(), *torch.autograd.grad(result, leaves, weights)]


def _compare() -> None:
    torch.set_num_threads(1)
    products = _products()
    by_torch = {
        name: {dtype: _result_and_gradients(*product, dtype) for dtype in (torch.float32, torch.float64, BF16)}
        for name, product in products.items()
    }
    assert bf16_on_cpu.multiply_in_float32() is bf16_on_cpu.multiply_in_float32() is not None
    for name, product in products.items():
        expected = by_torch[name]
        for dtype in (torch.float32, torch.float64):
            for ours, theirs in zip(_result_and_gradients(*product, dtype), expected[dtype], strict=True):
                assert torch.equal(ours, theirs), (name, dtype)
        exact = expected[torch.float64]
        for ours, theirs, right in zip(_result_and_gradients(*product, BF16), expected[BF16], exact, strict=True):
            assert ours.dtype == theirs.dtype == BF16, name
            assert ours.shape == theirs.shape, name
            size = right.abs().max()
            if "attention" not in name:  # whose steps between products round too
                assert ((ours - right).abs() <= right.abs() / 256 + 1e-5 * size).all(), name
            assert (ours - right).abs().mean() <= 1.05 * (theirs - right).abs().mean() + 1e-6 * size, name


@pytest.mark.skipif(not hasattr(torch.library, "get_kernel"), reason="needs torch 2.9 or newer")
def test_products_have_the_values_of_torchs_own(tmp_path: Path) -> None:
    said = tmp_path / "said"
    assert end(start(_compare, count=1, said=said), said) == [0], Path(f"{said}-0").read_text()


def test_the_cpu_is_known_by_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    assert bf16_on_cpu.has_slow_products() == (x86 and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"))
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert not bf16_on_cpu.has_slow_products()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_an_old_torch_is_said_to_be_slow(
    tiny: Callable[..., DictConfig], precision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bf16_on_cpu, "has_slow_products", lambda: True)
    monkeypatch.setattr(bf16_on_cpu, "multiply_in_float32", lambda: None)
    monkeypatch.setattr(
        devices, "Accelerator", lambda **_: SimpleNamespace(num_processes=1, device=torch.device("cpu"))
    )
    devices.start(tiny(f"precision={precision}"))
    assert ("torch>=2.9" in capsys.readouterr().err) == (precision == "bf16")

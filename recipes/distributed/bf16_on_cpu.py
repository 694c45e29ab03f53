"""Products of bfloat16 matrices on CPUs that have no instructions for them.

x86 without AVX-512 has none, and there PyTorch multiplies bfloat16 matrices one number at a time: a GPT-2 of 128
channels takes 25 times as long as on a CPU that has them. In float32 the same product uses the vector unit.
"""

import functools
import platform
from typing import Any

import torch

_OPERATIONS = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "convolution",
    "convolution_backward",
    "_scaled_dot_product_flash_attention_for_cpu_backward",
)


def has_slow_products() -> bool:
    """Whether PyTorch multiplies bfloat16 matrices on this CPU without vector instructions."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@functools.cache
def multiply_in_float32() -> torch.library.Library | None:
    """From now on this process multiplies bfloat16 matrices on the CPU in float32 and rounds the result to bfloat16.

    That is what a bfloat16 product is by definition, operands of 8 bits added up in float32, so the result differs
    only by the order of the sum. Other types are calculated as before. Code from torch.compile is not reached.

    Returns:
        What holds the replaced kernels, or None with a torch before 2.9, which cannot hand out the kernels it has.
    """
    if not hasattr(torch.library, "get_kernel"):
        return None
    library = torch.library.Library("aten", "IMPL")
    for name in _OPERATIONS:
        library.impl(name, _in_float32(name), "CPU", with_keyset=True)
    return library


def _in_float32(name: str) -> Any:
    kernel = torch.library.get_kernel(f"aten::{name}", "CPU")

    def product(keys: Any, *arguments: Any, **options: Any) -> Any:
        if not any(map(_is_bfloat16, arguments)):
            return kernel.call_boxed(keys, *arguments, **options)
        wide = (value.float() if _is_bfloat16(value) else value for value in arguments)
        result = kernel.call_boxed(keys, *wide, **options)
        if isinstance(result, torch.Tensor):
            return result.bfloat16()
        return tuple(part if part is None else part.bfloat16() for part in result)

    return product


def _is_bfloat16(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16

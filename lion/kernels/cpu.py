"""The step on the CPU: plain C, compiled once by the machine's own compiler and kept in a cache.

A library of a few kilobytes that takes pointers: no header of torch is read, so compiling takes about a second. It is
kept under $LION_CACHE or ~/.cache/lion, by a hash of source, compiler and processor. Loaded after torch, it shares
torch's pool of OpenMP threads.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("cpu.c")
FLAGS = ["-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-std=c11", "-shared", "-fPIC"]
FLOAT, BFLOAT16 = torch.float32, torch.bfloat16
# Types of weight (and gradient) and momentum -> the function's name.
KERNELS = {
    (FLOAT, FLOAT): "lion_float_float",
    (FLOAT, BFLOAT16): "lion_float_bfloat16",
    (BFLOAT16, BFLOAT16): "lion_bfloat16_bfloat16",
}
SMALL = 50_000  # elements below which starting threads costs more than it saves
PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)  # a subclass may have no memory of its own
Tensors = list[Tensor]
Group = dict[str, Any]


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiled kernels, or why there are none."""
    names = (os.environ.get("CC", "cc"), "gcc", "clang")
    compiler = next((found for found in map(shutil.which, names) if found), None)
    if compiler is None or sys.platform == "win32":
        return "no C compiler was found ($CC, cc, gcc or clang)"
    try:
        path = _cached(compiler)
        if not path.exists():
            _compile(compiler, path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        return f"compiling {SOURCE.name} with {compiler} failed: {_words(error)}"
    pointer, number = ctypes.c_void_p, ctypes.c_float
    for name in KERNELS.values():
        function = getattr(loaded, name)
        function.restype = None
        function.argtypes = [ctypes.c_int64, *[pointer] * 4, ctypes.c_int, *[number] * 4, ctypes.c_int]
    return loaded


def refusal(params: Tensors, grads: Tensors, group: Group) -> str | None:
    """Why the parameters of a group cannot be stepped here, or None."""
    if isinstance(group["lr"], Tensor):
        return "lr is a tensor"
    momentum = getattr(torch, group["momentum_dtype"] or "", None)
    if torch.compiler.is_compiling():
        return "the step is being compiled"
    for p, g in zip(params, grads, strict=True):
        if type(p) not in PLAIN and not hasattr(p, "to_local"):
            return f"a parameter is a {type(p).__name__}"
        if p.device.type != "cpu":
            return f"a parameter is on {p.device}"
        if (p.dtype, momentum or p.dtype) not in KERNELS or g.dtype != p.dtype:
            return f"there is no kernel for {p.dtype}, gradients of {g.dtype}, momentum of {momentum or p.dtype}"
    loaded = library()
    return loaded if isinstance(loaded, str) else None


def update(params: Tensors, grads: Tensors, momenta: Tensors, group: Group) -> list[int]:
    """Step all parameters at once, in place, that `refusal` has nothing against.

    Returns:
        The places of those left out, because gradient or momentum do not lie in memory as the weight does.
    """
    left_out = []
    kinds: dict[tuple[torch.dtype, torch.dtype], list[array[int]]] = {}
    for place, (p, g, m) in enumerate(zip(map(local, params), map(local, grads), map(local, momenta), strict=True)):
        if not ((p.is_contiguous() and g.is_contiguous() and m.is_contiguous()) or _alike(p, g, m)):
            left_out.append(place)
            continue
        columns = kinds.get((p.dtype, m.dtype))
        if columns is None:
            columns = kinds[p.dtype, m.dtype] = [array("Q"), array("Q"), array("Q"), array("q")]
        for column, value in zip(columns, (p.data_ptr(), g.data_ptr(), m.data_ptr(), p.numel()), strict=True):
            column.append(value)
    (beta1, beta2), lr = group["betas"], group["lr"]
    numbers = lr, 1 - lr * group["weight_decay"], 1 - beta1, 1 - beta2
    for kind, columns in kinds.items():
        threads = torch.get_num_threads() if sum(columns[3]) > SMALL else 1
        addresses = [column.buffer_info()[0] for column in columns]
        getattr(library(), KERNELS[kind])(len(columns[3]), *addresses, threads, *numbers, group["maximize"])
    return left_out


def local(tensor: Tensor) -> Tensor:
    """A shard's own part of a DTensor; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _alike(*tensors: Tensor) -> bool:
    """Whether elements that belong together lie at the same distance from each tensor's start, without gaps."""
    first = tensors[0]
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(first.stride(), first.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return all(tensor.stride() == first.stride() for tensor in tensors)


def _cached(compiler: str) -> Path:
    """Where the library for this source, compiler and processor lies."""
    folder = os.environ.get("LION_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lion"
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    parts = [SOURCE.read_text(), " ".join(_flags()), version, platform.machine(), torch.__version__, _processor()]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return Path(folder) / f"cpu-{digest}.so"


def _compile(compiler: str, path: Path) -> None:
    """Compile to a name of this process's own, then rename: several processes may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    command = [compiler, *_flags(), "-o", str(temporary), str(SOURCE), "-lm"]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flags() -> list[str]:
    return [*FLAGS, "-fopenmp"] if sys.platform != "darwin" else FLAGS  # Apple's compiler has no OpenMP: one thread


def _processor() -> str:
    """What -march=native looks at: a cache on a shared disk must not serve another kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def _words(error: Exception) -> str:
    told = getattr(error, "stderr", None) or str(error)
    return str(told).strip().splitlines()[-1] if str(told).strip() else type(error).__name__

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
from pathlib import Path

import torch
from torch import Tensor

from lion.kernels import launch
from lion.kernels.launch import Group, State, Tensors

SOURCE = Path(__file__).with_name("cpu.c")
# Without -fno-trapping-math GCC keeps branches that could be selections, and for AVX2 vectorizes no loop with a branch:
# most steps take 4 times as long and more. Results are the same: Python runs with floating-point traps off.
FLAGS = ["-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-std=c11"]
FLAGS += ["-shared", "-fPIC"]
FLOAT, BFLOAT16, INT8 = torch.float32, torch.bfloat16, torch.int8
# Types of weight (and gradient) and momentum, and whether weights are rounded stochastically -> the function's name.
KERNELS = {
    (FLOAT, FLOAT, False): "lion_float_float",
    (FLOAT, BFLOAT16, False): "lion_float_bfloat16",
    (FLOAT, INT8, False): "lion_float_int8",
    (BFLOAT16, BFLOAT16, False): "lion_bfloat16_bfloat16",
    (BFLOAT16, INT8, False): "lion_bfloat16_int8",
    (BFLOAT16, BFLOAT16, True): "lion_stochastic_bfloat16",
    (BFLOAT16, INT8, True): "lion_stochastic_int8",
}
SMALL = 50_000  # elements below which starting threads costs more than it saves


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiled kernels, or why there are none."""
    names = (os.environ.get("CC", "cc"), "gcc", "clang")
    compiler = next((path for path in map(shutil.which, names) if path), None)
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
        function.argtypes = [ctypes.c_int64, *[pointer] * 6, ctypes.c_int, *[number] * 5, ctypes.c_int]
    loaded.lion_stream.restype = None
    loaded.lion_stream.argtypes = [ctypes.c_int64, *[pointer] * 3, ctypes.c_int]
    return loaded


def refusal(params: Tensors, grads: Tensors, states: list[State], group: Group) -> str | None:
    """Why the parameters of a group cannot be stepped here, or None."""
    if elsewhere := next((p.device for p in params if p.device.type != "cpu"), None):
        missing = "; its kernels need triton, which is not installed" if elsewhere.type == "cuda" else ""
        return f"a parameter is on {elsewhere}{missing}"
    reason = launch.refusal(params, grads, states, group, KERNELS)
    loaded = library() if reason is None else reason
    return loaded if isinstance(loaded, str) else None


def update(params: Tensors, grads: Tensors, states: list[State], group: Group) -> None:
    """Algorithm 2 in one pass, in place, for parameters that `refusal` has nothing against."""
    kinds, left_out = launch.sorted_by_kind(params, grads, states, group)
    for kind, columns in kinds.items():
        count, elements = len(columns[0]), sum(columns[4])
        threads = torch.get_num_threads() if elements > SMALL else 1
        addresses = [column.buffer_info()[0] for column in columns]
        function = getattr(library(), KERNELS[kind])
        function(count, *addresses, threads, *launch.numbers(group), group["maximize"])
    launch.finish(params, grads, states, group, left_out)


def stream(a: Tensor, b: Tensor, c: Tensor) -> None:
    """Add `b` to `a` and take it from `c`: three float32 arrays read, two written, as a step does. For measuring."""
    loaded = library()
    if isinstance(loaded, str):
        raise RuntimeError(loaded)
    loaded.lion_stream(a.numel(), a.data_ptr(), b.data_ptr(), c.data_ptr(), torch.get_num_threads())


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

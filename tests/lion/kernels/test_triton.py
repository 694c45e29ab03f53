"""The Triton kernel without a GPU: run by Triton's interpreter, and compiled for two generations of them.

Run as a program, with TRITON_INTERPRET=1, this file is the process that the interpreter's tests start: what Triton's
decorators make of a kernel is settled when it is imported. What needs a GPU and is not tested: that compiled code runs,
how fast it is, and that the plain step has the same bits there.
"""

import json
import os
import re
import subprocess
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lion import Lion

FLOAT, BFLOAT16 = torch.float32, torch.bfloat16
KINDS = [(FLOAT, None), (FLOAT, "bfloat16"), (BFLOAT16, None), (BFLOAT16, "float32")]
SHAPES = [(3000,), (5, 7), (), (0,), (1024,), (2, 3)]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.5, "maximize": True},
    {"weight_decay": 0.5, "cautious_decay": True, "corrected_decay": True},
    {"betas": (0.25, 0.25)},  # a weight of the gradient above one half: the other branch of lerp
]


def weights(dtype: torch.dtype) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=random).to(dtype) for shape in SHAPES]
    tensors += [
        torch.randn(4, 6, generator=random).to(dtype).t(),
        torch.randn(4, 6, generator=random).to(dtype)[:, ::2],
    ]
    return [tensor.requires_grad_() for tensor in tensors]


def compared(kind: tuple[torch.dtype, str | None], settings: dict[str, Any]) -> tuple[float, float, int]:
    """Four steps of both: share of equal weights, largest difference of momenta in units of the last place, plans."""
    from lion.kernels import triton

    dtype, momentum_dtype = kind
    ours, theirs = weights(dtype), weights(dtype)
    options = {"lr": 2.0**-7, "momentum_dtype": momentum_dtype, "fused": False, **settings}
    plain, interpreted = Lion(ours, **options), Lion(theirs, **options)
    group = interpreted.param_groups[0]
    for optimizer in (plain, interpreted):
        optimizer.param_groups[0]["lr"] = 2.0**-8
    random = torch.Generator().manual_seed(1)
    kept = []  # so that each step's gradients lie elsewhere
    assert triton.trouble(torch.device("cpu")) is None
    triton._plans.clear()
    for _ in range(4):
        gradients = [torch.empty_like(p) for p in theirs]
        kept.append(gradients)
        for p, gradient in zip(ours, gradients, strict=True):
            gradient.copy_(torch.randn(p.shape, generator=random))
            if p.ndim == 1 and p.numel():
                gradient[:3] = torch.tensor([float("nan"), float("inf"), 0.0])
            p.grad = gradient.clone(memory_format=torch.preserve_format)
        plain.step()
        interpreted._begin(group, theirs)
        states = [interpreted.state[p] for p in theirs]
        assert triton.refusal(theirs, gradients, states, group) is None
        with torch.no_grad():
            triton.update(theirs, gradients, states, group)
    equal, elements, furthest = 0, 0, 0.0
    for p, q in zip(ours, theirs, strict=True):
        m, n = plain.state[p]["exp_avg"], interpreted.state[q]["exp_avg"]
        equal += int(torch.isclose(p, q, rtol=0, atol=0, equal_nan=True).sum())
        elements += p.numel()
        assert torch.equal(m.isnan(), n.isnan())
        assert torch.equal(m.isinf(), n.isinf())
        finite = m.isfinite()
        off = (m[finite].double() - n[finite].double()).abs() / m[finite].double().abs().clamp_min(0.01)
        furthest = max(furthest, float(off.max()) if off.numel() else 0.0)
    return equal / elements, furthest / torch.finfo(m.dtype).eps, len(triton._plans)


def beyond_32_bits() -> list[list[float]]:
    """A tensor of 2^31 + 2000 elements of which only the last 3000 exist, and only their programs are launched."""
    from lion.kernels import triton

    here, size = 3000, 2**31 + 2000
    arrays = [torch.full((here,), value) for value in (1.0, -3.0, 0.0)]
    ahead = 4 * (size - here)
    addresses = array("Q", [(a.data_ptr() - ahead) % 2**64 for a in arrays])
    programs = -(-size // triton.BLOCK)
    launched = here // triton.BLOCK  # the last ones: the end is counted in programs, from the first one launched
    first = (programs - launched) * triton.BLOCK
    cpu = torch.device("cpu")
    columns = (addresses, array("q", [size]), array("q", [launched]))
    group = Lion([torch.zeros(1)], lr=0.5).param_groups[0]
    plan = triton.Plan(*(triton.on_device(c.tobytes(), cpu) for c in columns), launched)
    triton.run(plan, (FLOAT, FLOAT, False), group)
    skipped = first - (size - here)
    return [[float(a[:skipped].mean()), float(a[skipped:].min()), float(a[skipped:].max())] for a in arrays]


def main() -> None:
    result: dict[str, Any] = {}
    for k, kind in enumerate(KINDS):
        for s, settings in enumerate(SETTINGS):
            result[f"{k} {s}"] = compared(kind, settings)
    result["beyond"] = beyond_32_bits()
    print(json.dumps(result))


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What a process with Triton's interpreter found."""
    pytest.importorskip("triton")
    root = Path(__file__).resolve().parents[3]
    given = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=150, env=given, cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("settings", range(len(SETTINGS)), ids=lambda s: str(SETTINGS[s]))
@pytest.mark.parametrize("kind", range(len(KINDS)), ids=lambda k: str(KINDS[k]))
def test_interpreted_it_does_what_the_plain_step_does(interpreted: dict[str, Any], kind: int, settings: int) -> None:
    """The interpreter rounds twice where a fused multiply-add rounds once: a unit in the last place a step."""
    equal, furthest, plans = interpreted[f"{kind} {settings}"]
    assert equal > 0.999
    assert furthest <= 4
    assert plans == 1, "sizes did not change, so there must be one plan, wherever gradients lie"


def test_elements_beyond_32_bits(interpreted: dict[str, Any]) -> None:
    """Weights that exist moved from 1 to 1.5, their momenta from 0 to -0.03; those of programs not launched stayed."""
    theta, gradient, momentum = interpreted["beyond"]
    assert theta == [1.0, 1.5, 1.5]
    assert gradient == [-3.0, -3.0, -3.0]
    assert momentum == pytest.approx([0.0, -0.03, -0.03], rel=1e-6)


def test_plans_follow_addresses_and_their_number_is_bounded() -> None:
    triton = pytest.importorskip("lion.kernels.triton")
    device = torch.device("cpu")
    triton._plans.clear()

    def plan(*rows: tuple[int, ...]) -> Any:
        return triton.plan([array("QQQQqq"[i], [row[i] for row in rows]) for i in range(6)], device)

    first = plan((2**63 + 8, 16, 24, 0, 3000, 0), (1, 2, 3, 0, 5, 0))
    assert first.addresses.tolist() == [8 - 2**63, 1, 16, 2, 24, 3]
    assert (first.sizes.tolist(), first.ends.tolist(), first.programs) == ([3000, 5], [3, 4], 4)
    second = plan((2**63 + 8, 160, 24, 0, 3000, 0), (1, 20, 3, 0, 5, 0))  # new gradients
    assert second.addresses.tolist() == [8 - 2**63, 1, 160, 20, 24, 3]
    assert second.sizes is first.sizes
    assert second.ends is first.ends
    assert plan((2**63 + 8, 160, 24, 0, 3000, 0), (1, 20, 3, 0, 5, 0)).addresses is second.addresses
    for size in range(3 * triton.KEPT_PLANS):
        plan((1, 2, 3, 0, size, 0))
        plan((2**63 + 8, 160, 24, 0, 3000, 0), (1, 20, 3, 0, 5, 0))
    assert len(triton._plans) == triton.KEPT_PLANS
    assert plan((2**63 + 8, 160, 24, 0, 3000, 0), (1, 20, 3, 0, 5, 0)).sizes is first.sizes  # what is used stays
    triton._plans.clear()


def test_a_plan_has_five_numbers_for_a_tensor_however_large_it_is() -> None:
    triton = pytest.importorskip("lion.kernels.triton")
    triton._plans.clear()
    sizes = [2**33, 0, 1, triton.BLOCK, triton.BLOCK + 1]
    columns = [array("QQQQqq"[i], sizes if i == 4 else [0] * len(sizes)) for i in range(6)]
    plan = triton.plan(columns, torch.device("cpu"))
    assert sum(part.numel() for part in plan[:3]) == 5 * len(sizes)
    assert plan.ends.diff(prepend=torch.tensor([0])).tolist() == [2**33 // triton.BLOCK, 0, 1, 1, 2]
    assert plan.programs == plan.ends[-1]
    triton._plans.clear()


def test_a_graph_that_is_captured_takes_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("lion.kernels.triton")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    weight: Any = SimpleNamespace(is_cuda=True, device=torch.device("cuda"))
    assert triton.refusal([weight], [weight], [], {}).startswith("a CUDA graph is being captured")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("weight", "momentum"), [(FLOAT, FLOAT), (FLOAT, BFLOAT16), (BFLOAT16, BFLOAT16)], ids=str)
def test_it_compiles_for_gpus(weight: torch.dtype, momentum: torch.dtype, capability: int) -> None:
    """To machine code; nothing but the two interpolations is a fused multiply-add; addresses have 64 bits."""
    pytest.importorskip("triton")
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lion.kernels import triton

    names = triton.step.arg_names
    constants = {"W": triton.MEMORY[weight], "M": triton.MEMORY[momentum], "BLOCK": triton.BLOCK}
    types = dict.fromkeys(names, "fp32") | dict.fromkeys(names[:3], "*i64") | {"count": "i32"}
    source = ASTSource(fn=triton.step, signature=types | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    made = compiled(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False})
    assert made.asm["cubin"]
    code = made.asm["ptx"]
    per_thread = triton.BLOCK // (32 * made.metadata.num_warps)
    assert len(re.findall(r"\bfma\.rn\.f32", code)) == 2 * 2 * per_thread  # two branches of two interpolations
    assert not re.search(r"(ld|st)\.global\S* .*\[ ?%r\d", code)


def test_what_it_refuses() -> None:
    triton = pytest.importorskip("lion.kernels.triton")

    def reason(weight: Tensor, **options: Any) -> str | None:
        weight = weight.requires_grad_()
        optimizer = Lion([weight], **options)
        optimizer._begin(optimizer.param_groups[0], [weight])
        group = optimizer.param_groups[0]
        refused: str | None = triton.refusal([weight], [torch.ones_like(weight)], [optimizer.state[weight]], group)
        return refused

    # Not interpreted, it has to compile for the CPU, which Triton can't; interpreted it is never refused (`compared`).
    assert "Triton's kernel failed on cpu: " in str(reason(torch.zeros(3)))
    assert "momentum of torch.int8" in str(reason(torch.zeros(3), momentum_dtype="int8"))
    assert "rounded stochastically" in str(reason(torch.zeros(3, dtype=BFLOAT16), stochastic_rounding=True))
    assert "float64" in str(reason(torch.zeros(3, dtype=torch.float64)))
    assert "lr is a tensor" in str(reason(torch.zeros(3), lr=torch.tensor(0.1)))
    both = [torch.zeros(1), torch.zeros(1, device="meta")]
    assert triton.refusal(both, both, [], {}) == "parameters are on cpu and meta"


def test_other_results_are_noticed_before_any_weight_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("lion.kernels.triton")
    from lion.kernels import plain

    def one_too_many(*arguments: Any) -> None:
        plain.each(*arguments)
        plain.each(*arguments)

    for way, expected in ((plain.each, None), (one_too_many, "Triton's kernel has other results on cpu")):
        triton.trouble.cache_clear()
        monkeypatch.setattr(triton, "update", way)
        assert triton.trouble(torch.device("cpu")) == expected
    triton.trouble.cache_clear()


def test_it_is_chosen_for_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("lion.kernels.triton")
    import lion.optimizer
    from lion.kernels import cpu

    assert lion.optimizer._kernels("cuda") is triton
    assert lion.optimizer._kernels("cpu") is cpu
    assert lion.optimizer._kernels("meta") is cpu
    monkeypatch.setattr(lion.optimizer, "find_spec", lambda _: None)
    assert lion.optimizer._kernels("cuda") is cpu


if __name__ == "__main__":
    main()

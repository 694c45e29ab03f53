"""The optimizers that scripts/bench.py times, of this suite and other libraries, and the tensors that they step."""

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LR = 1e-9  # the weights stay where they are, however many steps
LIONS: dict[str, dict[str, Any]] = {  # ours
    "lion": {"fused": True},
    "lion-bf16": {"fused": True, "momentum_dtype": "bfloat16"},
    "lion-int8": {"fused": True, "momentum_dtype": "int8"},
    "lion-plain": {"fused": False},
    "lion-lists": {"fused": False, "foreach": True},
}
LIBRARIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {  # name: package, module, class, arguments
    "timm": ("timm", "timm.optim.lion", "Lion", {"foreach": False}),
    "timm-foreach": ("timm", "timm.optim.lion", "Lion", {"foreach": True}),
    "lion-pytorch": ("lion-pytorch", "lion_pytorch", "Lion", {}),
    "pytorch_optimizer": ("pytorch_optimizer", "pytorch_optimizer", "Lion", {}),
    "optimi": ("torch-optimi", "optimi", "Lion", {}),
    "bitsandbytes-32bit": ("bitsandbytes", "bitsandbytes.optim", "Lion32bit", {}),
    "bitsandbytes-8bit": ("bitsandbytes", "bitsandbytes.optim", "Lion8bit", {}),
    "adamw-fused": ("torch", "torch.optim", "AdamW", {"fused": True}),
    "adamw-foreach": ("torch", "torch.optim", "AdamW", {"foreach": True}),
}
LOOPS = ("lion-pytorch",)  # libraries that have no other step on the CPU
LIKE = {"fused": "adamw-fused", "foreach": "adamw-foreach", "loop": "adamw", "own": "adamw-fused"}  # by step
TRAINED = "lion,lion-bf16,lion-plain,adamw-fused,adamw,adafactor"  # by default with --train, where a step takes seconds
VOCABULARY = 10_000  # rows, from which a matrix is an embedding
CLASSES = 1000  # rows, with which it is the head of a ViT
Shapes = list[tuple[int, ...]]


class BenchError(Exception):
    """A user's mistake, in one line."""


def vit(width: int, depth: int = 12, classes: int = CLASSES) -> Shapes:
    """ViT with patches of 16 on images of 224 (Dosovitskiy et al. 2021, table 1), as timm has it."""
    block: Shapes = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    ends: Shapes = [(1, 1, width), (1, 197, width), (width, 3, 16, 16), (width,)]
    return [*ends, *block * depth, (width,), (width,), (classes, width), (classes,)]


def gpt2(width: int = 768, depth: int = 12) -> Shapes:
    """GPT-2 (Radford et al. 2019), the smallest, its head tied to the embedding."""
    block: Shapes = [(width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(50257, width), (1024, width), *block * depth, (width,), (width,)]


MODELS: dict[str, Callable[[], Shapes]] = {
    "vit_s16": lambda: vit(384),
    "vit_b16": lambda: vit(768),
    "gpt2_124m": gpt2,
    "many-small-tensors": lambda: [(1000,)] * 2000,
    "one-large-tensor": lambda: [(20_000_000,)],
}


def training(model: str, batch_size: int) -> tuple[list[Any], Callable[[], None]]:
    """The parameters of a model, and a function that computes their gradients on a random batch."""
    import torch

    torch.manual_seed(0)
    if model.startswith("vit"):
        import timm

        names = {"vit_s16": "vit_small_patch16_224", "vit_b16": "vit_base_patch16_224"}
        network = timm.create_model(names[model])
        batch = {"x": torch.randn(batch_size, 3, 224, 224)}
        loss = lambda: network(**batch).logsumexp(1).mean()  # noqa: E731
    elif model == "gpt2_124m":
        from transformers import GPT2Config, GPT2LMHeadModel

        network = GPT2LMHeadModel(GPT2Config())
        tokens = torch.randint(50257, (batch_size, 256))
        loss = lambda: network(input_ids=tokens, labels=tokens).loss  # noqa: E731
    else:
        raise BenchError(f"{model} cannot be trained: --train takes vit_s16, vit_b16 or gpt2_124m")

    def gradients() -> None:
        for p in network.parameters():
            p.grad = None
        loss().backward()

    return list(network.parameters()), gradients


def contender_names() -> list[str]:
    """Every contender's name: our Lions, those of others, the baselines of conf/optim."""
    configured = sorted(path.stem for path in (ROOT / "conf/optim").glob("*.yaml"))
    return [*LIONS, *LIBRARIES, *(name for name in configured if name != "lion")]


@cache
def kind_of_step(name: str, device: str = "cpu") -> str:
    """fused, foreach, loop or own: how a contender goes over the tensors on a device."""
    from lion.kernels import cpu

    options: dict[str, Any]
    if name in LIBRARIES:
        options = LIBRARIES[name][-1]
        if not {"fused", "foreach"} & options.keys():
            return "loop" if name in LOOPS and device == "cpu" else "own"
    elif name in LIONS:
        if device == "cuda":  # its kernel is Triton's, which has no int8
            has_fused = find_spec("triton") is not None and LIONS[name].get("momentum_dtype") != "int8"
        else:
            has_fused = not isinstance(cpu.library(), str)
        options = LIONS[name] | ({} if has_fused else {"fused": False})
    else:
        return _watched_kind(name, device)
    return next((kind for kind in ("fused", "foreach") if options.get(kind)), "loop")


def _watched_kind(name: str, device: str) -> str:
    """The kind of step that an optimizer of conf/optim takes, by the operations of its second step; own: none ran."""
    import torch

    from recipes.training.step_kind import StepKind

    params = [torch.nn.Parameter(torch.ones(4, 3, device=device)) for _ in range(12)]
    watch = StepKind(len(params))
    try:
        optimizer = contender(name, params)
        for mode in (nullcontext(), watch):
            for parameter in params:
                parameter.grad = torch.ones_like(parameter)
            with mode:
                optimizer.step()
    except Exception:  # another's library, in whatever state: `measure` says which
        return "own"
    return watch.kind


def contender(name: str, params: list[Any]) -> Any:
    """An optimizer over the parameters.

    Raises:
        PackageNotFoundError: its library is not installed.
    """
    import importlib

    shared: dict[str, Any] = {"lr": LR, "weight_decay": 0.1}
    if name in LIONS:
        from lion import Lion

        return Lion(params, **shared, **LIONS[name])
    if name in LIBRARIES:
        package, module, kind, options = LIBRARIES[name]
        version(package)
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that no optimizer uses
        return getattr(importlib.import_module(module), kind)(params, **shared, **options)
    from omegaconf import OmegaConf

    from recipes.runs import build
    from recipes.training.param_groups import set_training

    described: Any = OmegaConf.load(ROOT / f"conf/optim/{name}.yaml")
    described.lr = LR
    group = {"params": params, "roles": [role_of(p) for p in params], "weight_decay": described.weight_decay}
    optimizer = build.optimizer_factory(described)([group])
    set_training(optimizer, True)
    return optimizer


def role_of(parameter: Any) -> Any:
    """The role of a tensor of `MODELS` by its shape: an embedding has a row a word, a head one a class."""
    from recipes.training.param_groups import Role

    if parameter.ndim == 2 and parameter.shape[0] == CLASSES:
        return Role.HEAD
    if parameter.ndim == 2:
        return Role.EMBEDDING if parameter.shape[0] > VOCABULARY else Role.MATRIX
    return Role.VECTOR if parameter.ndim < 2 else Role.CONVOLUTION


def state_tensors(optimizer: Any) -> Iterator[Any]:
    """Tensors of the state, shared ones once, step counters left out."""
    import torch
    from torch.utils._pytree import tree_leaves

    seen = set()
    for value in tree_leaves([*optimizer.state.values()]):
        if isinstance(value, torch.Tensor) and value.ndim and value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            yield value

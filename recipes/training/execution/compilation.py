"""Compile the model (`compile=`): one graph for all training steps.

Evaluation has batches of other shapes, another mode and, for sampling or decoding, other calls: it runs the same
weights uncompiled, so that nothing is compiled during a run.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from recipes.distributed import processes
from recipes.errors import ConfigError

BACKEND = "inductor"
LEAST_CAPABILITY = (7, 0)  # of a CUDA device that Triton writes code for


def applies(setting: bool | str, scale: str, device: torch.device) -> bool:
    """Whether a run's model is compiled on a device.

    `auto` compiles on CUDA devices that Triton supports, but not at scale=embedded, whose runs are short.
    """
    if isinstance(setting, bool):
        return setting
    if device.type != "cuda" or scale == "embedded" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def begin(model: nn.Module, blocks: list[nn.Module] | None = None) -> None:
    """Compile a model's forward pass at its first call, in place.

    Args:
        model: whole, or in shards.
        blocks: of a model in shards; they are compiled instead, with graph breaks where parameters are gathered.
    """
    torch._dynamo.reset()  # graphs of a sweep's earlier runs count towards torch's limit
    for part in [model] if blocks is None else blocks:
        part.compile(backend=BACKEND, fullgraph=blocks is None, dynamic=False)


def warm_up(
    model: nn.Module, loss: Callable[[], Tensor], backward: Callable[[Tensor], None], setting: bool | str
) -> bool:
    """Compile forward and backward pass by running them once; the model's state is restored.

    Args:
        model: whose forward pass is compiled when it is called.
        loss: calls it.
        backward: from the loss.
        setting: `compile`.

    Returns:
        Whether the model is compiled: if it cannot be, `auto` prints why and the model runs uncompiled.

    Raises:
        ConfigError: the model cannot be compiled, or there is no compiler, with compile=true.
    """
    reasons = processes.gather_from_all(lambda: _refusal(model, loss, backward))
    reason = next(filter(None, reasons), None)
    if reason is None:
        return True
    typed = f"compile={setting}".lower()
    refused = f"{typed}: this model cannot be compiled ({reason}); set compile=false"
    if setting is True:
        raise ConfigError(refused)
    for part in model.modules():
        part._compiled_call_impl = None
    if processes.is_first():
        print(f"without the compiler: {refused}", flush=True)
    return False


def _refusal(model: nn.Module, loss: Callable[[], Tensor], backward: Callable[[Tensor], None]) -> str | None:
    """Run forward and backward pass once; returns why the model cannot be compiled, or None."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}  # running statistics
    try:
        backward(loss())
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
        return next(line for line in str(error).splitlines() if line.strip())
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])
    return None


@contextlib.contextmanager
def paused(is_compiled: bool) -> Iterator[None]:
    """Run the model uncompiled inside this block; if it is not compiled, torch's compiler is not imported."""
    with torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext():
        yield

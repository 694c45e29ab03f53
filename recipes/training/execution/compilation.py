"""Compile the model (`compile=true`): one graph for all training steps.

Evaluation has batches of other shapes, another mode and, for sampling or decoding, other calls: it runs the same
weights uncompiled, so that nothing is compiled during a run.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from recipes.errors import ConfigError

BACKEND = "inductor"


def begin(model: nn.Module, blocks: list[nn.Module] | None = None) -> None:
    """Compile a model's forward pass at its first call, in place.

    Args:
        model: whole, or in shards.
        blocks: of a model in shards; they are compiled instead, with graph breaks where parameters are gathered.
    """
    torch._dynamo.reset()  # graphs of a sweep's earlier runs count towards torch's limit
    for part in [model] if blocks is None else blocks:
        part.compile(backend=BACKEND, fullgraph=blocks is None, dynamic=False)


def warm_up(model: nn.Module, loss: Callable[[], Tensor], backward: Callable[[Tensor], None]) -> None:
    """Compile forward and backward pass by running them once; the model's state is restored.

    Raises:
        ConfigError: the model cannot be compiled, or there is no compiler.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}  # running statistics
    try:
        backward(loss())
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
        reason = next(line for line in str(error).splitlines() if line.strip())
        raise ConfigError(f"compile=true: this model cannot be compiled ({reason}); set compile=false") from None
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])


@contextlib.contextmanager
def paused(is_compiled: bool) -> Iterator[None]:
    """Run the model uncompiled inside this block; if it is not compiled, torch's compiler is not imported."""
    with torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext():
        yield

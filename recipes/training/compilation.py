"""The model compiled (`compile=true`): one graph for all training steps.

Evaluation has batches of other shapes, other modes and, to sample or decode, other calls: it runs the same weights
without the compiler, so that nothing is compiled while a run goes on.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from recipes.errors import ConfigError

BACKEND = "inductor"


def begin(parts: list[nn.Module]) -> None:
    """Have the forward passes of these modules compiled when they are first called, in place.

    Args:
        parts: the whole model; of one in shards its blocks, between which parameters are gathered.
    """
    torch._dynamo.reset()  # graphs of a sweep's earlier runs count against the limit of a function
    for part in parts:
        part.compile(backend=BACKEND, fullgraph=True, dynamic=False)


def warm_up(model: nn.Module, loss: Callable[[], Tensor], backward: Callable[[Tensor], None]) -> None:
    """Compile forward and backward pass by running them once; the model is left as it was.

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
def paused() -> Iterator[None]:
    """Run compiled modules as they were written."""
    with torch.compiler.set_stance("force_eager"):
        yield

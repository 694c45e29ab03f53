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


def begin(model: nn.Module, blocks: list[nn.Module] | None = None) -> None:
    """Have a model's forward pass compiled when it is first called, in place.

    Args:
        model: whole, or in shards.
        blocks: of one in shards; what is compiled instead, and breaks off where parameters are gathered.
    """
    torch._dynamo.reset()  # graphs of a sweep's earlier runs count against the limit of a function
    for part in [model] if blocks is None else blocks:
        part.compile(backend=BACKEND, fullgraph=blocks is None, dynamic=False)


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
def paused(is_compiled: bool) -> Iterator[None]:
    """Run a model as it was written, if it is compiled: torch's compiler takes a second to import."""
    with torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext():
        yield

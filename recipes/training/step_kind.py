"""Detect how an optimizer's step is implemented (fused, foreach or loop) from the operations that it runs."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class StepKind(TorchDispatchMode):
    """Watches one step; not an optimizer's first, which creates its state.

    Args:
        parameters: the number that the step updates.
    """

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.parameters = parameters
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten":
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))

    @property
    def kind(self) -> str:
        """`fused`: one kernel does it all; `foreach`: operations on lists of tensors; `loop`: tensor by tensor.

        A kernel that is not torch's, such as Lion's, runs fewer of torch's operations than there are parameters.
        """
        if any("_fused_" in name for name in self.names):
            return "fused"
        if any("_foreach_" in name for name in self.names):  # fewer operations than parameters, too, in a short rule
            return "foreach"
        return "fused" if len(self.names) < self.parameters else "loop"

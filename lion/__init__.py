"""The Lion optimizer. Importing this needs torch and nothing else."""

from lion.backward import step_in_backward
from lion.optimizer import Lion

__all__ = ["Lion", "step_in_backward"]

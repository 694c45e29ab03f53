"""The Lion optimizer. Importing this needs torch and nothing else."""

from lion.optimizer import Lion

__all__ = ["Lion"]

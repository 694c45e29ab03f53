"""The training loop and its parts, independent of the families of tasks."""

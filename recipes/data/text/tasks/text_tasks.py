"""Tasks whose input is a text and whose answer is one of a few words, as GLUE's are in T5's form."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.errors import ConfigError


@dataclass(frozen=True)
class TextTask:
    """A task: its label words and metrics.

    Attributes:
        name: for its metrics in the record.
        words: the label words, in the order of the labels; where labels are scores they end in a number, and rise.
        metrics: names from `recipes.language.glue_metrics`.
        graded: labels are real numbers, and the answer is the nearest word.
    """

    name: str
    words: tuple[str, ...]
    metrics: tuple[str, ...]
    graded: bool = False

    def values(self) -> np.ndarray:
        """The value of each word, float64 [words]: its label, or the number that it spells."""
        return np.array(
            [word.split()[-1] for word in self.words] if self.graded else range(len(self.words)), np.float64
        )


@dataclass(frozen=True)
class TaskExamples:
    """One split of one task.

    Attributes:
        texts: the inputs, prefix and all.
        labels: float64 [N], a word's index or a score.

    Raises:
        ValueError: texts and labels do not fit each other, or a label is none of the task's.
    """

    task: TextTask
    texts: tuple[str, ...]
    labels: np.ndarray

    def __post_init__(self) -> None:
        values = self.task.values()
        if self.labels.shape != (len(self.texts),):
            raise ValueError(f"{self.task.name}: {len(self.texts)} texts, labels {self.labels.shape}")
        valid = (self.labels >= values[0]) & (self.labels <= values[-1])
        if not self.task.graded:
            valid &= np.isin(self.labels, values)
        if not valid.all():
            raise ValueError(
                f"{self.task.name}: label {self.labels[~valid][0]:g} is none of {', '.join(self.task.words)}"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, rows: Sequence[int] | np.ndarray) -> "TaskExamples":
        """The examples of these rows, in their order."""
        return TaskExamples(self.task, tuple(self.texts[row] for row in rows), self.labels[np.asarray(rows, np.int64)])

    def words(self) -> np.ndarray:
        """The index of each example's label word, int64 [N]: of equally near numbers, the even one."""
        values = self.task.values()
        if not self.task.graded:
            return self.labels.astype(np.int64)
        step = values[1] - values[0]
        return np.rint((self.labels - values[0]) / step).astype(np.int64)

    def fingerprint(self) -> str:
        """The first 16 hex digits of a SHA-256 over the task, its texts and its labels."""
        digest = hashlib.sha256(repr(self.task).encode())
        for text in self.texts:
            digest.update(text.encode() + b"\0")
        digest.update(self.labels.astype("<f8").tobytes())
        return digest.hexdigest()[:16]


def selected_tasks(task: str | Sequence[str], task_names: Collection[str]) -> tuple[str, ...]:
    """The tasks of data.options.task: one, several, or `all`.

    Raises:
        ConfigError: one is unknown.
    """
    is_single = isinstance(task, str) or not isinstance(task, Sequence)  # what is neither is refused as a name
    selected = tuple(task_names) if task == "all" else (str(task),) if is_single else tuple(task)
    if not selected or not set(selected) <= set(task_names):
        raise ConfigError(f"data.options.task={task} is unknown; known: all, {', '.join(task_names)}")
    return selected

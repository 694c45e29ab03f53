"""Fine-tuning of T5 on GLUE, every task as text to text (Lion paper, section 4.4, Table 6).

Data: pairs of an input with its task's prefix and a label word. Model: T5 v1.1 from pre-trained weights. Loss:
cross-entropy of the word's tokens. Evaluation: greedy decoding among the words of the example's task, so that every
answer is one of them. Metric: the average of all figures, as in the paper's table; each is logged by its name too.
"""

from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from recipes.data.glue_metrics import METRICS, average
from recipes.data.text_pairs import TextPairs
from recipes.data.text_tasks import TextTask
from recipes.loading import Batch, Examples
from recipes.recipe import load_data
from recipes.t5 import T5

TARGET = 8  # tokens that the dry run gives a label word


class Recipe(T5):
    """One model on one task, or on several at once."""

    metric = "average"

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.tasks: tuple[TextTask, ...] = ()
        self.answers: list[list[tuple[int, ...]]] = []

    def examples(self) -> dict[str, Examples]:
        """The tasks' pairs as tokens, one task after another; training mixes them by their sizes."""
        splits: dict[str, TextPairs] = load_data(self.cfg)
        self.check(splits["train"].pad, splits["train"].vocab_size)
        # All splits that are evaluated hold the same tasks.
        self.tasks, self.end = splits["val"].tasks, splits["val"].end
        self.answers = [[tuple(word.tolist()) for word in words] for words in splits["val"].answers]
        return dict(splits)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Task, label, what was answered, and mean cross-entropy of the right word's tokens."""
        t5: Any = model
        mask = batch["input"].ne(self.pad)
        encoded = t5.encoder(input_ids=batch["input"], attention_mask=mask)
        tokens = batch["target"].ne(self.pad).sum(1)
        return {
            "task": batch["task"],
            "label": batch["label"],
            "answer": self._answers(t5, encoded, mask, batch["task"].tolist()),
            "loss": self.token_losses(model, batch, encoder_outputs=encoded).sum(1) / tokens,
        }

    def _answers(self, t5: Any, encoded: Any, mask: torch.Tensor, tasks: list[int]) -> torch.Tensor:
        """The values of the words that greedy decoding chooses, float64 [B]."""
        said = t5.generate(
            encoder_outputs=encoded,
            attention_mask=mask,
            max_new_tokens=max(len(word) for words in self.answers for word in words),
            do_sample=False,
            num_beams=1,
            decoder_start_token_id=self.pad,
            pad_token_id=self.pad,
            eos_token_id=self.end,
            prefix_allowed_tokens_fn=lambda row, prefix: self._next(tasks[row], tuple(prefix.tolist()[1:])),
        )
        chosen = []
        for task, row in zip(tasks, said[:, 1:].tolist(), strict=True):
            word = tuple(row[: row.index(self.end) + 1])
            chosen.append(self.tasks[task].values()[self.answers[task].index(word)])
        return torch.tensor(np.array(chosen), device=mask.device)

    def _next(self, task: int, prefix: tuple[int, ...]) -> list[int]:
        """The tokens that go on from a prefix to one of the task's words; padding after its end."""
        going_on = {word[len(prefix)] for word in self.answers[task] if word[: len(prefix)] == prefix != word}
        return sorted(going_on) or [self.pad]

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Each task's metrics, their average, and the mean cross-entropy."""
        values: dict[str, float] = {}
        for number, task in enumerate(self.tasks):
            own = figures["task"] == number
            answer, label = figures["answer"][own].double().numpy(), figures["label"][own].double().numpy()
            values |= {f"{task.name}_{name}": METRICS[name](answer, label) for name in task.metrics}
        return {"average": average(values), **values, "loss": figures["loss"].double().mean().item()}

    def blank_batch(self, size: int) -> Batch:
        """Inputs of full length."""
        return self._blank(size, int(self.cfg.data.options.length), TARGET)

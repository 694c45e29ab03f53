"""Fine-tuning of T5 on GLUE, every task as text to text (Lion paper, section 4.4, Table 6).

Data: pairs of an input with its task's prefix and a label word. Model: T5 v1.1 from pre-trained weights. Loss:
cross-entropy of the word's tokens. Evaluation: greedy decoding among the words of the example's task, so that every
answer is one of them. Metric: the average of all figures, as in the paper's table; each is logged by its name too.
"""

import math
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from recipes.data.text.tasks.text_pairs import TextPairs
from recipes.data.text.tasks.text_tasks import TextTask
from recipes.language.glue_metrics import METRICS, average
from recipes.language.t5 import T5
from recipes.protocol import load_data
from recipes.training.execution import compilation
from recipes.training.sampler import Batch, Examples

TARGET = 8  # tokens that the dry run gives a label word


class Recipe(T5):
    """One model on one task, or on several at once."""

    learns_from = "texts with answers"
    metric = "average"

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.tasks: tuple[TextTask, ...] = ()
        self.answers: list[list[tuple[int, ...]]] = []

    def examples(self) -> dict[str, Examples]:
        """The tasks' pairs as tokens, one task after another; training mixes them by their sizes."""
        splits: dict[str, TextPairs] = load_data(self.cfg)
        self.tokenizer = splits["train"].tokenizer
        self.check(splits["train"].pad, splits["train"].vocab_size)
        # All splits that are evaluated hold the same tasks.
        self.tasks, self.end = splits["val"].tasks, splits["val"].end
        self.answers = [[tuple(word.tolist()) for word in words] for words in splits["val"].answers]
        return dict(splits)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over all target tokens; a compiled model has batches of one shape."""
        compiled = compilation.applies(self.cfg.compile, self.cfg.scale.name, batch["input"].device)
        if compiled and self.answers:  # the dry run has none, and one shape
            lengths = {
                "input": int(self.cfg.data.options.length),
                "target": max(len(word) for words in self.answers for word in words),
            }
            filled = {
                name: nn.functional.pad(batch[name], (0, length - batch[name].shape[1]), value=self.pad)
                for name, length in lengths.items()
            }
            batch = batch | filled
        return super().loss(model, batch)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Task, label, what was answered, and mean cross-entropy of the right word's tokens.

        An answer is NaN where the model has diverged and gives no finite numbers to choose by.
        """
        answer, encoded = self._answers(model, batch)
        tokens = batch["target"].ne(self.pad).sum(1)
        return {
            "task": batch["task"],
            "label": batch["label"],
            "answer": answer,
            "loss": self.token_losses(model, batch, encoder_outputs=encoded).sum(1) / tokens,
        }

    def _answers(self, t5: Any, batch: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor]]:
        """The values of the words that greedy decoding chooses, float64 [B], and what the encoder put out.

        Every step goes through the model's own forward, where shards are gathered, and all processes take equally many.
        """
        mask, tasks = batch["input"].ne(self.pad), batch["task"].tolist()
        decoded = torch.full((len(tasks), 1), self.pad, device=mask.device)
        finite = torch.ones(len(tasks), dtype=torch.bool, device=mask.device)
        encoder_inputs: dict[str, Any] = {"input_ids": batch["input"]}
        for _ in range(max(len(word) for words in self.answers for word in words)):
            output = t5(**encoder_inputs, attention_mask=mask, decoder_input_ids=decoded[:, -1:], use_cache=True)
            encoded = (output.encoder_last_hidden_state,)
            encoder_inputs = {"encoder_outputs": encoded, "past_key_values": output.past_key_values}
            next_tokens = [
                self._next(task, tuple(row)) for task, row in zip(tasks, decoded[:, 1:].tolist(), strict=True)
            ]
            allowed_indices = [(row, token) for row, tokens in enumerate(next_tokens) for token in tokens]
            allowed = torch.zeros_like(output.logits[:, -1], dtype=torch.bool)
            allowed[*torch.tensor(allowed_indices).T] = True
            best = output.logits[:, -1].float().masked_fill(~allowed, -math.inf).max(1)
            decoded = torch.cat([decoded, best.indices[:, None]], 1)
            finite &= best.values.isfinite()
        values = []
        for task, row, is_finite in zip(tasks, decoded[:, 1:].tolist(), finite.tolist(), strict=True):
            if is_finite:
                word = tuple(row[: row.index(self.end) + 1])
                values.append(self.tasks[task].values()[self.answers[task].index(word)])
            else:
                values.append(math.nan)
        return torch.tensor(np.array(values), device=mask.device), encoded

    def _next(self, task: int, prefix: tuple[int, ...]) -> list[int]:
        """The tokens that continue a prefix towards one of the task's words; padding after its end."""
        next_tokens = {word[len(prefix)] for word in self.answers[task] if word[: len(prefix)] == prefix != word}
        return sorted(next_tokens) or [self.pad]

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Each task's metrics, their average, and the mean cross-entropy; NaN where an answer is."""
        values: dict[str, float] = {}
        for number, task in enumerate(self.tasks):
            of_task = figures["task"] == number
            answer, label = figures["answer"][of_task].double().numpy(), figures["label"][of_task].double().numpy()
            is_finite = not np.isnan(answer).any()
            for name in task.metrics:
                values[f"{task.name}_{name}"] = METRICS[name](answer, label) if is_finite else math.nan
        return {"average": average(values), **values, "loss": figures["loss"].double().mean().item()}

    def blank_batch(self, size: int) -> Batch:
        """Inputs of full length."""
        return self._blank(size, int(self.cfg.data.options.length), TARGET)

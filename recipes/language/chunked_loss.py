"""Cross-entropy over a large vocabulary, computed in chunks of tokens to save memory.

The logits of 1,024 tokens over 256,000 words take 1 GB in float32, and so does their gradient. Here both exist for one
chunk of tokens at a time: forward keeps one number for each token, backward recomputes the logits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_BYTES = 256 * 2**20  # of float32 logits at a time

# Of transformers' models, those whose logits are what their output layer gives and nothing more.
PLAIN_HEADS = (
    "BertForMaskedLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "OPTForCausalLM",
    "T5ForConditionalGeneration",
)


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, rows: int, ignored: int
    ) -> Tensor:
        ctx.rows, ctx.ignored = rows, ignored
        losses, normalisers = [], []
        for part, its_target in zip(hidden.split(rows), target.split(rows), strict=True):
            logits = F.linear(part, weight, bias).float()
            normalisers.append(logits.logsumexp(1))
            target_logits = logits.gather(1, its_target.clamp(min=0)[:, None])[:, 0]
            losses.append((normalisers[-1] - target_logits).masked_fill(its_target == ignored, 0.0))
        ctx.save_for_backward(hidden, weight, bias, target, torch.cat(normalisers))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden, weight, bias, target, normalisers = ctx.saved_tensors
        gradient = gradients[0].masked_fill(target == ctx.ignored, 0.0)
        of_weight = torch.zeros_like(weight, dtype=torch.float32)
        of_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        of_hidden = []
        parts = (tensor.split(ctx.rows) for tensor in (hidden, target, normalisers, gradient))
        for part, its_target, normaliser, its_gradient in zip(*parts, strict=True):
            of_logits = (F.linear(part, weight, bias).float() - normaliser[:, None]).exp()
            of_logits.scatter_add_(1, its_target.clamp(min=0)[:, None], -torch.ones_like(normaliser)[:, None])
            of_logits *= its_gradient[:, None]
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = of_logits.to(hidden.dtype)
            of_hidden.append(of_logits @ weight)
            of_weight += of_logits.T @ part
        if of_bias is not None:
            of_bias = of_bias.to(bias.dtype)
        return torch.cat(of_hidden), of_weight.to(weight.dtype), of_bias, None, None, None


def token_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, rows: int, ignored: int
) -> Tensor:
    """Negative log likelihood of each target under the softmax of `hidden @ weight.T + bias`, 0 where it is ignored.

    Under autocast products are in its type, as those of a linear layer; sums over chunks are in float32.

    Args:
        hidden: float [N, width].
        weight: float [vocabulary, width].
        bias: float [vocabulary], or None.
        target: int64 [N].
        rows: of logits at a time.
        ignored: the target that counts for nothing, below 0 or a word such as the padding token.

    Returns:
        float32 [N].
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        losses: Tensor = _Losses.apply(hidden, weight, bias, target, rows, ignored)
    return losses


class LossHead(nn.Linear):
    """An output layer that returns losses instead of logits if the model's forward pass was given targets.

    They are computed within its forward pass, since shards are gathered there.
    """

    targets: tuple[Tensor, int, int] | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits; or, with targets [...] of hidden states [..., width], their losses, float32 [...]."""
        if self.targets is None:
            return F.linear(hidden, self.weight, self.bias)
        target, rows, ignored = self.targets
        losses = token_losses(hidden.flatten(0, -2), self.weight, self.bias, target.flatten(), rows, ignored)
        return losses.view(target.shape)


class _WithLosses:
    """A mixin for a model's class: `forward` with targets returns losses."""

    def forward(
        self: Any, *arguments: Any, target: Tensor | None = None, rows: int = 0, ignored: int = -100, **named: Any
    ) -> Any:
        if target is None:
            return super().forward(*arguments, **named)  # type: ignore[misc]
        head = self.get_output_embeddings()
        head.targets = target, rows, ignored
        try:
            return super().forward(*arguments, **named).logits  # type: ignore[misc]
        finally:
            head.targets = None


def teach(model: Any) -> bool:
    """Make a language model return losses by chunks if it is called with targets; returns whether it can."""
    head = model.get_output_embeddings()
    if type(model).__name__ not in PLAIN_HEADS or type(head) is not nn.Linear:
        return False
    head.__class__ = LossHead
    model.__class__ = type(type(model).__name__, (_WithLosses, type(model)), {})
    return True


def of_targets(
    model: Any, target: Tensor, setting: int | None, vocabulary: int | None, ignored: int, **inputs: Any
) -> Tensor:
    """The loss of each target, by chunks if that is set or needed, else from all logits at once.

    Args:
        model: of transformers, wrapped or not.
        target: int64 [B, T].
        setting: `logit_rows`.
        vocabulary: numbers in a row of logits; None where the model knows no chunks.
        ignored: the target that counts for nothing.
        inputs: of the model's forward pass.

    Returns:
        float32 [B, T], 0 where a target is ignored.
    """
    rows = rows_at_a_time(setting, target.numel(), vocabulary)
    if rows is not None:
        losses: Tensor = model(target=target, rows=rows, ignored=ignored, **inputs)
        return losses
    logits = model(**inputs).logits.flatten(0, 1).float()
    return F.cross_entropy(logits, target.flatten(), ignore_index=ignored, reduction="none").view_as(target)


def rows_at_a_time(setting: int | None, tokens: int, vocabulary: int | None) -> int | None:
    """How many rows of logits to hold, or None for all.

    Args:
        setting: the number, 0 for all, None for as many as `CHUNK_BYTES` hold.
        tokens: of a batch.
        vocabulary: numbers in a row; None where the model knows no chunks.
    """
    if vocabulary is None:
        return None
    rows = max(1, CHUNK_BYTES // (4 * vocabulary)) if setting is None else setting
    return rows if 0 < rows < tokens else None

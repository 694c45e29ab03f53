"""Cross-entropy over a large vocabulary, computed in chunks of tokens to save memory.

The logits of 1,024 tokens over 256,000 words take 1 GB in float32, and so does their gradient. Here both exist for one
chunk of tokens at a time: forward keeps one number for each token, backward recomputes the logits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_BYTES = 256 * 2**20  # of float32 logits at a time

# Of transformers' causal models, those whose logits are a linear map of the hidden states and nothing more.
PLAIN_HEADS = ("GPT2LMHeadModel", "GPTNeoXForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "OPTForCausalLM")


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, rows: int, ignored: int) -> Tensor:
        ctx.rows, ctx.ignored = rows, ignored
        losses, normalisers = [], []
        for part, its_target in zip(hidden.split(rows), target.split(rows), strict=True):
            logits = _logits(part, weight)
            normalisers.append(logits.logsumexp(1))
            target_logits = logits.gather(1, its_target.clamp(min=0)[:, None])[:, 0]
            losses.append((normalisers[-1] - target_logits).masked_fill(its_target == ignored, 0.0))
        ctx.save_for_backward(hidden, weight, target, torch.cat(normalisers))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden, weight, target, normalisers = ctx.saved_tensors
        gradient = gradients[0].masked_fill(target == ctx.ignored, 0.0)
        of_weight = torch.zeros_like(weight, dtype=torch.float32)
        of_hidden = []
        parts = (tensor.split(ctx.rows) for tensor in (hidden, target, normalisers, gradient))
        for part, its_target, normaliser, its_gradient in zip(*parts, strict=True):
            of_logits = (_logits(part, weight) - normaliser[:, None]).exp()
            of_logits.scatter_add_(1, its_target.clamp(min=0)[:, None], -torch.ones_like(normaliser)[:, None])
            of_logits = (of_logits * its_gradient[:, None]).to(hidden.dtype)
            of_hidden.append(of_logits @ weight)
            of_weight += of_logits.T @ part
        return torch.cat(of_hidden), of_weight.to(weight.dtype), None, None, None


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    return (hidden @ weight.T).float()


def token_losses(hidden: Tensor, weight: Tensor, target: Tensor, rows: int, ignored: int) -> Tensor:
    """Negative log likelihood of each target under the softmax of `hidden @ weight.T`, 0 where it is to be ignored.

    Under autocast products are in its type, as those of a linear layer; sums over chunks are in float32.

    Args:
        hidden: float [N, width].
        weight: float [vocabulary, width].
        target: int64 [N].
        rows: of logits at a time.
        ignored: the target that counts for nothing, below 0.

    Returns:
        float32 [N].
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        losses: Tensor = _Losses.apply(hidden, weight, target, rows, ignored)
    return losses


class LossHead(nn.Linear):
    """An output layer that can give losses in the place of logits: within its forward pass shards are gathered."""

    def forward(self, hidden: Tensor, target: Tensor | None = None, rows: int = 0, ignored: int = -100) -> Tensor:
        """Logits; or, of targets [...] of hidden states [..., width], their losses, float32 [...]."""
        if target is None:
            return F.linear(hidden, self.weight, self.bias)
        return token_losses(hidden.flatten(0, -2), self.weight, target.flatten(), rows, ignored).view(target.shape)


class _WithLosses:
    """What a causal model's class gets: `forward` with targets gives losses."""

    def forward(self: Any, *arguments: Any, target: Tensor | None = None, rows: int = 0, **named: Any) -> Any:
        if target is None:
            return super().forward(*arguments, **named)  # type: ignore[misc]
        hidden = self.base_model(*arguments, **named)[0]
        return self.get_output_embeddings()(hidden, target, rows)


def teach(model: Any) -> bool:
    """Have a causal model give losses by chunks where it is called with targets; whether it can."""
    head = model.get_output_embeddings()
    if type(model).__name__ not in PLAIN_HEADS or type(head) is not nn.Linear or head.bias is not None:
        return False
    head.__class__ = LossHead
    model.__class__ = type(type(model).__name__, (_WithLosses, type(model)), {})
    return True


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

"""Language models that transformers does not have, in its form."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

ATTENTION_SCALE = 0.12
LARGEST_LOGIT = 15.0
SLOWEST_ROTATION = 1 / 1024  # radians a position
INITIAL_VARIANCE = 0.33  # of a row of weights, over its length: about what nn.Linear draws
Rotation = tuple[Tensor, Tensor]


class SpeedRunGPTConfig(PretrainedConfig):
    """Sizes of a SpeedRunGPT; the defaults are those of the speed-run.

    Raises:
        ValueError: the width is not a multiple of a head's, or that not a multiple of 4.
    """

    model_type = "speed_run_gpt"

    def __init__(
        self,
        vocab_size: int = 50304,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        head_dim: int = 128,
        **settings: Any,
    ) -> None:
        if hidden_size % head_dim or head_dim % 4:
            raise ValueError(
                f"hidden_size={hidden_size} must be a multiple of head_dim={head_dim}, and that a multiple of 4"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.head_dim = head_dim
        super().__init__(**{"tie_word_embeddings": False, **settings})


class SpeedRunGPT(PreTrainedModel):
    """The GPT of the public speed-run for optimizers (github.com/KellerJordan/modded-nanogpt, track 3).

    GPT-2's depth and width with root-mean-square norms, also of the embedding and of each head's queries and keys,
    rotary positions of half of each head's axes, squared ReLU, an output layer of its own and bounded logits.
    """

    config_class = SpeedRunGPTConfig
    base_model_prefix = ""

    def __init__(self, config: SpeedRunGPTConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.embedding_norm = nn.RMSNorm(width)
        self.blocks = nn.ModuleList(_Block(width, config.head_dim) for _ in range(config.num_hidden_layers))
        self.output_norm = nn.RMSNorm(width)
        self.head = _ZeroLinear(width, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        """The layer that computes logits."""
        return self.head

    def _init_weights(self, module: nn.Module) -> None:
        """The initial weights of the speed-run: every block and the output begin as zero."""
        if isinstance(module, _ZeroLinear):
            nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=(INITIAL_VARIANCE / module.in_features) ** 0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        """Tokens, int64 [B, T], to logits, float32 [B, T, vocabulary], each in (-15, 15)."""
        x = self.embedding_norm(self.embedding(input_ids))
        rotation = _rotation(input_ids.shape[1], self.config.head_dim, input_ids.device)
        for block in self.blocks:
            x = block(x, rotation)
        logits = self.head(self.output_norm(x)).float()
        return CausalLMOutput(logits=LARGEST_LOGIT * logits * (logits.square() + LARGEST_LOGIT**2).rsqrt())


class _ZeroLinear(nn.Linear):
    """A linear layer whose weights begin as zero."""


class _Block(nn.Module):
    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = _Attention(width, head_dim)
        self.mlp_norm = nn.RMSNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = _ZeroLinear(4 * width, width)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation)
        return x + self.contract(self.expand(self.mlp_norm(x)).relu().square())


class _Attention(nn.Module):
    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = _ZeroLinear(width, width)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        query, key, value = (
            layer(x).unflatten(2, (-1, self.head_dim)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        query, key = (_rotated(F.rms_norm(part, (self.head_dim,)), rotation) for part in (query, key))
        mixed = F.scaled_dot_product_attention(
            query.type_as(value), key.type_as(value), value, is_causal=True, scale=ATTENTION_SCALE
        )
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output


def _rotation(length: int, head_dim: int, device: torch.device) -> Rotation:
    """Cosines and sines of each position's angles, float32 [T, head_dim / 2]: half of the axes do not turn."""
    turning = SLOWEST_ROTATION ** torch.linspace(0, 1, head_dim // 4, device=device)
    frequencies = torch.cat([turning, torch.zeros_like(turning)])
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    return angles.cos(), angles.sin()


def _rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Vectors [..., T, head_dim] turned by their position's angles, axis i against axis i + head_dim / 2."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)

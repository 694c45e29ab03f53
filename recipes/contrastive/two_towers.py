"""An image tower and a text tower that embed into one space (LiT: Zhai et al. 2022, arXiv:2111.07991)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class TwoTowers(nn.Module):
    """Timm's image model and a pre-norm bidirectional transformer on text, each with a linear projection.

    Args:
        image: the image tower, which returns [B, image width] features.
        text: transformers' RobertaPreLayerNormModel; the feature is that of the first token.
        width: of the common space.
        logit_scale: where the learned factor on cosines, one over the temperature, begins.
        lock_image: keep the image tower as it is: no gradient, no dropout, no running statistics.
        project_image: whether images have a projection too; without, `width` is the tower's.
        micro_batch: embed so many examples at a time and recompute them in the backward pass, so that a large batch
            needs the memory of a small one, for one more forward pass: the gradients of gradient caching (Gao et
            al. 2021, arXiv:2101.06983), by activation checkpointing.
    """

    def __init__(
        self,
        image: nn.Module,
        text: nn.Module,
        *,
        width: int,
        logit_scale: float,
        lock_image: bool,
        project_image: bool,
        micro_batch: int | None,
    ) -> None:
        super().__init__()
        self.image, self.text = image, text
        timm_model: Any = image
        text_config: Any = text.config
        self.image_width = int(getattr(timm_model, "head_hidden_size", None) or timm_model.num_features)
        self.image_projection = projection(self.image_width, width) if project_image else nn.Identity()
        self.text_projection = projection(text_config.hidden_size, width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)))
        self.pad: int = text_config.pad_token_id
        self.lock_image, self.micro_batch = lock_image, micro_batch
        if lock_image:
            image.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TwoTowers":
        """Set the mode of all modules except a locked image tower."""
        super().train(mode)
        if self.lock_image:
            self.image.eval()
        return self

    def features(self, image: Tensor) -> Tensor:
        """The image tower's features of images [B, C, H, W], before any projection: [B, image width]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.lock_image):
            features: Tensor = self.image(image)
        return features

    def embed_image(self, image: Tensor, *, is_feature: bool = False) -> Tensor:
        """Embeddings of length 1, [B, width], of pictures, or of their features."""
        return self._embed_image(image, is_feature)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """Embeddings of length 1, [B, width], of token ids [B, length]."""
        return self._embed_text(tokens)

    def _embed_image(self, image: Tensor, is_feature: bool) -> Tensor:
        features = image if is_feature else self.features(image)
        return nn.functional.normalize(self.image_projection(features).float(), dim=1)

    def _embed_text(self, tokens: Tensor) -> Tensor:
        # Spelled out for every pair of positions: of a mask with two axes the values are read, which a dry run cannot.
        mask = (tokens != self.pad)[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
        hidden = self.text(input_ids=tokens, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(self.text_projection(hidden[:, 0]).float(), dim=1)

    def forward(self, image: Tensor, tokens: Tensor, *, is_feature: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of images and texts, and the scale."""
        scale = self.log_scale.exp().reshape(())  # in shards it has an axis
        embed_image: Callable[[Tensor], Tensor] = lambda part: self._embed_image(part, is_feature)  # noqa: E731
        return self._in_parts(embed_image, image), self._in_parts(self._embed_text, tokens), scale

    def _in_parts(self, embed: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        if self.micro_batch is None or not torch.is_grad_enabled():
            return embed(rows)
        parts: list[Any] = [checkpoint(embed, part, use_reentrant=False) for part in rows.split(self.micro_batch)]
        return torch.cat(parts)


def projection(features: int, width: int) -> nn.Linear:
    """A linear map without a bias, initialised so that it keeps the scale of its input."""
    linear = nn.Linear(features, width, bias=False)
    nn.init.normal_(linear.weight, std=features**-0.5)
    return linear

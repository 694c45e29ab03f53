"""Frozen networks of text-to-image models: text encoders that condition them, and scorers of image and text.

At embedded scale both are our own LiT run (recipes/contrastive/recipe.py); at the paper's, T5 encodes and CLIP scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.data.hub import first_line
from recipes.data.pairs.pairs import Encoder
from recipes.data.text import bpe
from recipes.diffusion import feature_extractors
from recipes.errors import ConfigError
from recipes.training.pretrained_weights import weights_fingerprint


@dataclass(frozen=True)
class TextEncoder:
    """A frozen network that reads captions.

    Attributes:
        width: of its states.
        tokens: texts to rows of token ids, int64 [N, L].
        read: ids [B, L] to states [B, L, width] and which of them count, bool [B, L].
        fingerprint: of its weights.
    """

    width: int
    tokens: Callable[[Sequence[str]], Tensor]
    read: Callable[[Tensor], tuple[Tensor, Tensor]]
    fingerprint: str


@dataclass(frozen=True)
class Scorer:
    """A frozen network that says how well an image fits a text.

    Attributes:
        metric: `clip_score` of CLIP, `lit_score` of a run of ours: the mean cosine of the two embeddings.
        tokens: texts to rows of token ids, int64 [N, L].
        score: images [B, C, H, W] in [-1, 1] and ids [B, L] to cosines [B].
        fingerprint: of its weights.
    """

    metric: str
    tokens: Callable[[Sequence[str]], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    fingerprint: str


@dataclass(frozen=True)
class LitNetworks:
    """A LiT run of ours with the tokenizer of its captions: text encoder, scorer and feature extractor in one."""

    config: DictConfig
    towers: Any  # TwoTowers
    encoder: Encoder
    fingerprint: str  # of the towers' weights

    @classmethod
    def of(cls, cfg: DictConfig, name: str, tokenizer: Tokenizer) -> "LitNetworks":
        """The run in a folder.

        Raises:
            ConfigError: there is none, or it saw other data.
        """
        config, towers = feature_extractors.load_trained(feature_extractors.run_folder(name))
        if config.task.recipe != "contrastive.recipe":
            raise ConfigError(f"{name} is a run of {config.task.name}, expected one of LiT")
        if not feature_extractors.has_same_data(config, cfg):
            raise ConfigError(
                f"{name} is a LiT run on {config.data.name} with {dict(config.data.options)}, this run is on "
                f"{cfg.data.name} with {dict(cfg.data.options)}"
            )
        return cls(config, towers, Encoder(tokenizer, config.model.args.length), weights_fingerprint(towers))

    def text_encoder(self) -> TextEncoder:
        """The text tower's states, before they become one embedding."""

        def read(tokens: Tensor) -> tuple[Tensor, Tensor]:
            seen = tokens != self.encoder.pad
            mask = seen[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)
            return self._on(tokens).text(input_ids=tokens, attention_mask=mask).last_hidden_state, seen

        return TextEncoder(int(self.config.model.args.text.hidden_size), self.encoder, read, self.fingerprint)

    def scorer(self) -> Scorer:
        """Cosines of LiT's embeddings."""

        def score(images: Tensor, tokens: Tensor) -> Tensor:
            towers = self._on(images)
            return (towers.embed_image(self._enlarged(images)) * towers.embed_text(tokens)).sum(1)

        return Scorer("lit_score", self.encoder, score, self.fingerprint)

    def feature_extractor(self) -> feature_extractors.FeatureExtractor:
        """The locked image tower's features."""

        def extract(images: Tensor) -> tuple[Tensor, None]:
            return self._on(images).features(self._enlarged(images)), None

        return feature_extractors.FeatureExtractor("frechet_own_features", self.towers, extract, self.fingerprint)

    def _enlarged(self, images: Tensor) -> Tensor:
        return feature_extractors.enlarged(images, int(self.config.model.args.image.args.img_size))

    def _on(self, tensor: Tensor) -> Any:
        return self.towers.to(tensor.device)


def text_encoder(name: str, length: int, lit: Callable[[str], LitNetworks]) -> TextEncoder:
    """The encoder that model.args.text names: the folder of a LiT run, or T5 in a folder or on the hub.

    Raises:
        ConfigError: it does not exist.
    """
    return lit(name).text_encoder() if feature_extractors.is_run_folder(name) else _t5(name, length)


def scorer(name: str, lit: Callable[[str], LitNetworks]) -> Scorer:
    """The scorer that model.args.scorer names: the folder of a LiT run, or CLIP in a folder or on the hub."""
    return lit(name).scorer() if feature_extractors.is_run_folder(name) else _clip(name)


def _t5(name: str, length: int) -> TextEncoder:
    from transformers import T5EncoderModel

    model = _loaded(T5EncoderModel, name, "model.args.text", "T5's weights")
    tokenizer = bpe.published(name)
    pad = int(model.config.pad_token_id)

    def tokens(texts: Sequence[str]) -> Tensor:
        return _padded([encoding.ids for encoding in tokenizer.encode_batch(list(texts))], length, pad)

    def read(ids: Tensor) -> tuple[Tensor, Tensor]:
        mask = ids != pad
        return model.to(ids.device)(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask

    return TextEncoder(int(model.config.d_model), tokens, read, weights_fingerprint(model))


def _clip(name: str) -> Scorer:
    from transformers import CLIPModel

    model = _loaded(CLIPModel, name, "model.args.scorer", "CLIP's weights")
    tokenizer = bpe.published(name)
    length, side = model.config.text_config.max_position_embeddings, model.config.vision_config.image_size
    pad = int(model.config.text_config.eos_token_id or 0)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]  # of CLIP's training images
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]

    def tokens(texts: Sequence[str]) -> Tensor:
        return _padded([encoding.ids for encoding in tokenizer.encode_batch(list(texts))], length, pad)

    def score(images: Tensor, ids: Tensor) -> Tensor:
        model.to(images.device)
        large = F.interpolate((images + 1) / 2, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (large.expand(-1, 3, -1, -1) - mean.to(images.device)) / deviation.to(images.device)
        embeddings = model(input_ids=ids, pixel_values=pixels)
        return F.cosine_similarity(embeddings.image_embeds, embeddings.text_embeds)

    return Scorer("clip_score", tokens, score, weights_fingerprint(model))


def _loaded(model_class: Any, name: str, setting: str, description: str) -> Any:
    from huggingface_hub import constants

    from recipes.data.hub import reachable

    offline = not Path(name).is_dir() and (constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT))
    try:
        model, info = model_class.from_pretrained(name, local_files_only=offline, output_loading_info=True)
    except Exception as error:  # transformers has no common error
        reason = "the hub cannot be reached and the cache has no copy" if offline else first_line(error)
        raise ConfigError(
            f"{setting}={name}: {description} are not available ({reason}); name a folder that transformers saved"
        ) from None
    if missing := sorted(info["missing_keys"]):  # transformers would use random weights instead
        raise ConfigError(
            f"{setting}={name} holds other weights than {description}: {len(missing)} lack, {missing[0]} among them"
        )
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen


def _padded(rows: list[list[int]], length: int, pad: int) -> Tensor:
    """Token ids int64 [rows, length]; of longer ones the last token is kept, which ends a text."""
    padded = torch.full((len(rows), length), pad)
    for row, ids in enumerate(rows):
        kept = ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]
        padded[row, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
    return padded

"""Text to image by diffusion: a base model of low resolution, and super-resolution (Lion paper, section 4.3, Figure 6).

Data: images with captions. Model: a U-Net that attends to the states of a frozen text encoder; captions are dropped at
random in training, for classifier-free guidance. Loss and metric: those of class_conditional.py, and the score of a
frozen image and text model (CLIP, or a LiT trained here). A super-resolution model also gets the image at the lower
resolution with a little noise.
"""

import os
from functools import cache
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.data.images.transforms import pixels
from recipes.diffusion import class_conditional, feature_extractors, text_encoders, unet
from recipes.diffusion.caption_rows import CaptionRows, CaptionStates, captioned_rows
from recipes.diffusion.rows import row_noise
from recipes.diffusion.samplers import Denoiser, grid, guided
from recipes.errors import ConfigError
from recipes.protocol import load_data
from recipes.settings.arguments import is_count, is_number
from recipes.training.sampler import Batch, Examples

ARGS = (
    "unet",
    "noise",
    "sampler",
    "text",  # the frozen encoder: run:command of a LiT run, a folder that transformers saved, or a name on the hub
    "text_length",  # tokens
    "drop_text",  # share of the captions that training leaves out
    "guidance",  # 1 is none
    "low_size",  # super-resolution: side in pixels of the picture that is given; None for a base model
    "low_noise",  # deviation of the noise on it (Ho et al. 2022, arXiv:2106.15282)
    "judge",
    "scorer",
    "reference",
    "samples",
)
SAMPLES_SHOWN = 64  # pictures of the sample grid
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Recipe(class_conditional.Recipe):
    """One text-to-image U-Net on one set of pairs."""

    learns_from = "images with captions"
    argument_names = ARGS
    network_arguments = ("text", "judge", "scorer")
    unet = staticmethod(unet.text_unet)

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        args = self.args
        if not is_number(args["drop_text"]) or not 0 <= args["drop_text"] < 1:
            raise ConfigError(f"model.args.drop_text={args['drop_text']} must be at least 0 and below 1")
        for name in ("guidance", "low_noise"):
            if not is_number(args[name]) or args[name] < 0:
                raise ConfigError(f"model.args.{name}={args[name]} must be a number of at least 0")
        if not is_count(args["text_length"]):
            raise ConfigError(f"model.args.text_length={args['text_length']} must be a whole number of at least 1")
        low, size = args["low_size"], args["unet"]["size"]
        if any(side * side == args["text_length"] for side in args["unet"]["attention"]):
            raise ConfigError(
                f"model.args.text_length={args['text_length']} is the number of pixels of a level that attends; then "
                "diffusers does not tell the text's mask from the image's: take one token more or less"
            )
        if low is not None and (not is_count(low) or size % low):
            raise ConfigError(f"model.args.low_size={low} must divide model.args.unet.size={size}, or be null")
        channels = args["unet"]["image_channels"] if low is not None else 0
        if args["unet"].get("condition_channels", 0) != channels:
            raise ConfigError(
                f"model.args.unet.condition_channels must be {channels} with model.args.low_size={low}: the channels "
                "of the picture that is given"
            )
        self.scorer: text_encoders.Scorer | None = None
        self.text: text_encoders.TextEncoder | None = None
        self.states: CaptionStates | None = None
        self.empty_caption = torch.empty(0, dtype=torch.int64)  # the tokens of no caption
        self.sample_batch: Batch = {}

    def examples(self) -> dict[str, Examples]:
        """Pairs; for evaluation, pairs with fixed noise."""
        captioned_sets = self.cfg.data.options.get("retrieval") or {}
        if self.cfg.data.module == "pairs.image_text" and "val" not in captioned_sets:
            raise ConfigError(
                "set data.options.retrieval.val to images with captions, as '+data.options.retrieval.val={path: "
                "/data/coco_karpathy, split: validation, caption_column: captions}'; likewise test"
            )
        size = self.shape[-1]
        if self.cfg.data.module == "pairs.image_text" and self.cfg.data.options.get("size") != size:
            raise ConfigError(
                f"set data.options.size={size}, the model's: photographs are resized and cropped as they are read"
            )
        data: Any = load_data(self.cfg)  # PairData
        self.check_samples(data.probes)
        channels = data.train.images.batch([0])[0].shape[1]
        if channels != self.shape[0]:
            raise ConfigError(
                f"data={self.cfg.data.name} has images of {channels} channels, the model "
                f"model.args.unet.image_channels={self.shape[0]}"
            )

        @cache
        def lit(name: str) -> text_encoders.LitNetworks:
            return text_encoders.LitNetworks.of(self.cfg, name, data.tokenizer)

        self.text = text_encoders.text_encoder(self.args["text"], self.args["text_length"], lit)
        if self.text.width != self.args["unet"]["text_width"]:
            raise ConfigError(
                f"model.args.text={self.args['text']} has states of {self.text.width} numbers: set "
                f"model.args.unet.text_width={self.text.width}"
            )
        self.scorer = text_encoders.scorer(self.args["scorer"], lit)
        name = self.args["judge"]
        is_scorer = name == self.args["scorer"]
        extractor = lit(name).feature_extractor() if is_scorer else feature_extractors.load(self.cfg, name)
        self.set_feature_extractor(extractor)
        self.empty_caption = self.text.tokens([""])[0]
        rows_of_split = {"train": CaptionRows(data.train.images, data.train.captions, size, self.text, None)}
        for split, probe in data.probes.items():
            if (rows := captioned_rows(probe, size, self.text, self.scorer)) is not None:
                rows_of_split[split] = rows
        self.states = CaptionStates(self.text, [rows.captions for rows in rows_of_split.values()])
        for rows in rows_of_split.values():
            rows.states = self.states
        examples_of_split: dict[str, Examples] = {
            split: rows if split == "train" else self.evaluation_rows(split, rows)
            for split, rows in rows_of_split.items()
        }
        if "val" not in examples_of_split:
            raise ConfigError(f"data={self.cfg.data.name} has no set val with captions: see data.options.retrieval")
        self.sample_batch = examples_of_split["val"].__getitems__([(i, i) for i in range(SAMPLES_SHOWN)])
        return examples_of_split

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean square on the target, some captions left out."""
        if "tokens" in batch and self.args["drop_text"]:
            dropped = torch.rand(len(batch["tokens"]), 1, device=batch["tokens"].device) < self.args["drop_text"]
            self.empty_caption = self.empty_caption.to(dropped.device)
            batch = batch | {"tokens": torch.where(dropped, self.empty_caption, batch["tokens"])}
            if "caption" in batch:
                batch["caption"] = batch["caption"].masked_fill(dropped[:, 0], CaptionStates.NONE)
        return super().loss(model, batch)

    def conditions(self, batch: Batch) -> dict[str, Tensor]:
        """The text's states, and for super-resolution the picture at the lower resolution."""
        if "states" in batch:  # the dry run's
            states, mask = batch["states"], batch["seen"]
        else:
            assert self.states is not None, "examples() comes first"
            states, mask = self.states.of(batch)
        conditions = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        return conditions | ({} if self.args["low_size"] is None else {"low": self._low(batch)})

    def _low(self, batch: Batch) -> Tensor:
        """The picture at the lower resolution, noisy, enlarged again: [B, C, size, size]."""
        x, low = batch["image"], self.args["low_size"]
        small = F.avg_pool2d(x, x.shape[-1] // low)
        noise = torch.randn_like(small)
        if "seed" in batch:  # in evaluation each row has its fixed noise
            noise = row_noise(batch["seed"].tolist(), small.shape[1:], stream=2).to(x.device)
        return F.interpolate(small + self.args["low_noise"] * noise, x.shape[-1], mode="bilinear")

    def predict(self, model: nn.Module, z: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        """What the model predicts of noisy images."""
        text = {name: value for name, value in conditions.items() if name != "low"}
        return model(torch.cat([z, conditions["low"]], 1) if "low" in conditions else z, t, **text).sample

    def denoiser(self, model: nn.Module, batch: Batch) -> Denoiser:
        """The model guided by a batch's captions."""
        without = batch | {"tokens": self.empty_caption.to(batch["tokens"].device).expand_as(batch["tokens"])}
        if "caption" in batch:
            without["caption"] = torch.full_like(batch["caption"], CaptionStates.NONE)
        return guided(super().denoiser(model, batch), super().denoiser(model, without), self.args["guidance"])

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss at fixed noise levels; features of what is made, and how well it fits its caption."""
        figures = {"loss": self._fixed_losses(model, batch)}
        if self._samples_from(model):
            assert self.feature_extractor is not None, "examples() comes first"
            assert self.scorer is not None
            images = self.generate(model, batch)
            figures["made"] = self.feature_extractor(images)[0]
            if self.reference is None:
                figures["real"] = self.feature_extractor(batch["image"])[0]
            with torch.autocast(images.device.type, enabled=False):
                figures["score"] = self.scorer.score(images, batch["scored"])
                figures["real_score"] = self.scorer.score(batch["image"], batch["scored"])
        return figures

    def metrics(self, figures: dict[str, Tensor]) -> dict[str, float]:
        """Those of image synthesis, and the mean score of what was made and of the split's own images."""
        values = super().metrics(figures)
        if "score" in figures and self.scorer is not None:
            values[self.scorer.metric] = figures["score"].double().mean().item()
            values[f"real_{self.scorer.metric}"] = figures["real_score"].double().mean().item()
        return values

    def pictures(self, model: nn.Module, device: torch.device) -> dict[str, np.ndarray]:
        """Grids of samples for validation captions and of the images that these are of."""
        batch = {name: pixels(value.to(device)) for name, value in self.sample_batch.items()}
        columns = int(SAMPLES_SHOWN**0.5)
        return {"samples": grid(self.generate(model, batch), columns), "originals": grid(batch["image"], columns)}

    def blank_batch(self, size: int) -> Batch:
        """Zeros of an image's shape, and states instead of the frozen text encoder's."""
        length, width = self.args["text_length"], self.args["unet"]["text_width"]
        return {
            "image": torch.zeros(size, *self.shape),
            "states": torch.zeros(size, length, width),
            "seen": torch.ones(size, length, dtype=torch.bool),
        }

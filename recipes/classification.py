"""Image classification: ViT, ResNet, MLP-Mixer and CoAtNet (Lion paper, section 4.1, Tables 2, 3 and 7).

Data: images and labels in arrays (embedded) or as files (paper). Model: timm's, by name. Loss: softmax
cross-entropy, with soft targets under Mixup. Metric: top-1 accuracy on held-out images.
"""

import dataclasses
import difflib
import os
from typing import Any, Literal

import numpy as np
import timm
import torch
from omegaconf import DictConfig, OmegaConf
from timm.data.auto_augment import rand_augment_transform
from timm.data.mixup import Mixup
from timm.layers import resample_abs_pos_embed
from torch import nn
from torch.nn import functional as F

import recipes.image_models  # noqa: F401 (registers its models with timm)
from recipes import protocol
from recipes.data.images.arrays import ImageArrays
from recipes.data.images.batches import AugmentedArrays, DecodedImages, TensorImages
from recipes.errors import ConfigError
from recipes.protocol import load_data
from recipes.settings.from_data import shift_problem
from recipes.training.pretrained_weights import load_matching
from recipes.training.sampler import Batch, Examples

# Splits beyond this name are further test sets (ImageNet-ReaL, ImageNet-V2).
TRAIN = "train"


class Recipe(protocol.Recipe):
    """One model of the family on one data set."""

    learns_from = "images with labels"
    metric = "accuracy"
    goal: Literal["max", "min"] = "max"

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.args: dict[str, Any] = OmegaConf.to_container(cfg.model.args)  # type: ignore[assignment]
        self.mixup = None
        if cfg.augment.mixup > 0:
            # timm smooths labels by 0.1 unless told otherwise; the paper's settings have no label smoothing (Table 12).
            self.mixup = Mixup(cfg.augment.mixup, label_smoothing=0.0, num_classes=self.args["num_classes"])
        if cfg.augment.randaugment:
            try:
                rand_augment_transform(cfg.augment.randaugment, {})
            except (AssertionError, KeyError, ValueError):
                raise ConfigError(
                    f"augment.randaugment={cfg.augment.randaugment} cannot be read; expected timm's notation, "
                    "such as rand-m15-mmax15-n2-p1"
                ) from None

    def examples(self) -> dict[str, Examples]:
        """Tensors in memory for arrays, decoded and transformed images for files."""
        parts = self.cfg.accumulate * int(os.environ.get("WORLD_SIZE", "1"))
        if self.mixup is not None and self.cfg.batch_size // parts % 2:
            raise ConfigError(
                f"batch_size={self.cfg.batch_size} gives each process {self.cfg.batch_size // parts} images at a "
                f"time; augment.mixup mixes pairs: choose a multiple of {2 * parts}"
            )
        splits = load_data(self.cfg)
        self._check_fit(splits[TRAIN])
        batches: dict[str, Examples] = {}
        for name, split in splits.items():
            if not isinstance(split, ImageArrays):
                batches[name] = DecodedImages(
                    split,
                    image_size(self.cfg),
                    train=name == TRAIN,
                    randaugment=self.cfg.augment.randaugment,
                    seed=self.cfg.seed,
                )
            elif name == TRAIN and self.cfg.augment.randaugment:
                augment = self.cfg.augment
                batches[name] = AugmentedArrays(
                    self._padded(split), augment.randaugment, augment.shift, self.cfg.seed, augment.flip
                )
            else:
                shift = self.cfg.augment.shift if name == TRAIN else 0
                flip = self.cfg.augment.flip and name == TRAIN
                batches[name] = TensorImages(self._padded(split), shift, self.cfg.seed, flip)
        return batches

    def _check_fit(self, train: Any) -> None:
        """Refuse a model that the training images do not fit."""
        name, classes = self.cfg.data.name, len(train.class_names)
        if classes != self.args.get("num_classes"):
            raise ConfigError(
                f"data={name} has {classes} classes, model.args.num_classes={self.args.get('num_classes')}: set "
                f"model.args.num_classes={classes}"
            )
        arrays = isinstance(train, ImageArrays)
        channels, model_channels = train.images.shape[3] if arrays else 3, self.args.get("in_chans", 3)
        if channels != model_channels:
            raise ConfigError(
                f"data={name} has images of {channels} channels, the model model.args.in_chans={model_channels}: set "
                f"model.args.in_chans={channels}"
            )
        if not arrays:
            return
        side, size, shift = train.images.shape[1], self.args.get("img_size"), self.cfg.augment.shift
        if size is not None and side > size:
            raise ConfigError(
                f"data={name} has images of {side} pixels a side, the model model.args.img_size={size}: set "
                f"model.args.img_size={side}, or +data.options.size={size} where the data take it"
            )
        side = max(side, size or 0)
        if problem := shift_problem(shift, side):
            raise ConfigError(problem)

    def _padded(self, arrays: ImageArrays) -> ImageArrays:
        """Arrays with a black border up to the model's image size, where that is larger."""
        border = (self.args.get("img_size") or 0) - arrays.images.shape[1]
        if border <= 0:
            return arrays
        before, after = border // 2, border - border // 2
        images = np.pad(arrays.images, ((0, 0), (before, after), (before, after), (0, 0)))
        return dataclasses.replace(arrays, images=images)

    def model(self) -> nn.Module:
        """A timm model without pretrained weights: a registered name, or a class of timm.models with all arguments."""
        name = self.cfg.model.name
        if not timm.is_model(name) and not hasattr(timm.models, name):
            similar = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3)) or "see timm.list_models()"
            raise ConfigError(f"model.name={name} is not a timm model; similar: {similar}")
        try:
            if timm.is_model(name):
                model: nn.Module = timm.create_model(name, pretrained=False, **self.args)
            else:
                model = getattr(timm.models, name)(**self.args)
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"model.name={name} does not take these model.args: {error}") from None
        parts = self.cfg.accumulate * int(os.environ.get("WORLD_SIZE", "1"))
        if self.cfg.batch_size <= parts and any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()
        ):
            raise ConfigError(
                f"batch_size={self.cfg.batch_size} gives each process one image at a time, and {name} has batch norm, "
                f"which needs two: choose at least {2 * parts}"
            )
        return model

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Load another run's weights: resample position embeddings; a head for other classes stays random."""
        timm_model: Any = model
        model_state = model.state_dict()
        position = weights.get("pos_embed")
        if position is not None and "pos_embed" in model_state and position.shape != model_state["pos_embed"].shape:
            grid = timm_model.patch_embed.grid_size
            prefix = int(getattr(model, "num_prefix_tokens", 0))
            weights["pos_embed"] = resample_abs_pos_embed(position, list(grid), num_prefix_tokens=prefix)
        head = [
            name
            for name in model_state
            if name.startswith((getattr(model, "default_cfg", None) or {}).get("classifier", "head"))
        ]
        if any(name in weights and weights[name].shape != model_state[name].shape for name in head):
            weights = {name: value for name, value in weights.items() if name not in head}
        load_matching(model, weights, self.cfg.init_from, self.cfg.model.name, optional=head)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean softmax cross-entropy."""
        image, label = batch["image"], batch["label"]
        if self.mixup is not None and len(image) % 2 == 0:  # odd ones come from the dry run alone
            image, label = self.mixup(image, label)
        return {"loss": F.cross_entropy(model(image), label)}

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross-entropy and whether the top class is right; a row of several labels accepts any of them."""
        logits, label = model(batch["image"]).float(), batch["label"]
        top = logits.argmax(1)
        if label.ndim == 2:
            return {"correct": label.gather(1, top[:, None])[:, 0].float()}
        return {"loss": F.cross_entropy(logits, label, reduction="none"), "correct": (top == label).float()}

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Means over the split."""
        values = {"accuracy": figures["correct"].double().mean().item()}
        if "loss" in figures:
            values["loss"] = figures["loss"].double().mean().item()
        return values

    def blank_batch(self, size: int) -> Batch:
        """Zeros of an image's shape."""
        channels = self.args.get("in_chans", 3)
        side = image_size(self.cfg)
        return {
            "image": torch.zeros(size, channels, side, side),
            "label": torch.zeros(size, dtype=torch.long),
        }


def image_size(cfg: DictConfig) -> int:
    """Pixels a side: the model's argument, data.options.size, or what timm's model was published for."""
    if size := cfg.model.args.get("img_size") or cfg.data.options.get("size"):
        return int(size)
    published = timm.get_pretrained_cfg(cfg.model.name)
    return int(published.input_size[-1]) if published else 224

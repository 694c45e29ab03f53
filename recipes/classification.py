"""Image classification: ViT, ResNet, MLP-Mixer and CoAtNet (Lion paper, section 4.1, Tables 2, 3 and 7).

Data: images and labels in arrays (embedded) or as files (paper). Model: timm's, by name. Loss: softmax
cross-entropy, with Mixup's soft targets where it is on. Metric: top-1 accuracy on images that no weight has seen.
"""

import dataclasses
import difflib
import os
from collections.abc import Sequence
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

from recipes.data.images.arrays import ImageArrays
from recipes.errors import ConfigError
from recipes.protocol import load_data
from recipes.training.sampler import Batch, Examples, Key, draw

# Splits beyond this name are further test sets (ImageNet-ReaL, ImageNet-V2).
TRAIN = "train"


class Recipe:
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
        together = self.cfg.accumulate * int(os.environ.get("WORLD_SIZE", "1"))
        if self.mixup is not None and self.cfg.batch_size // together % 2:
            raise ConfigError(
                f"batch_size={self.cfg.batch_size} gives each process {self.cfg.batch_size // together} images at a "
                f"time; augment.mixup mixes pairs: choose a multiple of {2 * together}"
            )
        splits = load_data(self.cfg)
        self._check_fit(splits[TRAIN])
        wrapped: dict[str, Examples] = {}
        for name, split in splits.items():
            if not isinstance(split, ImageArrays):
                wrapped[name] = DecodedImages(split, self.cfg, train=name == TRAIN)
            elif name == TRAIN and self.cfg.augment.randaugment:
                wrapped[name] = AugmentedArrays(self._padded(split), self.cfg.augment, self.cfg.seed)
            else:
                shift = self.cfg.augment.shift if name == TRAIN else 0
                wrapped[name] = TensorImages(self._padded(split), shift, self.cfg.seed)
        return wrapped

    def _check_fit(self, train: Any) -> None:
        """Refuse a model that the training images do not fit."""
        name, classes = self.cfg.data.name, len(train.class_names)
        if classes != self.args.get("num_classes"):
            raise ConfigError(
                f"data={name} has {classes} classes, model.args.num_classes={self.args.get('num_classes')}: set "
                f"model.args.num_classes={classes}"
            )
        arrays = isinstance(train, ImageArrays)
        channels, own = train.images.shape[3] if arrays else 3, self.args.get("in_chans", 3)
        if channels != own:
            raise ConfigError(
                f"data={name} has images of {channels} channels, the model model.args.in_chans={own}: set "
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
        if shift > side // 2:
            raise ConfigError(
                f"augment.shift={shift} moves images of {side} pixels out of sight: choose at most {side // 2}"
            )

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
            near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3)) or "see timm.list_models()"
            raise ConfigError(f"model.name={name} is no timm model; near it: {near}")
        try:
            if timm.is_model(name):
                model: nn.Module = timm.create_model(name, pretrained=False, **self.args)
            else:
                model = getattr(timm.models, name)(**self.args)
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"model.name={name} does not take these model.args: {error}") from None
        together = self.cfg.accumulate * int(os.environ.get("WORLD_SIZE", "1"))
        if self.cfg.batch_size <= together and any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()
        ):
            raise ConfigError(
                f"batch_size={self.cfg.batch_size} gives each process one image at a time, and {name} has batch norm, "
                f"which needs two: choose at least {2 * together}"
            )
        return model

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Take another run's weights, resample position embeddings, draw the head of other classes anew."""
        timm_model: Any = model
        own = model.state_dict()
        position = weights.get("pos_embed")
        if position is not None and "pos_embed" in own and position.shape != own["pos_embed"].shape:
            grid = timm_model.patch_embed.grid_size
            prefix = int(getattr(model, "num_prefix_tokens", 0))
            weights["pos_embed"] = resample_abs_pos_embed(position, list(grid), num_prefix_tokens=prefix)
        head = [
            name
            for name in own
            if name.startswith((getattr(model, "default_cfg", None) or {}).get("classifier", "head"))
        ]
        if any(name in weights and weights[name].shape != own[name].shape for name in head):
            weights = {name: value for name, value in weights.items() if name not in head}
        wrong = [
            name
            for name in {*own, *weights}
            if (name not in own or name not in weights or own[name].shape != weights[name].shape)
            and not (name in head and name not in weights)
        ]
        if wrong:
            raise ConfigError(
                f"init_from={self.cfg.init_from} is of another model than {self.cfg.model.name}: "
                f"{len(wrong)} tensors differ, {sorted(wrong)[0]} among them"
            )
        model.load_state_dict(weights, strict=False)

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


def normalised(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, C] to float32 [N, C, H, W] in [-1, 1], the value range of big_vision's recipes."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(127.5).sub_(1)


def offsets(keys: Sequence[Key], shift: int, seed: int) -> torch.Tensor:
    """Whole-pixel translations in [0, 2 shift], one pair an example: a hash of the seed and its position.

    A counter-based hash (splitmix64) instead of a generator, so that a batch is one array operation and an example
    is moved the same way whichever process loads it. The low 24 bits of the seed count in steps of 2^40 positions,
    those above are hashed into the result, so that no two seeds share their translations.
    """
    positions = np.array([position for position, _ in keys], dtype=np.uint64)
    low, high = seed % (1 << 24), (seed >> 24) % (1 << 64)
    with np.errstate(over="ignore"):
        word = _mixed(positions + np.uint64(low) * np.uint64(1 << 40) + np.uint64(1))
        if high:
            word = _mixed(word ^ _mixed(np.array(high, np.uint64)))
    span = np.uint64(2 * shift + 1)
    pairs = np.stack([word % span, (word >> np.uint64(32)) % span], axis=1)
    return torch.from_numpy(pairs.astype(np.int64))


def _mixed(word: np.ndarray) -> np.ndarray:
    """The hash splitmix64 of uint64 words."""
    word = word * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def shifted(image: torch.Tensor, offset: torch.Tensor, shift: int) -> torch.Tensor:
    """Each image [B, C, H, W] cut from itself with a black border of `shift` pixels, at its own offset [B, 2]."""
    batch, channels, height, width = image.shape
    padded = F.pad(image, (shift, shift, shift, shift), value=-1.0)
    rows = (offset[:, :1] + torch.arange(height))[:, None, :, None]
    columns = (offset[:, 1:] + torch.arange(width))[:, None, None, :]
    examples, planes = torch.arange(batch)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[examples, planes, rows, columns]


class TensorImages:
    """Arrays held as normalised tensors: a batch is one indexing, and one more where images are shifted."""

    def __init__(self, arrays: ImageArrays, shift: int = 0, seed: int = 0) -> None:
        self.image, self.label = normalised(arrays.images), torch.from_numpy(arrays.labels)
        self.shift, self.seed = shift, seed
        self._fingerprint = arrays.fingerprint()

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = torch.tensor([index for _, index in keys])
        image = self.image[index]
        if self.shift:
            image = shifted(image, offsets(keys, self.shift, self.seed), self.shift)
        return {"image": image, "label": self.label[index]}

    def fingerprint(self) -> str:
        """The arrays' own."""
        return self._fingerprint


class AugmentedArrays(TensorImages):
    """Arrays under RandAugment, drawn anew for each position in the run."""

    def __init__(self, arrays: ImageArrays, augment: DictConfig, seed: int) -> None:
        super().__init__(arrays, augment.shift, seed)
        self.images = arrays.images
        self.transform = rand_augment_transform(augment.randaugment, {"img_mean": (0, 0, 0)})

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        image = normalised(np.stack([self._augmented(position, index) for position, index in keys]))
        if self.shift:
            image = shifted(image, offsets(keys, self.shift, self.seed), self.shift)
        return {"image": image, "label": self.label[torch.tensor([index for _, index in keys])]}

    def _augmented(self, position: int, index: int) -> np.ndarray:
        from PIL import Image

        pixels = self.images[index]
        image = Image.fromarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels)
        return np.asarray(draw(self.transform, image, self.seed, position))[..., : pixels.shape[2]]


class DecodedImages:
    """Image files, decoded and transformed one by one; the draws follow from the position."""

    def __init__(self, images: Any, cfg: DictConfig, *, train: bool) -> None:
        from recipes.data.images.examples import for_size
        from recipes.data.images.transforms import eval_transform, train_transform

        size = image_size(cfg)
        self.images, self.seed = for_size(images, size), cfg.seed
        self.transform = train_transform(size, cfg.augment.randaugment) if train else eval_transform(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = [], []
        for position, index in keys:
            image, label = self.images[index]
            images.append(draw(self.transform, image, self.seed, position))
            labels.append(label)
        return {"image": torch.stack(images), "label": torch.as_tensor(np.asarray(labels))}

    def fingerprint(self) -> str:
        """The data set's own."""
        return self.images.fingerprint()

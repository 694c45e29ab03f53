"""Image classification: ViT, ResNet, MLP-Mixer and CoAtNet (Lion paper, section 4.1, Tables 2, 3 and 7).

Data: images and labels in arrays (embedded) or as files (paper). Model: timm's, by name. Loss: softmax
cross-entropy, with Mixup's soft targets where it is on. Metric: top-1 accuracy on images that no weight has seen.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import timm
import torch
from omegaconf import DictConfig, OmegaConf
from timm.data.mixup import Mixup
from timm.layers import resample_abs_pos_embed
from torch import nn
from torch.nn import functional as F

from recipes.data.arrays import ImageArrays
from recipes.errors import ConfigError
from recipes.loading import Batch, Examples, Key, draw
from recipes.recipe import load_data

# Splits beyond this name are further test sets (ImageNet-ReaL, ImageNet-V2).
TRAIN = "train"


class Recipe:
    """One model of the family on one data set."""

    metric = "accuracy"
    goal: Literal["max", "min"] = "max"

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.args: dict[str, Any] = OmegaConf.to_container(cfg.model.args)  # type: ignore[assignment]
        self.mixup = None
        if cfg.augment.mixup > 0:
            self.mixup = Mixup(mixup_alpha=cfg.augment.mixup, num_classes=self.args["num_classes"])

    def examples(self) -> dict[str, Examples]:
        """Tensors in memory for arrays, decoded and transformed images for files."""
        splits = load_data(self.cfg)
        classes = len(splits[TRAIN].class_names)
        if classes != self.args["num_classes"]:
            raise ConfigError(
                f"data={self.cfg.data.name} has {classes} classes, model.args.num_classes={self.args['num_classes']}"
            )
        wrapped: dict[str, Examples] = {}
        for name, split in splits.items():
            if not isinstance(split, ImageArrays):
                wrapped[name] = DecodedImages(split, self.cfg, train=name == TRAIN)
            elif name == TRAIN and self.cfg.augment.randaugment:
                wrapped[name] = AugmentedArrays(split, self.cfg.augment.randaugment, self.cfg.seed)
            else:
                wrapped[name] = TensorImages(split)
        return wrapped

    def model(self) -> nn.Module:
        """A timm model without pretrained weights."""
        try:
            return timm.create_model(self.cfg.model.name, pretrained=False, **self.args)
        except RuntimeError as error:
            if "Unknown model" not in str(error):
                raise
            raise ConfigError(f"model.name={self.cfg.model.name} is no timm model; see timm.list_models()") from None

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Take another run's weights, resample position embeddings, draw the head of other classes anew."""
        timm_model: Any = model
        own = model.state_dict()
        position = weights.get("pos_embed")
        if position is not None and "pos_embed" in own and position.shape != own["pos_embed"].shape:
            grid = timm_model.patch_embed.grid_size
            prefix = int(getattr(model, "num_prefix_tokens", 0))
            weights["pos_embed"] = resample_abs_pos_embed(position, list(grid), num_prefix_tokens=prefix)
        head = [name for name in own if name.startswith(timm_model.default_cfg["classifier"])]
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
        if self.mixup is not None and len(image) % 2 == 0:
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
        config = timm.get_pretrained_cfg(self.cfg.model.name)
        side = self.args.get("img_size") or (config.input_size[-1] if config else 224)
        return {
            "image": torch.zeros(size, channels, side, side),
            "label": torch.zeros(size, dtype=torch.long),
        }


def normalised(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, C] to float32 [N, C, H, W] in [-1, 1], the value range of big_vision's recipes."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(127.5).sub_(1)


class TensorImages:
    """Arrays held as normalised tensors: a batch is one indexing."""

    def __init__(self, arrays: ImageArrays) -> None:
        self.image, self.label = normalised(arrays.images), torch.from_numpy(arrays.labels)
        self._fingerprint = arrays.fingerprint()

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = torch.tensor([index for _, index in keys])
        return {"image": self.image[index], "label": self.label[index]}

    def fingerprint(self) -> str:
        """The arrays' own."""
        return self._fingerprint


class AugmentedArrays:
    """Arrays under RandAugment, drawn anew for each position in the run."""

    def __init__(self, arrays: ImageArrays, randaugment: str, seed: int) -> None:
        from timm.data.auto_augment import rand_augment_transform

        self.arrays, self.seed = arrays, seed
        self.transform = rand_augment_transform(randaugment, {"img_mean": (0, 0, 0)})

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images = np.stack([self._image(position, index) for position, index in keys])
        return {
            "image": normalised(images),
            "label": torch.from_numpy(self.arrays.labels[[i for _, i in keys]]),
        }

    def _image(self, position: int, index: int) -> np.ndarray:
        from PIL import Image

        pixels = self.arrays.images[index]
        image = Image.fromarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels)
        augmented = np.asarray(draw(self.transform, image, self.seed, position))
        return augmented[..., : pixels.shape[2]]

    def fingerprint(self) -> str:
        """The arrays' own."""
        return self.arrays.fingerprint()


class DecodedImages:
    """Image files, decoded and transformed one by one; the draws follow from the position."""

    def __init__(self, images: Any, cfg: DictConfig, *, train: bool) -> None:
        from recipes.data.images import eval_transform, train_transform

        size = cfg.model.args.get("img_size") or timm.get_pretrained_cfg(cfg.model.name).input_size[-1]
        self.images, self.seed = images, cfg.seed
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

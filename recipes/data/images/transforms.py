"""Crops, flips and RandAugment: from a PIL image to uint8 [3, size, size], and from there to [-1, 1], as in big_vision.

Images stay uint8 until they are on the model's device: a quarter of the bytes of floats.
"""

import re
from typing import Any

import torch

from recipes.errors import ConfigError

RANDAUGMENT_NOTATION = re.compile(r"rand(-(m|n|mmax|inc)\d+|-(p|mstd)\d+(\.\d+)?|-t[a-z0-9]+)*")


def train_transform(size: int, randaugment: str | None = None) -> Any:
    """Inception crop (5 to 100% of the area) and flip, as in all the paper's ImageNet runs; then RandAugment.

    The paper's RandAugment has 2 layers of magnitude 15. In timm's notation that is `rand-m15-mmax15-n2-p1`: timm
    cuts magnitudes down to 10 unless `mmax` is raised, and skips half of the operations unless `p` is 1.

    Args:
        size: height and width of the result in pixels.
        randaugment: timm's notation, or None.

    Raises:
        ConfigError: timm does not know this RandAugment, or would cut its magnitude down.
    """
    if randaugment is not None:
        if not RANDAUGMENT_NOTATION.fullmatch(randaugment):
            raise ConfigError(f"augment.randaugment={randaugment} is not in timm's notation, as rand-m9-n2-mstd0.5 is")
        parts = dict(re.findall(r"-([a-z]+)([\d.]+)", randaugment))
        magnitude, limit = int(parts.get("m", 10)), int(parts.get("mmax", 10))
        if magnitude > limit:
            raise ConfigError(
                f"augment.randaugment={randaugment}: timm would cut magnitude {magnitude} down to {limit}; "
                f"add -mmax{magnitude}"
            )
    return _transform(size, is_training=True, scale=(0.05, 1.0), color_jitter=None, auto_augment=randaugment)


def eval_transform(size: int, *, crop: float = 0.875) -> Any:
    """The smaller side resized to `size / crop` (256 for 224), then the central square of `size`."""
    return _transform(size, crop_pct=crop)


def pixels(image: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [-1, 1], in the roundings of torchvision's ToTensor and Normalize; floats as they are."""
    return image.float().div_(255).sub_(0.5).div_(0.5) if image.dtype == torch.uint8 else image


def _transform(size: int, **settings: Any) -> Any:
    from timm.data import create_transform

    return create_transform(size, interpolation="bilinear", normalize=False, **settings)

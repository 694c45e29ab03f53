"""Image models that timm does not have, registered with timm."""

from typing import Any

import torch
from timm.models import register_model
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

BLOCKS = 3  # in each of three stages: 6 n + 2 = 20 layers
CHANNELS = (16, 32, 64)


class ResNet20(nn.Module):
    """ResNet-20 for images of 32 pixels (He et al. 2016, arXiv:1512.03385, section 4.2).

    A convolution of stride 1 and no pooling before the stages; where a stage narrows the image, a 1x1 convolution
    carries the shortcut, where the paper pads with zeros.

    Args:
        num_classes: of the output.
        in_chans: channels of the image.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(in_chans, CHANNELS[0], 3), nn.ReLU(inplace=True))
        blocks, width = [], CHANNELS[0]
        for channels in CHANNELS:
            for _ in range(BLOCKS):
                stride = 1 if width == channels else 2
                shortcut = None if width == channels else _convolution(width, channels, 1, stride)
                blocks.append(BasicBlock(width, channels, stride, shortcut))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, num_classes]."""
        features: Tensor = self.blocks(self.stem(image))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def _convolution(width: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels))


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> ResNet20:
    """ResNet-20; there are no pretrained weights."""
    if pretrained:
        raise ValueError("resnet20_cifar has no pretrained weights")
    ours = [key for key in kwargs if not key.startswith("pretrained_") and key != "cache_dir"]  # timm adds the others
    model_args = {key: kwargs[key] for key in ours}
    with torch.device(torch.get_default_device()):
        return ResNet20(**model_args)

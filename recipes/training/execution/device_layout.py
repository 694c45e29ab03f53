"""Memory layout on the device: batches copied during the previous step, channels last for convolutions."""

from contextlib import nullcontext

import torch
from torch import nn

from recipes.data.images.transforms import pixels
from recipes.training.sampler import Batch


class Placement:
    """Puts batches on a device.

    On CUDA the copy runs in a separate stream, while the previous step may still run. Images are copied as uint8.

    Args:
        device: of the batches.
        channels_last: memory format of batches of images, the same as of the model's weights.
    """

    def __init__(self, device: torch.device, channels_last: bool = False) -> None:
        self.device, self.channels_last = device, channels_last
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        """The batch on the device; uint8 images as floats in [-1, 1]."""
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            placed = {name: self._placed(value) for name, value in batch.items()}
        if self.stream is not None:
            now = torch.cuda.current_stream(self.device)
            now.wait_stream(self.stream)
            for value in placed.values():
                value.record_stream(now)
        return placed

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        value = pixels(value.to(self.device, non_blocking=True))
        if self.channels_last and value.ndim == 4:
            return value.contiguous(memory_format=torch.channels_last)
        return value


def is_convolutional(model: nn.Module) -> bool:
    """Whether a model has convolutions beyond those that cut an image into patches."""
    return any(isinstance(m, nn.Conv2d) and max(m.kernel_size) > max(m.stride) for m in model.modules())


def match(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer's state the memory layout of its parameters, which kernels need and a loaded state may lack."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            alike = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if alike and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

"""The contrastive loss over the images and texts of all processes (Radford et al. 2021, CLIP; LiT's too)."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def info_nce(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Mean cross-entropy of matching each image to its text among all texts, and each text to its image (InfoNCE).

    With several processes, the rows of all are gathered with their gradients, and each process computes the loss of its
    rows. The mean of these losses over processes, and so of their gradients, is the loss of one process with the whole
    batch.

    Args:
        image: float [B, width], of length 1 each.
        text: float [B, width], of length 1 each, in the images' order.
        scale: 0-d, what cosines are multiplied by (one over the temperature).
    """
    with torch.autocast(image.device.type, enabled=False):  # half precision would round away small differences
        image, text = image.float(), text.float()
        images, first = gathered(image)
        texts, _ = gathered(text)
        target = torch.arange(first, first + len(image), device=image.device)
        to_text = nn.functional.cross_entropy(scale * image @ texts.T, target)
        to_image = nn.functional.cross_entropy(scale * text @ images.T, target)
        return (to_text + to_image) / 2


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, in the order of their ranks, and where this process's begin.

    All have equally many. Gradients go back to the process that a row came from, summed over those that used it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    return torch.cat(list(_AllGather.apply(rows))), dist.get_rank() * len(rows)


class _AllGather(torch.autograd.Function):
    """Collects the same tensor from every process; backward sums what each process has for it."""

    @staticmethod
    def forward(ctx, rows):  # type: ignore[no-untyped-def]
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx, *gradients):  # type: ignore[no-untyped-def]
        summed = torch.stack(gradients)
        dist.all_reduce(summed)  # gloo has no reduce-scatter; the features of a batch are small
        return summed[dist.get_rank()]

"""Operations along one axis of a tensor, which preconditioners of matrices share."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute products in float32 without TF32 within the block, whatever the model's are computed in.

    Its ten bits are too few for preconditioners, whose small entries divide.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def multiply_axis(tensor: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """Multiply every vector along an axis, as a row, by a square matrix of that axis's size."""
    return torch.tensordot(tensor, matrix, dims=([axis], [0])).movedim(-1, axis)


def slices(tensor: Tensor, axis: int) -> Tensor:
    """A matrix with a row for each index of an axis."""
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1)


def gram(tensor: Tensor, axis: int) -> Tensor:
    """Inner products of a tensor's slices along an axis."""
    rows = slices(tensor, axis)
    return rows @ rows.mT

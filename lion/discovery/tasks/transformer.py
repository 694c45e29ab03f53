"""The paper's two proxy tasks in small (section 3.1 of Chen et al. 2023): a ViT of 3 layers, a language model of 2.

Copies of the model, one a seed, are stacked along the first axis of every array, so that one backward pass serves all
of them and programs see what they see on any proxy: flat weights [seeds, weights]. Blocks are pre-norm, without biases.
The data come from outside, as arrays.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, gelu, layer_norm, scaled_dot_product_attention

from lion.discovery.tasks.proxy import Array, Data, Proxy

EMBEDDING = 0.1  # standard deviation of embeddings at the start; matrices have LeCun's, norms are 1

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Transformer(Proxy):
    """What the two models share: the blocks, their initial weights, and the way to numpy and back."""

    seeds: tuple[int, ...] = tuple(range(4))
    steps: int = 100
    batch_size: int = 32
    width: int = 48
    layers: int = 2
    heads: int = 2
    _start: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Draw what every program gets to see.

        Raises:
            ValueError: the width is no multiple of the heads.
        """
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        weights, batches = [], []
        for seed in self.seeds:
            random = np.random.default_rng([seed, 20230213])
            weights.append(np.concatenate([_drawn(n, s, random).ravel() for n, s in self._shapes().items()]))
            batches.append(self._draw_batches(random))
        self._start["weights"] = np.stack(weights).astype(np.float32)
        self._start["batches"] = np.stack(batches, axis=1)  # [steps, seeds, batch]

    @abstractmethod
    def _input_shapes(self) -> dict[str, Shape]:
        """The arrays in front of the blocks, and behind them the `head`."""

    @abstractmethod
    def _draw_batches(self, random: np.random.Generator) -> Array:
        """Which examples each step of one copy sees, int [steps, batch]."""

    @abstractmethod
    def _batch(self, chosen: Array) -> tuple[Tensor, Tensor]:
        """Inputs and targets of training examples [seeds, batch], with these axes first."""

    @abstractmethod
    def _held_out(self, examples: int | None) -> tuple[Tensor, Tensor]:
        """Inputs and targets to validate on, [examples, ...]."""

    @abstractmethod
    def _scores(self, params: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """What the model says of inputs [seeds, batch, ...]: unnormalised log-probabilities, classes last."""

    def _shapes(self) -> dict[str, Shape]:
        d = self.width
        block = {"norm1": (d,), "qkv": (d, 3 * d), "out": (d, d), "norm2": (d,), "up": (d, 4 * d), "down": (4 * d, d)}
        blocks = {f"{i}.{name}": shape for i in range(self.layers) for name, shape in block.items()}
        return {**blocks, "norm": (d,), **self._input_shapes()}

    @property
    def lengths(self) -> list[int]:
        """How many weights each array has."""
        return [math.prod(shape) for shape in self._shapes().values()]

    def initial(self) -> Array:
        """See Proxy."""
        weights: Array = self._start["weights"]
        return weights

    def gradient(self, w: Array, step: int) -> Array:
        """See Proxy."""
        flat = torch.from_numpy(w).requires_grad_()
        self._losses(flat, *self._batch(self._start["batches"][step])).sum().backward()
        assert flat.grad is not None
        return flat.grad.numpy()

    def validation(self, w: Array, examples: int | None = None) -> Array:
        """See Proxy."""
        inputs, targets = self._held_out(examples)
        copies = len(w)
        with torch.no_grad():
            losses = self._losses(
                torch.from_numpy(w),
                inputs.expand(copies, *inputs.shape),
                targets.expand(copies, *targets.shape),
            )
        return losses.numpy()

    def _losses(self, flat: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each copy, [seeds]."""
        parts = flat.split(self.lengths, dim=1)
        shapes = self._shapes().items()
        params = {name: part.unflatten(1, shape) for (name, shape), part in zip(shapes, parts, strict=True)}
        scores = self._scores(params, inputs)
        losses = cross_entropy(scores.flatten(0, -2), targets.flatten(), reduction="none")
        return losses.view(len(flat), -1).mean(1)

    def _blocks(self, params: Mapping[str, Tensor], x: Tensor, causal: bool) -> Tensor:
        """All blocks and the last norm, on x [seeds, batch, tokens, width]."""
        for i in range(self.layers):
            y = _linear(_norm(x, params[f"{i}.norm1"]), params[f"{i}.qkv"])
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in y.flatten(0, 1).chunk(3, dim=-1)
            )
            y = scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(-2, -3).flatten(-2)
            x = x + _linear(y.view_as(x), params[f"{i}.out"])
            y = gelu(_linear(_norm(x, params[f"{i}.norm2"]), params[f"{i}.up"]), approximate="tanh")
            x = x + _linear(y, params[f"{i}.down"])
        return _norm(x, params["norm"])


@dataclass(frozen=True)
class ImageTask(_Transformer):
    """A vision transformer on small grey images: patches, learned positions, the mean of all tokens to the classes.

    Attributes:
        data: images as float32 [n, height, width], about standardized, and their labels.
        patch: side of a patch in pixels; it divides the image's sides.
    """

    data: Data = field(kw_only=True)
    patch: int = 7
    layers: int = 3
    heads: int = 3

    @property
    def _tokens(self) -> int:
        return math.prod(side // self.patch for side in self.data.train_x.shape[1:])

    def _input_shapes(self) -> dict[str, Shape]:
        classes = int(self.data.train_y.max()) + 1
        d = self.width
        return {"patches": (self.patch**2, d), "position": (self._tokens, d), "head": (d, classes)}

    def _draw_batches(self, random: np.random.Generator) -> Array:
        n, needed = len(self.data.train_y), self.steps * self.batch_size
        order = [random.permutation(n) for _ in range(math.ceil(needed / n))]
        return np.concatenate(order)[:needed].reshape(self.steps, self.batch_size)

    def _batch(self, chosen: Array) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.data.train_x[chosen]), torch.from_numpy(self.data.train_y[chosen])

    def _held_out(self, examples: int | None) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.data.val_x[:examples]), torch.from_numpy(self.data.val_y[:examples])

    def _scores(self, params: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        patches = inputs.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)
        x = _linear(patches.flatten(-2).flatten(2, 3), params["patches"]) + params["position"][:, None]
        x = self._blocks(params, x, causal=False)
        return _linear(x.mean(2, keepdim=True), params["head"]).squeeze(2)


@dataclass(frozen=True)
class TextTask(_Transformer):
    """A causal language model: token and position embeddings, each token predicts the next.

    Attributes:
        train: token ids, int [n], one text after the other.
        val: the same, of other texts.
        vocabulary: how many tokens there are.
        context: tokens that a window holds.
        val_windows: how many windows, evenly spaced, are validated on.
    """

    train: Array = field(kw_only=True)
    val: Array = field(kw_only=True)
    vocabulary: int = field(kw_only=True)
    context: int = 32
    val_windows: int = 256

    def _input_shapes(self) -> dict[str, Shape]:
        d = self.width
        return {"token": (self.vocabulary, d), "position": (self.context, d), "head": (d, self.vocabulary)}

    def _draw_batches(self, random: np.random.Generator) -> Array:
        return random.integers(len(self.train) - self.context, size=(self.steps, self.batch_size))

    def _batch(self, chosen: Array) -> tuple[Tensor, Tensor]:
        return self._windows(self.train, chosen)

    def _held_out(self, examples: int | None) -> tuple[Tensor, Tensor]:
        starts = np.linspace(0, len(self.val) - self.context - 1, self.val_windows).astype(int)
        return self._windows(self.val, starts[:examples])

    def _windows(self, ids: Array, starts: Array) -> tuple[Tensor, Tensor]:
        windows = torch.from_numpy(ids[starts[..., None] + np.arange(self.context + 1)].astype(np.int64))
        return windows[..., :-1], windows[..., 1:]

    def _scores(self, params: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        table = params["token"]
        rows = inputs + self.vocabulary * torch.arange(len(table))[:, None, None]  # each copy has its own
        x = embedding(rows, table.flatten(0, 1)) + params["position"][:, None]
        return _linear(self._blocks(params, x, causal=True), params["head"])


def _drawn(name: str, shape: Shape, random: np.random.Generator) -> Array:
    if len(shape) == 1:
        return np.ones(shape)
    return random.normal(size=shape) * (EMBEDDING if name in ("token", "position") else shape[0] ** -0.5)


def _linear(x: Tensor, weights: Tensor) -> Tensor:
    """Multiply x [seeds, batch, tokens, in] by weights [seeds, in, out]."""
    return (x.flatten(1, 2) @ weights).unflatten(1, x.shape[1:3])


def _norm(x: Tensor, scale: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:]) * scale[:, None, None]

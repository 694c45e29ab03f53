"""Tasks that score programs, and the one that does it in milliseconds: a small network in numpy.

Several copies of a model, one a seed, train side by side: parameters are an array [seeds, weights], so that a program
runs once a step for all of them. Every program sees the same initial weights, batches and label noise (common random
numbers), so that a difference in fitness is a difference of programs. With two seeds a search fits their accidents
within minutes; six are the least that a search should use.

The data come from outside, as arrays: this package knows no data set.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lion.discovery.language.analysis import live
from lion.discovery.language.compile import compile_numpy
from lion.discovery.language.program import Program

Array = NDArray[Any]
DIVERGED = math.inf  # fitness of a program that did not train; lower is better
CHECKS = (0.1, 0.2, 0.35, 0.5, 0.75)  # shares of training after which a program is looked at
CHECKED_EXAMPLES = 64
WORSE = 1.05  # loss over the initial loss, at a check, above which training has diverged


@dataclass(frozen=True)
class Data:
    """Examples to train on and others to be scored on: features [n, inputs] float32, labels [n] int."""

    train_x: Array
    train_y: Array
    val_x: Array
    val_y: Array


class Proxy(ABC):
    """Anything that trains copies of a model with a program and says what they lose.

    Subclasses are frozen dataclasses. The learning rate falls from 1 to 0 as a cosine.
    """

    seeds: tuple[int, ...]
    steps: int

    @property
    @abstractmethod
    def lengths(self) -> list[int]:
        """How many weights each array of the model has."""

    @abstractmethod
    def initial(self) -> Array:
        """The weights that training begins with, float32 [seeds, weights]."""

    @abstractmethod
    def gradient(self, w: Array, step: int) -> Array:
        """The gradient of each copy's loss on its batch of a step, [seeds, weights]."""

    @abstractmethod
    def validation(self, w: Array, examples: int | None = None) -> Array:
        """The validation loss of each copy, [seeds]; `examples` takes only so many, the first."""

    def with_seeds(self, seeds: Sequence[int]) -> Self:
        """The same task with other initial weights, batches and label noise."""
        changed: Any = replace(self, seeds=tuple(seeds))  # type: ignore[type-var]
        return changed

    def fitness(self, program: Program, multiplier: float = 1.0) -> float:
        """Train with a program and return the mean validation loss (cross-entropy, nats), lower is better.

        Args:
            program: which need not be free of dead statements.
            multiplier: of every update: a sweep over it tunes the learning rate of any program.

        Returns:
            The mean over seeds; DIVERGED if any of them does not train.
        """
        losses = self.losses(program, multiplier)
        return DIVERGED if losses is None else float(losses.mean())

    def losses(self, program: Program, multiplier: float = 1.0) -> Array | None:
        """The validation loss of each seed after training; None if any of them diverged on the way."""
        train = compile_numpy(live(program), self.lengths)
        w = self.initial()
        m, v = np.zeros_like(w), np.zeros_like(w)
        looks = {max(1, round(share * self.steps)) for share in CHECKS}
        with np.errstate(all="ignore"):
            allowed = WORSE * self.validation(w, CHECKED_EXAMPLES)
            for step in range(self.steps):
                if step in looks and not (self.validation(w, CHECKED_EXAMPLES) <= allowed).all():
                    return None
                g = self.gradient(w, step)
                lr = 0.5 * (1 + math.cos(math.pi * step / self.steps))
                update, m, v = train(w, g, m, v, lr)
                w = w - (update if multiplier == 1 else multiplier * update)
            losses = self.validation(w)
        return losses if np.isfinite(losses).all() else None


@dataclass(frozen=True)
class Task(Proxy):
    """A network, its data, and how long it trains.

    Attributes:
        data: examples.
        seeds: of initial weights, batches and label noise; one copy of the network for each.
        hidden: width of the one hidden layer (tanh).
        steps: updates.
        batch_size: examples a step.
        label_noise: share of training labels that are replaced by random ones.
    """

    data: Data
    seeds: tuple[int, ...] = tuple(range(6))
    hidden: int = 32
    steps: int = 100
    batch_size: int = 64
    label_noise: float = 0.1
    _start: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Draw what every program gets to see."""
        drawn = [_draw(self, seed) for seed in self.seeds]
        self._start["weights"] = np.stack([weights for weights, _, _ in drawn])
        self._start["batches"] = np.stack([indices for _, indices, _ in drawn], axis=1)  # [steps, seeds, batch]
        self._start["labels"] = np.stack([labels for _, _, labels in drawn])  # [seeds, n]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The network's arrays: weights and biases of two layers."""
        inputs, classes = self.data.train_x.shape[1], int(self.data.train_y.max()) + 1
        return [(inputs, self.hidden), (self.hidden,), (self.hidden, classes), (classes,)]

    @property
    def lengths(self) -> list[int]:
        """How many weights each array has."""
        return [math.prod(shape) for shape in self.shapes]

    def initial(self) -> Array:
        """See Proxy."""
        weights: Array = self._start["weights"]
        return weights

    def gradient(self, w: Array, step: int) -> Array:
        """See Proxy."""
        chosen = self._start["batches"][step]
        rows = np.arange(len(self.seeds))[:, None]
        return self._gradient(w, self.data.train_x[chosen], self._start["labels"][rows, chosen])

    def validation(self, w: Array, examples: int | None = None) -> Array:
        """See Proxy."""
        return self._loss(w, self.data.val_x[:examples], self.data.val_y[:examples])

    def _layers(self, w: Array) -> list[Array]:
        """Views of a parameter vector [seeds, weights] as the network's arrays, each [seeds, ...]."""
        ends = np.cumsum(self.lengths)[:-1]
        parts = np.split(w, ends, axis=1)
        return [part.reshape(len(w), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _loss(self, w: Array, x: Array, y: Array) -> Array:
        """Cross-entropy of each copy on the same examples, [seeds]."""
        w1, b1, w2, b2 = self._layers(w)
        scores = np.tanh(x @ w1 + b1[:, None]) @ w2 + b2[:, None]
        scores -= scores.max(-1, keepdims=True)
        chosen = scores[:, np.arange(len(y)), y]
        return (np.log(np.exp(scores).sum(-1)) - chosen).mean(-1)

    def _gradient(self, w: Array, x: Array, y: Array) -> Array:
        """The gradient of the loss on x [seeds, batch, inputs] and y [seeds, batch], as a vector [seeds, weights]."""
        w1, b1, w2, b2 = self._layers(w)
        hidden = np.tanh(x @ w1 + b1[:, None])
        scores = hidden @ w2 + b2[:, None]
        d = np.exp(scores - scores.max(-1, keepdims=True))
        d /= d.sum(-1, keepdims=True)
        np.put_along_axis(d, y[..., None], np.take_along_axis(d, y[..., None], -1) - 1, -1)
        d /= y.shape[1]
        inner = (d @ w2.transpose(0, 2, 1)) * (1 - hidden * hidden)
        parts = (x.transpose(0, 2, 1) @ inner, inner.sum(1), hidden.transpose(0, 2, 1) @ d, d.sum(1))
        return np.concatenate([part.reshape(len(w), -1) for part in parts], axis=1)


def _draw(task: Task, seed: int) -> tuple[Array, Array, Array]:
    """Initial weights (LeCun's, biases 0), the indices of every batch, and labels with noise."""
    random = np.random.default_rng([seed, 20230213])
    parts = [random.normal(size=s) / math.sqrt(s[0]) if len(s) > 1 else np.zeros(s) for s in task.shapes]
    n, labels = len(task.data.train_y), task.data.train_y.copy()
    noisy = random.random(n) < task.label_noise
    labels[noisy] = random.integers(labels.max() + 1, size=int(noisy.sum()))
    epochs = math.ceil(task.steps * task.batch_size / n)
    order = np.concatenate([random.permutation(n) for _ in range(epochs)])[: task.steps * task.batch_size]
    flat = np.concatenate([part.ravel() for part in parts]).astype(np.float32)
    return flat, order.reshape(task.steps, task.batch_size), labels


def teacher(inputs: int = 16, classes: int = 4, examples: int = 1500, seed: int = 0) -> Data:
    """Examples that a random network labels: for tests, and where no data set is at hand."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(examples, inputs)).astype(np.float32)
    y = (np.tanh(x @ random.normal(size=(inputs, 8))) @ random.normal(size=(8, classes))).argmax(-1)
    cut = examples * 2 // 3
    return Data(x[:cut], y[:cut], x[cut:], y[cut:])


def rescaled(data: Data, spread: float = 1.5, seed: int = 0) -> Data:
    """The same data badly scaled: each feature times 10^U(-spread, spread), so that gradients differ by magnitudes."""
    exponents = np.random.default_rng(seed).uniform(-spread, spread, size=data.train_x.shape[1])
    scale = np.power(10.0, exponents).astype(np.float32)
    return replace(data, train_x=data.train_x * scale, val_x=data.val_x * scale)


def swept(task: Proxy, program: Program, multipliers: Sequence[float]) -> tuple[float, float]:
    """The update multiplier with the lowest fitness, and that fitness: every program's learning rate tuned alike."""
    return min((task.fitness(program, multiplier), multiplier) for multiplier in multipliers)[::-1]

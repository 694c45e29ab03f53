"""The transformer proxies: their mathematics against torch's own modules, and copies that do not see each other."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lion.discovery.language.program import load
from lion.discovery.tasks.proxy import DIVERGED, Data, swept
from lion.discovery.tasks.transformer import ImageTask, TextTask, _Transformer


def bars(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy 8 x 8 images with a bright row, which is the label, 0 to 3."""
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=n)
    images = random.normal(size=(n, 8, 8)).astype(np.float32)
    images[np.arange(n), 2 * labels] += 2
    return images, labels


IMAGES = ImageTask(data=Data(*bars(400), *bars(80, 1)), patch=4, width=12, heads=3, seeds=(0, 1, 2), steps=30)
TOKENS = np.cumsum(np.random.default_rng(0).integers(1, 3, size=4000)) % 11  # the next is one or two more
TEXT = TextTask(
    train=TOKENS[:3000],
    val=TOKENS[3000:],
    vocabulary=11,
    context=8,
    width=16,
    seeds=(0, 1, 2),
    steps=30,
    val_windows=20,
)


def named(task: _Transformer, w: np.ndarray) -> dict[str, Tensor]:
    parts = np.split(w, np.cumsum(task.lengths)[:-1])
    shapes = task._shapes()
    return {n: torch.tensor(p.reshape(s)) for (n, s), p in zip(shapes.items(), parts, strict=True)}


def torchs(task: _Transformer, weights: dict[str, Tensor], x: Tensor, causal: bool) -> Tensor:
    """The blocks as torch's own encoder layer with these weights, on x [batch, tokens, width]."""
    d = task.width
    for i in range(task.layers):
        layer = nn.TransformerEncoderLayer(
            d, task.heads, 4 * d, 0.0, nn.GELU(approximate="tanh"), batch_first=True, norm_first=True, bias=False
        )
        names = {"self_attn.in_proj_weight": "qkv", "self_attn.out_proj.weight": "out"}
        names |= {"linear1.weight": "up", "linear2.weight": "down"}
        state = {theirs: weights[f"{i}.{ours}"].T for theirs, ours in names.items()}
        state |= {f"{name}.weight": weights[f"{i}.{name}"] for name in ("norm1", "norm2")}
        layer.load_state_dict(state)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if causal else None
        x = layer(x, src_mask=mask)
    return nn.functional.layer_norm(x, (d,)) * weights["norm"]


def test_the_vit_is_torchs() -> None:
    w = IMAGES.initial()
    images, labels = torch.from_numpy(IMAGES.data.val_x), torch.from_numpy(IMAGES.data.val_y)
    patches = nn.functional.unfold(images[:, None], 4, stride=4).transpose(1, 2)
    for copy, loss in enumerate(IMAGES.validation(w)):
        weights = named(IMAGES, w[copy])
        x = torchs(IMAGES, weights, patches @ weights["patches"] + weights["position"], causal=False)
        expected = nn.functional.cross_entropy(x.mean(1) @ weights["head"], labels)
        assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_language_model_is_torchs() -> None:
    w = TEXT.initial()
    starts = np.linspace(0, 1000 - 9, 20).astype(int)
    windows = torch.tensor(np.stack([TEXT.val[s : s + 9] for s in starts]))
    for copy, loss in enumerate(TEXT.validation(w)):
        weights = named(TEXT, w[copy])
        x = torchs(TEXT, weights, weights["token"][windows[:, :-1]] + weights["position"], causal=True)
        expected = nn.functional.cross_entropy((x @ weights["head"]).flatten(0, 1), windows[:, 1:].flatten())
        assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("task", [IMAGES, TEXT], ids=["images", "text"])
def test_the_gradient_is_the_slope(task: _Transformer) -> None:
    """Along its own direction the training loss of a step falls by |g|, for each copy by itself."""
    w = task.initial()
    batch = task._batch(task._start["batches"][3])
    g = task.gradient(w, 3)
    assert g.shape == w.shape == (3, sum(task.lengths))
    norm = np.linalg.norm(g, axis=1, keepdims=True)
    step = 1e-2 * g / norm
    ends = [task._losses(torch.from_numpy(w + sign * step), *batch).detach().numpy() for sign in (1, -1)]
    np.testing.assert_allclose((ends[0] - ends[1]) / 2e-2, norm[:, 0], rtol=2e-2)


@pytest.mark.parametrize("task", [IMAGES, TEXT], ids=["images", "text"])
def test_training_helps_and_copies_are_alone(task: _Transformer) -> None:
    adamw = load("program3")
    before = task.validation(task.initial()).mean()
    factor, fitness = swept(task, adamw, (1e-3, 3, 1e9))
    assert factor == 3
    assert fitness < 0.7 * before
    losses, alone = task.losses(adamw, 3), task.with_seeds([1]).losses(adamw, 3)
    assert losses is not None
    assert alone is not None
    assert alone[0] == pytest.approx(losses[1], rel=1e-3)
    assert len({float(loss) for loss in losses}) == 3
    again = task.losses(adamw, 3)
    assert again is not None
    assert again.tobytes() == losses.tobytes()
    assert task.fitness(adamw, 1e12) == DIVERGED


def test_the_width_has_to_divide() -> None:
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 3"):
        ImageTask(data=IMAGES.data, width=10)

"""The two towers: what is locked stays, parts give the gradients of the whole, and padding says nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import RobertaPreLayerNormConfig, RobertaPreLayerNormModel

from recipes.contrastive.loss import info_nce
from recipes.contrastive.two_towers import TwoTowers

VOCABULARY, LENGTH, PAD = 40, 7, 1


class Picture(nn.Module):
    """In an image model's place: batch statistics and dropout, so that it shows whether it is locked."""

    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 12, 4), nn.BatchNorm2d(12)
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.drop(self.norm(self.stem(image)).relu()).mean((2, 3))
        return features


def towers(**changes: Any) -> TwoTowers:
    torch.manual_seed(0)
    text = RobertaPreLayerNormConfig(
        vocab_size=VOCABULARY, pad_token_id=PAD, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=LENGTH + PAD + 1, type_vocab_size=1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "width": 8, "logit_scale": 10.0, "lock_image": True, "project_image": True, "micro_batch": None,
    }  # fmt: skip
    return TwoTowers(Picture(), RobertaPreLayerNormModel(text, add_pooling_layer=False), **settings | changes)


def batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(size, 1, 6, 6, generator=generator)
    tokens = torch.randint(2, VOCABULARY, (size, LENGTH), generator=generator)
    for row, used in enumerate(torch.randint(2, LENGTH + 1, (size,), generator=generator).tolist()):
        tokens[row, used:] = PAD
    return image, tokens


def gradients(model: TwoTowers, *given: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    info_nce(*model(*given)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [1, 5, 16, 100])
@pytest.mark.parametrize("lock_image", [True, False])
def test_parts_give_the_gradients_of_the_whole_batch(micro_batch: int, lock_image: bool) -> None:
    """Gradient caching: each negative counts although no two parts are embedded together."""
    whole, parts = (towers(lock_image=lock_image, micro_batch=size) for size in (None, micro_batch))
    for model in (whole, parts):
        model.image.eval()  # the statistics of a part are not those of the batch
    given = batch(16)
    expected, result = gradients(whole, *given), gradients(parts, *given)
    assert expected.keys() == result.keys()
    for name, gradient in expected.items():
        error = (result[name] - gradient).norm() / gradient.norm().clamp(min=1e-12)
        assert error < 1e-5 or gradient.abs().max() < 1e-7, (name, error)
    alone = gradients(parts, *(rows[:5] for rows in given))
    assert not torch.allclose(alone["text_projection.weight"], expected["text_projection.weight"], rtol=1e-2)


def test_dropout_is_drawn_once_for_the_two_passes_over_a_part() -> None:
    """The second, recomputing pass must see the mask of the first, or the gradient would be of another function."""
    model = towers(lock_image=False, micro_batch=4)
    model.train()
    model.image.norm.eval()  # type: ignore[union-attr, operator]
    given = batch(8)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.image_projection.weight.requires_grad_(True)  # type: ignore[union-attr]
    weight: Any = model.image_projection.weight

    def loss(seed: int = 5) -> Tensor:
        torch.manual_seed(seed)
        return info_nce(*model(*given))

    loss().backward()
    direction, step = weight.grad.clone(), 1e-2
    with torch.no_grad():
        weight += step * direction
        above = at_the_same_draws(model, given)
        weight -= 2 * step * direction
        below = at_the_same_draws(model, given)
    assert (above - below) / (2 * step) == pytest.approx(direction.square().sum().item(), rel=2e-2)


def at_the_same_draws(model: TwoTowers, given: tuple[Tensor, Tensor]) -> float:
    """With gradients on, so that parts are made and draw in the same order."""
    torch.manual_seed(5)
    with torch.enable_grad():
        return info_nce(*model(*given)).item()


def test_parts_keep_less_for_the_backward_pass() -> None:
    def kept(model: TwoTowers) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            info_nce(*model(*batch(64)))
        return sum(sizes.values())

    assert kept(towers(micro_batch=8)) < kept(towers()) / 5


def test_a_locked_tower_stays_as_it_is() -> None:
    model = towers()
    model.train()
    before = {name: value.clone() for name, value in model.image.state_dict().items()}
    first = model.features(batch(6)[0])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    info_nce(*model(*batch(6))).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.image.state_dict().items())
    assert torch.equal(model.features(batch(6)[0]), first)  # no dropout, no batch statistics
    assert all(p.grad is None for p in model.image.parameters())
    assert model.text.training
    assert not model.image.training


def test_a_tower_that_is_not_locked_learns() -> None:
    model = towers(lock_image=False)
    result = gradients(model.train(), *batch(6))
    assert any(name.startswith("image.") and gradient.abs().max() > 0 for name, gradient in result.items())


def test_known_features_stand_for_their_images() -> None:
    model = towers().eval()
    image, tokens = batch(6)
    plain, cached = model(image, tokens), model(model.features(image), tokens, is_feature=True)
    for one, other in zip(plain, cached, strict=True):
        assert torch.equal(one, other)


def test_embeddings_have_length_one_and_the_scale_is_where_it_was_asked_to_begin() -> None:
    image, text, scale = towers(logit_scale=30.0)(*batch(5))
    ones = torch.ones(5)
    torch.testing.assert_close(image.norm(dim=1), ones)
    torch.testing.assert_close(text.norm(dim=1), ones)
    assert scale.item() == pytest.approx(30.0, rel=1e-6)


def test_without_a_projection_an_image_is_its_feature() -> None:
    model = towers(project_image=False, width=12)
    image, _ = batch(4)
    torch.testing.assert_close(model.embed_image(image), nn.functional.normalize(model.features(image), dim=1))


def test_padding_says_nothing_and_the_text_does() -> None:
    """The mask that is spelled out for the dry run is the one that transformers makes of two axes."""
    model = towers().eval()
    _, tokens = batch(9)
    hidden = model.text(input_ids=tokens, attention_mask=(tokens != PAD).long()).last_hidden_state
    expected = nn.functional.normalize(model.text_projection(hidden[:, 0]), dim=1)
    result = model.embed_text(tokens)
    torch.testing.assert_close(result, expected)
    used = (tokens != PAD).sum(1)
    row = int((used < LENGTH).nonzero()[0])
    shorter = tokens[row : row + 1, : used[row]]
    torch.testing.assert_close(model.embed_text(shorter)[0], result[row])
    other = tokens.clone()
    other[:, 1] = (other[:, 1] - 2 + 1) % (VOCABULARY - 2) + 2
    assert (model.embed_text(other) - result).abs().max() > 1e-3

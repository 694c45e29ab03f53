import numpy as np
import pytest
import torch

from recipes import protocol
from recipes.errors import ConfigError


def test_small_images_get_a_black_border(tiny) -> None:
    examples = protocol.make(tiny("model.args.img_size=35")).examples()["val"]
    image = examples.__getitems__([(0, 0)])["image"]
    original = protocol.make(tiny()).examples()["val"].__getitems__([(0, 0)])["image"]
    assert image.shape == (1, 1, 35, 35)
    assert torch.equal(image[:, :, 3:31, 3:31], original)
    image[:, :, 3:31, 3:31] = 0
    assert (image == 0).all()


def test_another_resolution_starts_from_resampled_positions(tiny) -> None:
    small = protocol.make(tiny()).model()
    maker = protocol.make(tiny("model.args.img_size=42", "init_from=elsewhere"))
    large = maker.model()
    maker.initialise(large, small.state_dict())
    assert large.pos_embed.shape[1] == 6 * 6 + 1
    assert torch.equal(large.pos_embed[:, :1], small.pos_embed[:, :1])  # the class token's is no place in the image
    assert torch.equal(large.blocks[0].attn.qkv.weight, small.blocks[0].attn.qkv.weight)
    # Averages of the resampled map and the original agree: it is the same map on a finer grid.
    assert large.pos_embed[:, 1:].mean().item() == pytest.approx(small.pos_embed[:, 1:].mean().item(), abs=2e-3)
    assert large(torch.zeros(1, 1, 42, 42)).shape == (1, 10)


def test_other_classes_draw_the_head_anew(tiny) -> None:
    maker = protocol.make(tiny("data=glyphs", "model.args.num_classes=62"))
    many, ten = maker.model(), protocol.make(tiny()).model()
    before = many.head.weight.clone()
    maker.initialise(many, ten.state_dict())
    assert torch.equal(many.head.weight, before)
    assert torch.equal(many.patch_embed.proj.weight, ten.patch_embed.proj.weight)


def test_another_model_is_refused_in_one_line(tiny) -> None:
    deeper = protocol.make(tiny("model.args.depth=2")).model()
    maker = protocol.make(tiny("init_from=elsewhere"))
    with pytest.raises(
        ConfigError, match=r"is of another model than vit_base_patch16_224: \d+ tensors differ"
    ) as error:
        maker.initialise(maker.model(), deeper.state_dict())
    assert "\n" not in str(error.value)


def test_an_unknown_model_is_refused_with_near_ones(tiny) -> None:
    with pytest.raises(ConfigError, match="vit_base_patch16_224"):
        protocol.make(tiny("model.name=vit_base_patch16_225")).model()


@pytest.mark.parametrize("override", ["+model.args.foo=1", "model.args.num_heads=3"])
def test_arguments_that_a_model_does_not_take_are_refused(tiny, override: str) -> None:
    with pytest.raises(ConfigError, match=r"vit_base_patch16_224 does not take these model\.args: .*(foo|divisible)"):
        protocol.make(tiny(override)).model()


def test_a_notation_of_augmentation_that_cannot_be_read_is_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"augment\.randaugment=randaug-15 cannot be read; expected timm's notation"):
        protocol.make(tiny("augment.randaugment=randaug-15"))


@pytest.mark.parametrize(("batch", "accumulate", "least"), [(15, 1, 2), (20, 4, 8)])
def test_images_that_cannot_be_mixed_in_pairs_are_refused(tiny, batch: int, accumulate: int, least: int) -> None:
    maker = protocol.make(tiny("augment.mixup=0.5", f"batch_size={batch}", f"accumulate={accumulate}"))
    with pytest.raises(ConfigError, match=rf"batch_size={batch} .* a multiple of {least}$"):
        maker.examples()
    assert protocol.make(tiny(f"batch_size={batch}", f"accumulate={accumulate}")).examples()


def test_classes_must_be_the_data_s(tiny) -> None:
    with pytest.raises(ConfigError, match=r"has 62 classes, model\.args\.num_classes=10"):
        protocol.make(tiny("data=glyphs")).examples()


def test_any_of_several_labels_is_right(tiny) -> None:
    maker = protocol.make(tiny())
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    accepted = torch.rand(50, 10, generator=torch.Generator().manual_seed(1)) < 0.3

    class Answers(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return logits

    figures = maker.evaluate(Answers(), {"image": torch.zeros(50), "label": accepted})
    expected = sum(bool(accepted[n, int(logits[n].argmax())]) for n in range(50)) / 50
    assert maker.metrics(figures) == {"accuracy": pytest.approx(expected)}
    assert 0 < expected < 1


@pytest.mark.parametrize("classes", [10, 62])
def test_mixup_gives_two_labels_all_the_mass(tiny, classes: int) -> None:
    """Zhang et al. 2018 (arXiv:1710.09412): lambda of one label, 1 - lambda of the other, and nothing of the rest."""
    cfg = tiny("augment.mixup=0.5", f"model.args.num_classes={classes}")
    mixup = protocol.make(cfg).mixup
    for seed in range(20):
        np.random.seed(seed)
        image, label = torch.randn(8, 1, 28, 28), torch.randint(0, classes, (8,))
        mixed, target = mixup(image.clone(), label)
        for n in range(8):
            a, b = int(label[n]), int(label[7 - n])  # timm mixes a batch with its own reverse
            share = float(
                ((mixed[n] - image[7 - n]) * (image[n] - image[7 - n])).sum() / (image[n] - image[7 - n]).square().sum()
            )
            expected = torch.zeros(classes)
            expected[a] += share
            expected[b] += 1 - share
            assert target[n].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
            assert float(target[n].sum()) == pytest.approx(1, abs=1e-6)

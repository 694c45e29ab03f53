import numpy as np
import pytest
import torch

from recipes import protocol
from recipes.data.images import mnist5k
from recipes.data.images.batches import AugmentedArrays, TensorImages, normalised, offsets, shifted
from recipes.errors import ConfigError


def keys(first: int, count: int) -> list[tuple[int, int]]:
    return [(position, position % 100) for position in range(first, first + count)]


def test_offsets_cover_their_range_evenly() -> None:
    drawn = offsets(keys(0, 20_000), 2, seed=3)
    for axis in (0, 1):
        counts = torch.bincount(drawn[:, axis], minlength=5)
        assert counts.shape == (5,)
        assert counts.min() > 3_700  # 4,000 expected, standard deviation 57
        assert counts.max() < 4_300
    together = torch.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25)
    assert together.min() > 650  # 800 expected, standard deviation 28: rows and columns do not hang together


def test_offsets_follow_seed_and_position_however_a_batch_is_split() -> None:
    whole = offsets(keys(0, 64), 3, seed=1)
    assert torch.equal(torch.cat([offsets(keys(0, 10), 3, 1), offsets(keys(10, 54), 3, 1)]), whole)
    assert not torch.equal(offsets(keys(0, 64), 3, seed=2), whole)


def test_seeds_below_two_to_the_24_keep_their_translations_and_no_two_seeds_share_them() -> None:
    """By splitmix64 in whole numbers of Python; published runs have small seeds."""

    def mixed(word: int) -> int:
        word = word * 0x9E3779B97F4A7C15 % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    for seed in (0, 1, 1001, 2**24 - 1):
        words = [mixed((position + seed * 2**40 + 1) % 2**64) for position in range(64)]
        expected = [[word % 7, (word >> 32) % 7] for word in words]
        assert offsets(keys(0, 64), 3, seed).tolist() == expected
    seeds = [5, 5 + 2**24, 5 + 2**25, 5 + 2**40, 5 + 2**63, 5 + 2**80]
    assert len({str(offsets(keys(0, 64), 3, seed).tolist()) for seed in seeds}) == len(seeds)


def test_shifting_is_cutting_from_a_bordered_image() -> None:
    torch.manual_seed(0)
    image, offset = torch.rand(5, 2, 6, 7), torch.randint(0, 5, (5, 2))
    moved = shifted(image, offset, 2)
    for n in range(5):
        down, right = offset[n].tolist()
        for row in range(6):
            for column in range(7):
                y, x = row + down - 2, column + right - 2
                inside = 0 <= y < 6 and 0 <= x < 7
                expected = image[n, :, y, x] if inside else torch.tensor([-1.0, -1.0])
                assert torch.equal(moved[n, :, row, column], expected)


def test_pixels_lie_in_the_paper_s_value_range() -> None:
    tensor = normalised(np.array([0, 51, 255], dtype=np.uint8).reshape(1, 1, 3, 1))
    assert tensor.shape == (1, 1, 1, 3)
    assert tensor.flatten().tolist() == pytest.approx([-1.0, -0.6, 1.0])


def test_augmentation_follows_the_position_however_a_batch_is_split(tiny) -> None:
    cfg = tiny("augment=randaug_mixup", "augment.shift=1")
    augmented = AugmentedArrays(mnist5k.load()["train"], cfg.augment.randaugment, cfg.augment.shift, seed=0)
    whole = augmented.__getitems__(keys(0, 12))["image"]
    parts = [augmented.__getitems__(keys(0, 5))["image"], augmented.__getitems__(keys(5, 7))["image"]]
    assert torch.equal(torch.cat(parts), whole)
    # Another position of the same example is another picture.
    again = augmented.__getitems__([(position + 100, index) for position, index in keys(0, 12)])["image"]
    assert not torch.equal(again, whole)
    plain = TensorImages(mnist5k.load()["train"]).__getitems__(keys(0, 12))["image"]
    assert not torch.equal(whole, plain)


def test_small_images_get_a_black_border(tiny) -> None:
    examples = protocol.make(tiny("model.args.img_size=35")).examples()["val"]
    image = examples.__getitems__([(0, 0)])["image"]
    original = protocol.make(tiny()).examples()["val"].__getitems__([(0, 0)])["image"]
    assert image.shape == (1, 1, 35, 35)
    assert torch.equal(image[:, :, 3:31, 3:31], original)
    image[:, :, 3:31, 3:31] = -1
    assert (image == -1).all()


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

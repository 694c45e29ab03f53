"""Crops, flips and RandAugment of photographs."""

import numpy as np
import pytest
import torch
from PIL import Image

from recipes.data.images import transforms
from recipes.errors import ConfigError
from tests.recipes.data.images.image_files import one_line


def photograph(width: int = 300, height: int = 200) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_eval_transform_resizes_and_takes_the_centre():
    image = Image.new("RGB", (512, 256))
    image.paste((255, 255, 255), (144, 16, 144 + 224, 16 + 224))
    result = transforms.eval_transform(224)(image)
    assert result.shape == (3, 224, 224)
    assert result.dtype == torch.uint8
    assert (transforms.pixels(result) == 1).all()
    assert (transforms.pixels(transforms.eval_transform(224)(Image.new("RGB", (300, 300)))) == -1).all()
    assert transforms.eval_transform(32, crop=1.0)(photograph()).shape == (3, 32, 32)


def test_train_transform_crops_flips_and_keeps_the_range():
    torch.manual_seed(0)
    transform = transforms.train_transform(64)
    results = [transform(photograph()) for _ in range(4)]
    assert all(result.shape == (3, 64, 64) for result in results)
    assert all(result.dtype == torch.uint8 for result in results)
    assert not torch.equal(results[0], results[1])
    names = [type(part).__name__ for part in transform.transforms]
    assert names == ["RandomResizedCropAndInterpolation", "RandomHorizontalFlip", "MaybePILToTensor"]
    assert transform.transforms[0].scale == (0.05, 1.0)


def test_randaugment_has_two_layers_of_magnitude_15_that_are_always_applied():
    transform = transforms.train_transform(64, "rand-m15-mmax15-n2-p1")
    augment = next(part for part in transform.transforms if type(part).__name__ == "RandAugment")
    assert augment.num_layers == 2
    assert {(op.magnitude, op.magnitude_max, op.prob, op.magnitude_std) for op in augment.ops} == {(15, 15, 1.0, 0)}
    assert transform(photograph()).shape == (3, 64, 64)


def test_randaugment_beyond_timms_bound_is_refused():
    with pytest.raises(ConfigError, match="timm would cut magnitude 15 down to 10; add -mmax15") as error:
        transforms.train_transform(64, "rand-m15-n2")
    one_line(error)


@pytest.mark.parametrize("notation", ["rand-x3", "nonsense", "rand-mten", "rand-m9-n2-", "randm9", "rand-p1.2.3"])
def test_an_unknown_randaugment_is_refused(notation):
    with pytest.raises(ConfigError, match=r"augment\.randaugment=") as error:
        transforms.train_transform(64, notation)
    one_line(error)


@pytest.mark.parametrize("randaugment", [None, "rand-m15-mmax15-n2-p1"])
def test_draws_follow_from_the_global_generators(randaugment):
    from recipes.training.sampler import draw

    transform = transforms.train_transform(48, randaugment)
    first, again, other = (draw(transform, photograph(), 3, position) for position in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)

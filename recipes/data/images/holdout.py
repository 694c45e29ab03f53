"""Validation and test images that are held out of training, where a data set has no split for them."""

import numpy as np

from recipes.data import listing
from recipes.data.images.examples import ImageExamples
from recipes.errors import ConfigError

# Share of the training images; but at least MINIMUM of them, or MAX_SHARE where that is fewer.
SHARE, MINIMUM, MAX_SHARE = 0.01, 100, 0.1


def held_out_count(total: int, fraction: float | None, count: int | None) -> int:
    """How many of the training images are held out for one split.

    By default 1%, but at least 100 images, or a tenth where that is fewer.
    """
    if count is not None:
        return count
    if fraction is not None:
        return round(total * fraction)
    return max(round(total * SHARE), min(MINIMUM, round(total * MAX_SHARE)))


def with_held_out_splits(
    splits: dict[str, ImageExamples], fraction: float | None, count: int | None, location: str
) -> dict[str, ImageExamples]:
    """`train`, `val` and `test`; the missing ones are held out of training.

    The images are drawn without regard to class, and the same ones every time.

    Args:
        splits: `train`, and optionally `val` and `test`.
        fraction: share of the training images that is held out for each missing split, or None.
        count: their number, or None.
        location: how messages call the data.

    Raises:
        ConfigError: nothing would be held out, or nothing left to train on.
    """
    train = splits["train"]
    missing = [name for name in ("val", "test") if name not in splits]
    if not missing:
        return splits
    size = held_out_count(len(train), fraction, count)
    if not 0 < size * len(missing) < len(train):
        raise ConfigError(
            f"{location}: val would hold {size} of {len(train)} training images: set +data.options.val_size to a part"
            if len(missing) == 1
            else f"{location}: {' and '.join(missing)} would hold {size} of {len(train)} training images each: set "
            "+data.options.val_size to a part"
        )
    # Class folders follow each other, so that a slice at the end would be the last classes: take any images.
    order = np.argsort(np.random.default_rng(0).random(len(train)), kind="stable")
    in_train = np.ones(len(train), bool)
    completed = dict(splits)
    for part, name in enumerate(missing):
        indices = order[part * size : (part + 1) * size]
        in_train[indices] = False
        mask = np.zeros(len(train), bool)
        mask[indices] = True
        completed[name] = train.subset(mask)
    completed["train"] = train.subset(in_train)
    if size < MINIMUM or len(missing) > 1:
        where = "for val and as many for test" if len(missing) > 1 else f"for {missing[0]}"
        note = f"; one of them is {100 / size:.3g} points of accuracy" if size < MINIMUM else ""
        listing.say(f"{location}: {size} of {len(train)} images held out {where} (+data.options.val_size){note}")
    return {name: completed[name] for name in ("train", "val", "test")}

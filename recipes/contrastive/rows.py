"""Examples of contrastive training: pairs, evaluation sets as rows of an image and a text, cached image features."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recipes.contrastive.two_towers import TwoTowers
from recipes.data import cache
from recipes.data.images.transforms import pixels
from recipes.data.pairs.pairs import Encoder, Images, Pairs, Probe, Texts
from recipes.distributed import devices
from recipes.training.sampler import Batch, Key

FEATURE_BATCH = 500  # images whose features are computed at a time


class ImageRows:
    """Images, or their features once these are computed."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.features: torch.Tensor | None = None
        self.image_index: torch.Tensor | None = (
            None  # the image of each feature: where one is unreadable, its neighbour
        )

    def tower_inputs(self, index: Sequence[int]) -> tuple[Batch, torch.Tensor]:
        """The images or their features, and the indices of the images that were read."""
        if self.features is not None and self.image_index is not None:
            rows = torch.tensor(index)
            return {"feature": self.features[rows]}, self.image_index[rows]
        image, image_index = self.images.batch(index)
        return {"image": image}, torch.tensor(image_index)


class PairRows(ImageRows):
    """Training pairs."""

    def __init__(self, pairs: Pairs, encoder: Encoder) -> None:
        super().__init__(pairs.images)
        self.captions, self.encoder = pairs.captions, encoder
        # Captions in memory become tokens once; those on disk are read as they come.
        self.tokens = encoder(pairs.captions.texts) if isinstance(pairs.captions, Texts) else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        inputs, image_index = self.tower_inputs([index for _, index in keys])
        tokens = (
            self.encoder(self.captions.batch(image_index.tolist())) if self.tokens is None else self.tokens[image_index]
        )
        return inputs | {"tokens": tokens}

    def fingerprint(self) -> str:
        """A hash of images and captions."""
        return hashlib.sha256((self.images.fingerprint() + self.captions.fingerprint()).encode()).hexdigest()[:16]


class ProbeRows(ImageRows):
    """An evaluation set as rows of an image and a text; the last one of the fewer kind is repeated."""

    def __init__(self, probe: Probe, encoder: Encoder, number: int) -> None:
        super().__init__(probe.images)
        self.probe, self.number = probe, number
        self.tokens = encoder(probe.texts.texts)

    def __len__(self) -> int:
        return max(len(self.images), len(self.tokens))

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = np.array([index for _, index in keys])
        # Repeated ones are read and embedded once: COCO has five texts an image, ImageNet many images a text.
        images, image_row = np.unique(np.minimum(index, len(self.images) - 1), return_inverse=True)
        texts, text_row = np.unique(np.minimum(index, len(self.tokens) - 1), return_inverse=True)
        inputs, image_index = self.tower_inputs(images.tolist())
        return inputs | {
            "tokens": self.tokens[torch.from_numpy(texts)],
            "image_row": torch.from_numpy(image_row),
            "text_row": torch.from_numpy(text_row),
            "image_index": image_index[torch.from_numpy(image_row)],
            "set": torch.full((len(index),), self.number),
        }

    def fingerprint(self) -> str:
        """The probe's own."""
        return self.probe.fingerprint()


def cached_features(towers: TwoTowers, images: Images, tower: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A locked tower's features of these images: computed once, then read from the cache folder.

    Args:
        towers: whose image tower is locked.
        images: to compute features of.
        tower: names the image tower, its settings and its weights.

    Returns:
        float32 [N, width], and int64 [N], of which image each is.
    """
    path = cache.folder("features") / f"{cache.key(tower, images.fingerprint())}.npz"
    with cache.locked(path):
        if not path.exists():
            with devices.exact_float32():  # the cache is for runs on every device
                features, image_index = zip(*_features(towers, images), strict=True)
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, features=torch.cat(features).numpy(), taken=np.concatenate(image_index))
            temporary.replace(path)
    with np.load(path) as saved:
        return torch.from_numpy(saved["features"]), torch.from_numpy(saved["taken"])


@torch.no_grad()
def _features(towers: TwoTowers, images: Images) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    device = next(towers.image.parameters()).device
    for start in range(0, len(images), FEATURE_BATCH):
        image, image_index = images.batch(range(start, min(start + FEATURE_BATCH, len(images))))
        yield towers.features(pixels(image.to(device))).float().cpu(), np.asarray(image_index, np.int64)

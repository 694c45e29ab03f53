"""Examples of text-to-image models: images of one size and the tokens of their captions."""

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from recipes.data.images.transforms import pixels
from recipes.data.pairs.pairs import Captions, Images, Probe, Texts
from recipes.diffusion import text_encoders
from recipes.training.sampler import Batch, Key


class CaptionRows:
    """Images of one size and the tokens of their captions, for the text encoder and, to evaluate, for the scorer."""

    def __init__(
        self,
        images: Images,
        captions: Captions,
        size: int,
        text: text_encoders.TextEncoder,
        scorer: text_encoders.Scorer | None,
    ) -> None:
        self.images, self.captions, self.size, self.text, self.scorer = images, captions, size, text, scorer

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        image, indices = self.images.batch([index for _, index in keys])
        texts = self.captions.batch(list(indices))
        if image.shape[-1] != self.size:
            image = downsampled(pixels(image), self.size)
        batch = {"image": image, "tokens": self.text.tokens(texts)}
        return batch | ({} if self.scorer is None else {"scored": self.scorer.tokens(texts)})

    def fingerprint(self) -> str:
        """A hash of images, captions and the frozen networks that read them."""
        parts = [self.images.fingerprint(), self.captions.fingerprint(), self.text.fingerprint]
        parts += [] if self.scorer is None else [self.scorer.fingerprint]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


class ImageSubset:
    """ImageSubset of the images."""

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        """The images [B, C, H, W], and the numbers among these."""
        image, rows = self.images.batch([int(self.rows[i]) for i in index])
        index_of = {int(row): i for i, row in enumerate(self.rows)}
        return image, [index_of.get(int(row), i) for row, i in zip(rows, index, strict=True)]

    def fingerprint(self) -> str:
        """A hash of which they are."""
        return hashlib.sha256(self.images.fingerprint().encode() + self.rows.astype("<i8").tobytes()).hexdigest()[:16]


def captioned_rows(
    probe: Probe, size: int, text: text_encoders.TextEncoder, scorer: text_encoders.Scorer
) -> CaptionRows | None:
    """The images of a probe that have a caption, each with its first, or None where there are none."""
    first: dict[int, int] = {}
    for number, group in enumerate(probe.text_group.tolist()):
        first.setdefault(group, number)
    rows = np.array([i for i, group in enumerate(probe.image_group.tolist()) if group >= 0 and group in first])
    if not len(rows):
        return None
    captions = Texts([probe.texts.texts[first[int(probe.image_group[i])]] for i in rows])
    return CaptionRows(ImageSubset(probe.images, rows), captions, size, text, scorer)


def downsampled(images: Tensor, size: int) -> Tensor:
    """Square images [B, C, H, H] in [-1, 1] with a black border up to a multiple of `size`, averaged down to it."""
    side = images.shape[-1]
    factor = -(-side // size)
    border = factor * size - side
    edges = (border // 2, border - border // 2)
    return F.avg_pool2d(F.pad(images, edges + edges, value=-1.0), factor)

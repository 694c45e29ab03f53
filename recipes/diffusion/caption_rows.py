"""Examples of text-to-image models: images of one size and the tokens of their captions."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.data.images.transforms import pixels
from recipes.data.pairs.pairs import Captions, Images, Probe, Texts
from recipes.diffusion import text_encoders
from recipes.training.sampler import Batch, Key

STATES_BYTES = 4 * 2**30  # of the states of all captions that a device keeps
CAPTIONS_AT_A_TIME = 256  # that are read for it


class CaptionStates:
    """The frozen text encoder's states of captions, computed once a run if the device has room for all of them.

    They are computed for every batch on the CPU, for captions that are read from a disk, and if there are too many.

    Args:
        text: the encoder.
        captions: of all sets; those in memory are numbered.
    """

    NONE = 0  # the number of no caption

    def __init__(self, text: text_encoders.TextEncoder, captions: Sequence[Captions]) -> None:
        self.text = text
        known = dict.fromkeys(["", *(each for held in captions if isinstance(held, Texts) for each in held.texts)])
        self.numbers = dict(zip(known, range(len(known)), strict=True))
        self.bytes = 4 * len(known) * text.tokens([""]).numel() * text.width
        self.kept: tuple[Tensor, Tensor] | None = None

    def fits(self, device: torch.device) -> bool:
        """Whether the states of all captions are kept on a device."""
        return device.type != "cpu" and self.bytes <= STATES_BYTES

    @torch.no_grad()
    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """States [B, L, width] of a batch's captions and which of them count, bool [B, L]."""
        tokens = batch["tokens"]
        if "caption" not in batch or not self.fits(tokens.device):
            return self.text.read(tokens)
        if self.kept is None:
            every = self.text.tokens(list(self.numbers))
            parts = [self.text.read(part.to(tokens.device)) for part in every.split(CAPTIONS_AT_A_TIME)]
            states, seen = zip(*parts, strict=True)
            self.kept = torch.cat(states), torch.cat(seen)
        return self.kept[0][batch["caption"]], self.kept[1][batch["caption"]]


class CaptionRows:
    """Images of one size and the tokens of their captions, for the text encoder and, to evaluate, for the scorer."""

    states: CaptionStates | None = None  # which numbers the captions

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
        if self.states is not None and isinstance(self.captions, Texts):
            batch["caption"] = torch.tensor([self.states.numbers[text] for text in texts])
        return batch | ({} if self.scorer is None else {"scored": self.scorer.tokens(texts)})

    def fingerprint(self) -> str:
        """A hash of images, captions and the frozen networks that read them."""
        parts = [self.images.fingerprint(), self.captions.fingerprint(), self.text.fingerprint]
        parts += [] if self.scorer is None else [self.scorer.fingerprint]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


class ImageSubset:
    """Some of the images, by their rows."""

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

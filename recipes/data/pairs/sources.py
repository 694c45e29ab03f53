"""Images with captions before they are split: from WebDataset shards, from caption files, or from a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.data import listing
from recipes.data.images.examples import ImageExamples, Source, TransformedImages
from recipes.data.images.formats import tables as image_tables
from recipes.data.images.transforms import eval_transform
from recipes.data.location import location
from recipes.data.pairs import coco
from recipes.data.pairs.caption_files import has_caption_files, read_caption_files, report_missing_captions
from recipes.data.pairs.pairs import Pairs, Probe, Texts
from recipes.data.pairs.shards import ShardCaptions, Shards
from recipes.errors import ConfigError

CAPTION_COLUMNS = ("caption", "captions", "text")  # the first that exists, unless the user names one
FORMATS = (
    "WebDataset shards (*.tar), images with caption files (1.jpg and 1.txt), COCO's own files or a data set "
    "saved by Hugging Face datasets"
)


@dataclass(frozen=True)
class PairSource:
    """Images and captions of one split.

    Attributes:
        images: the encoded images, by row.
        rows: int64 [N], the images that have a caption.
        captions: those of each of these images, or None where `images` are shards, which read them.
        location: how errors call the data.
    """

    images: Source
    rows: np.ndarray
    captions: list[list[str]] | None
    location: str

    def __len__(self) -> int:
        return len(self.rows)

    def pairs(self, index: np.ndarray, size: int) -> Pairs:
        """Training pairs at these indices [N]: each image with its first caption."""
        rows = self.rows[index]
        images = DecodedImages(numbered(self.images, self.location, rows), size)
        if isinstance(self.images, Shards):
            return Pairs(images, ShardCaptions(self.images, rows))
        assert self.captions is not None
        return Pairs(images, Texts([self.captions[i][0] for i in index.tolist()]))

    def probe(self, index: np.ndarray, size: int) -> Probe:
        """A retrieval set of the images at these indices [N]: an image and its captions are of one group."""
        rows = self.rows[index]
        if isinstance(self.images, Shards):
            captions = [[self.images.caption(int(row))] for row in rows]
        else:
            assert self.captions is not None
            captions = [self.captions[i] for i in index.tolist()]
        return Probe(
            DecodedImages(numbered(self.images, self.location, rows), size),
            Texts([text for row in captions for text in row]),
            image_group=np.arange(len(captions)),
            text_group=np.repeat(np.arange(len(captions)), [len(row) for row in captions]),
        )


class DecodedImages:
    """Images of a disk, decoded, resized and cropped when they are accessed."""

    def __init__(self, examples: ImageExamples, size: int) -> None:
        self.examples = TransformedImages(examples, eval_transform(size), size)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, index: Sequence[int]) -> tuple[torch.Tensor, Sequence[int]]:
        """Uint8 [B, 3, size, size], and the indices of the images that were read."""
        examples = [self.examples[i] for i in index]
        return torch.stack([image for image, _ in examples]), [int(label) for _, label in examples]

    def fingerprint(self) -> str:
        """The images' own."""
        return self.examples.fingerprint()


def numbered(source: Source, location: str, rows: np.ndarray) -> ImageExamples:
    """Images labelled by their index: where the next image replaces an unreadable one, it brings its own caption."""
    return ImageExamples(source, rows, np.arange(len(rows)), (), location)


def pairs_of(
    hub: str | None,
    path: str | None,
    subset: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    caption_column: str | None = None,
) -> PairSource:
    """The pairs of a folder or of a data set on the hub.

    Raises:
        ConfigError: there are none.
    """
    name = location(hub, path, FORMATS)
    if path is not None:
        folder = Path(path).expanduser().absolute()
        if shards := sorted(file for file in folder.glob("*.[tT][aA][rR]") if not listing.is_hidden(file.name)):
            return from_shards(shards, name)
        if annotations := coco.annotations(folder, split):
            images, texts = coco.read(folder, annotations, name)
            return PairSource(images, np.arange(len(texts)), texts, name)
        if has_caption_files(folder):
            images, captions = read_caption_files(folder, name)
            return PairSource(images, np.arange(len(captions)), [[text] for text in captions], name)
    return _from_table(_table(hub, path, subset, split, name), f"{name} ({split})", image_column, caption_column)


def from_shards(files: Sequence[Path], location: str) -> PairSource:
    """The pairs of WebDataset shards.

    Raises:
        ConfigError: a file is not a complete tar file, or none of them contains a pair.
    """
    shards = Shards(files)
    return PairSource(shards, np.arange(len(shards)), None, location)


def _table(hub: str | None, path: str | None, subset: str | None, split: str, location: str) -> Any:
    """A split of a Hugging Face data set."""
    if path is None:
        tables = image_tables.tables_from_hub(str(hub), subset)
    elif (local := image_tables.tables_in_folder(path, subset, split)) is not None:
        tables = local
    else:
        raise ConfigError(f"{location} holds class folders, and no captions: it has to hold {FORMATS}")
    if split not in tables:
        raise ConfigError(f"{location} has no split {split}; it has {', '.join(tables)}")
    return tables[split]


def _from_table(table: Any, location: str, image_column: str | None, caption_column: str | None) -> PairSource:
    """The encoded images of a table's rows that have captions, and these."""
    images = image_tables.encoded_images(table, image_column, location)
    column = _caption_column(table.features, caption_column)
    if column not in table.features:
        raise ConfigError(
            f"{location} has no column {column}; it has {', '.join(table.features)}: set +data.options.caption_column"
        )
    values = table.select_columns([column])[column]
    captions = [[text for text in (row if isinstance(row, list) else [row]) if _is_caption(text)] for row in values]
    rows = np.flatnonzero([len(row) > 0 for row in captions])
    if not len(rows):
        raise ConfigError(f"{location}: column {column} holds no text in any of {len(captions)} rows")
    report_missing_captions(location, len(captions) - len(rows), len(captions))
    return PairSource(images, rows, [row for row in captions if row], location)


def _caption_column(features: Any, chosen: str | None) -> str:
    """The chosen column, else the first with a usual name, else the only one of texts."""
    from datasets import Value

    if chosen is not None:
        return chosen
    text_columns = [name for name, feature in features.items() if feature == Value("string")]
    usual_columns = [name for name in CAPTION_COLUMNS if name in features]
    return (usual_columns or (text_columns if len(text_columns) == 1 else ["caption"]))[0]


def _is_caption(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())

"""Images with captions from a disk or the hub, for the paper's scale, and the sets that such a model is evaluated on.

Training pairs come from a folder of WebDataset shards (`*.tar` files in which `000017.jpg` and `000017.txt`, or a
`.json` with a `caption`, belong together), from a folder of such files themselves, or from a Hugging Face data set with
a column of images and one of captions. A hub's data set can be streamed into shards.

Zero-shot classification takes sets that recipes/data/images/files.py reads: the first is for model selection (`val`,
held out of its training images) and for reporting (`test`), others are for reporting. Retrieval takes a split with one
or several captions an image. Without either, pairs are held out of training for both, and evaluated by retrieval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recipes.data import listing
from recipes.data.images import files
from recipes.data.images.holdout import held_out_count
from recipes.data.location import location
from recipes.data.pairs import streamed
from recipes.data.pairs.pairs import PAD, PairData, Pairs, Probe, Texts
from recipes.data.pairs.sources import FORMATS, PairSource, from_shards, pairs_of
from recipes.data.pairs.zero_shot import prompt_names, zero_shot_probe
from recipes.data.text import bpe
from recipes.errors import ConfigError

HOLDS = "images with captions"  # matched with `learns_from` of recipes

TEMPLATES = ("a photo of a {}.", "a picture of the {}.", "a close-up photo of a {}.", "an image that shows a {}.")
VOCABULARY = 768  # of a tokenizer that is trained on the captions


def load(
    hub: str | None = None,
    path: str | None = None,
    *,
    tokenizer: str | None = None,
    vocab_size: int = VOCABULARY,
    size: int = 224,
    subset: str | None = None,
    train_split: str = "train",
    image_column: str | None = None,
    caption_column: str | None = None,
    streaming: bool = False,
    train_pairs: int | None = None,
    val_size: int | None = None,
    templates: Sequence[str] = TEMPLATES,
    zero_shot: Mapping[str, Mapping[str, Any]] | None = None,
    retrieval: Mapping[str, Mapping[str, Any]] | None = None,
) -> PairData:
    """Training pairs and the probes `val`, `test` and those of further sets by name.

    Args:
        hub: a data set's name on the Hugging Face hub.
        path: a folder of shards, of pictures and captions, or of a saved data set; it goes first.
        tokenizer: a published one: a local tokenizer.json, or a name on the hub; None trains a byte-level BPE on the
            training captions.
        vocab_size: of the tokenizer that is trained.
        size: height and width of the images in pixels.
        subset: the configuration of a hub's data set that has several.
        train_split: of a Hugging Face data set.
        image_column: likewise; by default `image`, or else the only column of images.
        caption_column: likewise; by default the first there of caption, captions and text, or else the only column of
            texts; where a row has several captions, the first is trained on.
        streaming: a hub's data set is streamed once into shards in the cache, instead of being copied whole first.
        train_pairs: of these, so many; None is all.
        val_size: pairs held out for `val`, and as many for `test`, where neither `zero_shot` nor `retrieval.val` says
            what to choose by; None is 1%, but at least 100, or a tenth where that is fewer.
        templates: the prompts of a class, with {} for its name.
        zero_shot: for each set its `path` or `hub`, `names` (a JSON list of its classes' names, in the order of the
            labels; by default what the data call them, WordNet's numbers by their first word) and other options of
            recipes/data/images/files.py.
        retrieval: for each set its `path` or `hub`, `split`, `image_column` and `caption_column`.

    Raises:
        ConfigError: data are missing or invalid.
    """
    if (streaming or train_pairs is not None) and not (streaming and path is None and hub is not None):
        raise ConfigError("data.options.streaming and train_pairs go together with data.hub: a disk is read in place")
    name = location(hub, path, FORMATS)
    if streaming and hub is not None:
        if train_pairs is not None and train_pairs < 1:
            raise ConfigError(f"data.options.train_pairs={train_pairs} must be at least 1, or null for all")
        columns = image_column or "image", caption_column or "caption"
        source = from_shards(streamed.shards(streamed.Source(hub, subset, train_split, *columns), train_pairs), name)
    else:
        source = pairs_of(hub, path, subset, train_split, image_column, caption_column)
    if zero_shot or "val" in (retrieval or {}):
        pairs, probes = source.pairs(np.arange(len(source)), size), dict[str, Probe]()
    else:
        pairs, probes = _held_out(source, size, val_size, name)
    probes |= _zero_shot_probes(zero_shot or {}, templates, size)
    for data_set, settings in (retrieval or {}).items():
        probes[data_set] = _retrieval_probe(data_set, settings, size)
    if tokenizer is not None:
        return PairData(pairs, probes, bpe.published(tokenizer))
    captions = pairs.captions

    def texts() -> Sequence[str]:
        return captions.texts if isinstance(captions, Texts) else captions.batch(range(len(captions)))

    return PairData(pairs, probes, bpe.trained(texts, captions.fingerprint(), vocab_size, (PAD,)))


def _held_out(source: PairSource, size: int, val_size: int | None, name: str) -> tuple[Pairs, dict[str, Probe]]:
    """Pairs to train on, and `val` and `test`: the same ones every time."""
    count = held_out_count(len(source), None, val_size)
    if not 0 < 2 * count < len(source) - 1:
        raise ConfigError(
            f"{name}: val and test would hold {count} of {len(source)} pairs each: give more pairs, set "
            "+data.options.val_size to a part, or name other data to choose by, as "
            "'+data.options.zero_shot.imagenet.path=/data/imagenet'"
        )
    order = np.argsort(np.random.default_rng(0).random(len(source)), kind="stable")
    listing.say(
        f"{name}: {count} of {len(source)} pairs held out for val and as many for test (+data.options.val_size), "
        "judged by retrieval; labelled images judge by zero-shot accuracy: '+data.options.zero_shot.mine.path='"
    )
    splits = {"val": order[:count], "test": order[count : 2 * count]}
    return source.pairs(np.sort(order[2 * count :]), size), {
        split: source.probe(np.sort(index), size) for split, index in splits.items()
    }


def _zero_shot_probes(
    data_sets: Mapping[str, Mapping[str, Any]], templates: Sequence[str], size: int
) -> dict[str, Probe]:
    """`val` and `test` of the first data set, and the test splits of the others under their names."""
    probes = {}
    for number, (data_set, settings) in enumerate(data_sets.items()):
        splits = files.load(**{option: value for option, value in settings.items() if option != "names"})
        names = prompt_names(data_set, settings.get("names"), splits["test"].class_names)
        if number == 0:
            probes["val"] = zero_shot_probe(splits["val"], names, templates, size)
        for split in sorted(set(splits) - {"train", "val"}):
            test_name = "test" if number == 0 else data_set
            probe_name = test_name if split == "test" else f"{data_set}_{split}"
            probes[probe_name] = zero_shot_probe(splits[split], names, templates, size)
    return probes


def _retrieval_probe(data_set: str, settings: Mapping[str, Any], size: int) -> Probe:
    """A split whose images and captions are to be retrieved by each other."""
    defaults = {"path": None, "hub": None, "subset": None, "split": "test"}
    defaults |= {"image_column": None, "caption_column": None}
    if unknown := sorted(set(settings) - set(defaults)):
        raise ConfigError(
            f"data.options.retrieval.{data_set} has no option {unknown[0]}; it takes {', '.join(defaults)}"
        )
    options: dict[str, Any] = defaults | dict(settings)
    source = pairs_of(**options)
    return source.probe(np.arange(len(source)), size)

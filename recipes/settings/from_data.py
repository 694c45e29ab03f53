"""Settings that follow from a user's own data (classes, channels, vocabulary), set before the run id is computed.

A task's setting has the number of classes, channels and tokens of its default data set. With a user's own data they are
read from the data, so that the config, the record and the run id say what was trained. A typed value is never changed;
if it contradicts the data, that is reported as a mistake. Data sets that ship with the suite are not read.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from recipes.data import listing
from recipes.errors import ConfigError
from recipes.settings import declarations, schema

OWN = ("images.files", "pairs.image_text", "text.tokens")  # modules of recipes/data/ that read a user's own data
SMALL_SIDE = 32  # pixels of images at embedded scale if neither model nor command sets their size


@dataclass(frozen=True)
class Derived:
    """A setting that follows from the data.

    Attributes:
        key: such as model.args.num_classes.
        value: required by the data.
        why: for the error message if another value was typed.
    """

    key: str
    value: Any
    why: str


class Typed:
    """The settings that the command sets: its overrides, or those whose values differ from the files in conf/.

    Args:
        cfg: the composed config.
        overrides: of the command; None where they are not known.
    """

    def __init__(self, cfg: DictConfig, overrides: Sequence[str] | None) -> None:
        self.cfg = cfg
        keys = (re.sub(r"^[+~]*|[=@].*$", "", text, flags=re.DOTALL) for text in overrides or ())
        self.keys = [key for key in keys if not (schema.CONF / key).is_dir()]  # data=text chooses a file
        setting = schema.CONF / "setting" / str(cfg.scale.name)
        files = [schema.CONF / "data" / f"{cfg.data.name}.yaml", setting / f"{cfg.task.name}.yaml"]
        files.append(setting / f"{cfg.task.name}_{cfg.augment.name}.yaml")
        data, *settings = [OmegaConf.load(file) if file.is_file() else OmegaConf.create({}) for file in files]
        self.files = OmegaConf.merge({"data": data}, *settings)

    def __call__(self, key: str) -> bool:
        """Whether the command sets this setting."""
        if any(key == typed or key.startswith(f"{typed}.") for typed in self.keys):
            return True
        value = OmegaConf.select(self.cfg, key)
        return value is not None and value != OmegaConf.select(self.files, key)


def resolve(cfg: DictConfig, overrides: Sequence[str] | None = None) -> None:
    """Set what follows from the data in a config, in place, and print it in one line.

    Args:
        cfg: the composed config.
        overrides: of its command, where they are known; else those that Hydra knows of this process.

    Raises:
        ConfigError: something else was typed, or the data are not what they have to be.
    """
    changed, contradictions = _settled(cfg, overrides)
    if contradictions:
        raise ConfigError("; ".join(contradictions))
    shown = []
    for derived in changed:
        OmegaConf.update(cfg, derived.key, derived.value, force_add=True)
        value = json.dumps(derived.value, ensure_ascii=False)
        shown.append(f"{derived.key}={value}")
    for name in superfluous(cfg, overrides):
        with open_dict(cfg.data):
            del cfg.data.options[name]
    if shown:
        listing.say(f"data.path={cfg.data.path} gives {' '.join(shown)}")


def problems(cfg: DictConfig, typed: Sequence[str] | None = None) -> list[str]:
    """All mistakes in a command's settings of data, each with what to type; most without importing torch.

    A dry run reads no data, so a missing location is not reported.

    Args:
        cfg: the composed config.
        typed: the settings that the command names, or its overrides; None where they are not known.
    """
    lines = _family_problems(cfg) + option_problems(cfg, typed)
    if not cfg.get("dry_run"):
        lines += declarations.place_problems(cfg.data)
    return lines or contradictions(cfg, typed)


def option_problems(cfg: DictConfig, typed: Sequence[str] | None = None) -> list[str]:
    """Mistakes in the kind of data for a task, and in the options that were typed."""
    try:
        holds, wanted = declarations.holds(cfg.data.module), declarations.learns_from(cfg.task.recipe)
    except ConfigError as error:
        return [str(error)]
    if holds != wanted:
        return [f"data={cfg.data.name} holds {holds}; task={cfg.task.name} learns from {wanted}"]
    return declarations.option_problems(cfg.data, superfluous(cfg, typed))


def _family_problems(cfg: DictConfig) -> list[str]:
    """Settings of a family that contradict each other, as far as this can be checked without importing its module."""
    lines = []
    shift, side, batch = (OmegaConf.select(cfg, key) for key in ("augment.shift", "model.args.img_size", "batch_size"))
    embedded_images = cfg.task.recipe == "classification" and cfg.data.module not in OWN
    if embedded_images and isinstance(side, int) and isinstance(shift, int):
        lines += [problem] if (problem := shift_problem(shift, side)) else []
    if cfg.task.recipe == "contrastive.recipe" and isinstance(batch, int) and batch < 2:
        lines.append(f"batch_size={batch}: the contrastive loss compares the pairs of a batch; choose 2 or more")
    return lines


def shift_problem(shift: int, side: int) -> str | None:
    """Why images of so many pixels a side cannot be translated by up to `shift` pixels, or None."""
    if shift <= side // 2:
        return None
    return f"augment.shift={shift} moves images of {side} pixels out of sight: choose at most {side // 2}"


def contradictions(cfg: DictConfig, overrides: Sequence[str] | None = None) -> list[str]:
    """Typed settings that contradict the data, and mistakes in the data, one line each."""
    try:
        return _settled(cfg, overrides)[1]
    except ConfigError as error:
        return [str(error)]


def _typed_in(overrides: Sequence[str] | None) -> Sequence[str] | None:
    from hydra.core.hydra_config import HydraConfig

    if overrides is None and HydraConfig.initialized():
        typed: list[str] = list(HydraConfig.get().overrides.task)
        return typed
    return overrides


def _settled(cfg: DictConfig, overrides: Sequence[str] | None) -> tuple[list[Derived], list[str]]:
    """The settings that change, and what contradicts those that were typed."""
    path = cfg.data.path
    if cfg.data.module not in OWN or path is None or not Path(path).expanduser().exists():
        return [], []
    typed = Typed(cfg, _typed_in(overrides))
    changed, contradictions = [], []
    for derived in _derived(cfg, typed):
        now = OmegaConf.select(cfg, derived.key)
        if now == derived.value or (OmegaConf.is_config(now) and OmegaConf.to_container(now) == derived.value):
            continue
        if typed(derived.key):
            value = "null" if derived.value is None else str(derived.value).lower()
            current = "null" if now is None else str(now).lower()
            contradictions.append(f"{derived.key}={current}: {derived.why}: set {derived.key}={value}, or leave it out")
        else:
            changed.append(derived)
    return changed, contradictions


def _derived(cfg: DictConfig, typed: Typed) -> list[Derived]:
    settings: list[Derived] = []
    try:
        for derived in FAMILIES.get(cfg.task.recipe, _nothing)(cfg, typed):
            settings.append(derived)
    except ConfigError:
        raise
    except (OmegaConfBaseException, AttributeError, TypeError, ValueError):
        pass  # a setting is missing or of another type, which the recipe and recipes/settings/validation.py name
    return settings


def superfluous(cfg: DictConfig, overrides: Sequence[str] | None) -> list[str]:
    """Options of the task's setting that the chosen data set does not take."""
    try:
        takes = declarations.options(cfg.data.module)
    except ConfigError:  # protocol.make reports it
        return []
    if not (unknown := [name for name in cfg.data.options if name not in takes]):
        return []
    if "scale" not in cfg:  # a part of a config
        return []
    typed = Typed(cfg, _typed_in(overrides))
    return [name for name in unknown if not typed(f"data.options.{name}")]


def _options(cfg: DictConfig) -> dict[str, Any]:
    options: Any = OmegaConf.to_container(cfg.data.options, resolve=True)
    taken = declarations.options(cfg.data.module)
    return {name: value for name, value in options.items() if name in taken}


def _nothing(cfg: DictConfig, typed: Typed) -> Iterator[Derived]:
    yield from ()


def _classification(cfg: DictConfig, typed: Typed) -> Iterator[Derived]:
    """Classes, channels and the size of pictures."""
    number = _classes(cfg)
    if number < 2:
        raise ConfigError(
            f"data.path={cfg.data.path} has one class, and a classifier needs two or more: give the folder that holds "
            "the class folders"
        )
    yield Derived("model.args.num_classes", number, f"the data have {number} classes")
    if cfg.model.args.get("in_chans", 3) != 3:
        yield Derived("model.args.in_chans", 3, "pictures are read as RGB")
    sized = cfg.model.args.get("img_size") or cfg.data.options.get("size")
    if not sized and cfg.scale.name == "embedded":
        yield Derived("data.options.size", SMALL_SIDE, "a size of pictures")
    yield Derived("augment.shift", 0, "it moves embedded pictures, and those of files are cropped at random instead")


def _classes(cfg: DictConfig) -> int:
    from recipes.data.images import files as images

    options = _options(cfg)
    where = {name: options.get(name) for name in ("subset", "label_column") if options.get(name) is not None}
    return len(images.class_names(cfg.data.path, train_split=options.get("train_split", "train"), **where))


def _diffusion(cfg: DictConfig, typed: Typed) -> Iterator[Derived]:
    """Channels, classes and size; and a feature extractor that learns from the same pictures."""
    unet = cfg.model.args.unet
    yield Derived("model.args.unet.image_channels", 3, "pictures are read as RGB")
    if unet.classes is not None:
        number = _classes(cfg)
        yield Derived("model.args.unet.classes", number, f"the data have {number} classes (null for no classes)")
    size = cfg.data.options.get("size")
    if size is not None:
        yield Derived("data.options.size", unet.size, f"the model has model.args.unet.size={unet.size}")
    judge = str(cfg.model.args.judge)
    if judge.startswith(schema.RUN) and not typed("model.args.judge"):
        yield Derived("model.args.judge", _own_extractor(cfg, judge), "a feature extractor of the same data")


def _own_extractor(cfg: DictConfig, judge: str) -> str:
    """The command of a classification run on the same pictures at the same size."""
    side = int(cfg.model.args.unet.size)
    options = _options(cfg) | ({"size": side} if "size" in cfg.data.options else {})
    settings = {"data": cfg.data.name, "data.path": schema.quoted(str(cfg.data.path))}
    settings |= {f"+data.options.{name}": schema.literal(value) for name, value in sorted(options.items())}
    settings |= {"model.args.img_size": str(side), "model.args.patch_size": str(max(1, side // 4))}
    words = [word for word in shlex.split(judge.removeprefix(schema.RUN)) if word.partition("=")[0] not in settings]
    return schema.RUN + shlex.join([*words, *(f"{key}={value}" for key, value in settings.items())])


def _contrastive(cfg: DictConfig, typed: Typed) -> Iterator[Derived]:
    """Size, channels, vocabulary, and a batch no larger than the training set.

    The default image tower was trained on the default data set. If the command names no other, both towers learn from
    the pairs.
    """
    args = cfg.model.args
    image = args.image.get("args") or {}
    if size := image.get("img_size"):
        yield Derived("data.options.size", size, f"the image tower has model.args.image.args.img_size={size}")
    if image.get("in_chans", 3) != 3:
        yield Derived("model.args.image.args.in_chans", 3, "pictures are read as RGB")
    if str(cfg.init_from or "").startswith(schema.RUN) and not typed("init_from"):
        why = "the tower of this setting has not seen such pictures; name one that has with init_from="
        yield Derived("init_from", None, why)
        yield Derived("model.args.lock_image", False, why)
        yield Derived("model.args.cache_features", False, why)
    yield from _tokens_of_pairs(cfg)
    pairs = _training_pairs(cfg)
    if pairs is not None and cfg.batch_size > pairs >= 2:
        why = f"there are {pairs} pairs to train on, and a pair twice in a batch is its own wrong answer"
        yield Derived("batch_size", 1 << (pairs.bit_length() - 1), why)


def _tokens_of_pairs(cfg: DictConfig) -> Iterator[Derived]:
    """Rows of the text tower's embedding and its padding token."""
    from recipes.data.pairs import pairs
    from recipes.data.text import bpe

    options, text = _options(cfg), cfg.model.args.text
    if options.get("tokenizer") is None:
        tokens, pad = options.get("vocab_size", 768), 1
    else:
        tokenizer = bpe.published(str(options["tokenizer"]))
        tokens, pad = tokenizer.get_vocab_size(), pairs.Encoder(tokenizer, 2).pad
    if tokens > text.vocab_size:
        yield Derived("model.args.text.vocab_size", tokens, f"the tokenizer has {tokens} tokens")
    yield Derived("model.args.text.pad_token_id", pad, f"the tokenizer fills up with token {pad}")


def _training_pairs(cfg: DictConfig) -> int | None:
    from recipes.data.images.holdout import held_out_count
    from recipes.data.pairs.sources import pairs_of

    options = _options(cfg)
    columns = {name: options.get(name) for name in ("subset", "image_column", "caption_column")}
    source = pairs_of(None, cfg.data.path, split=options.get("train_split", "train"), **columns)
    if options.get("zero_shot") or "val" in (options.get("retrieval") or {}):
        return len(source)
    return len(source) - 2 * held_out_count(len(source), None, options.get("val_size"))


def _text_to_image(cfg: DictConfig, typed: Typed) -> Iterator[Derived]:
    size = cfg.model.args.unet.size
    yield Derived("data.options.size", size, f"the model has model.args.unet.size={size}")


def _text(cfg: DictConfig, typed: Typed, *, encoder_decoder: bool = False) -> Iterator[Derived]:
    """Rows of the embedding, and of T5 the tokens that pad and end."""
    options, args = _options(cfg), cfg.model.args
    if Path(cfg.data.path).expanduser().is_dir():
        from recipes.data.text import documents

        documents.local(cfg.data.path, options.get("column", "text"), options.get("holdout"))  # names what is wrong
    if options.get("tokenizer") is not None:
        from recipes.data.text import bpe, spans
    rows = args.get("vocab_size")
    if options.get("tokenizer") is None:
        tokens = None if encoder_decoder else options.get("vocab_size")  # of T5, the model's rows decide
    else:
        tokenizer = bpe.published(str(options["tokenizer"]))
        tokens = tokenizer.get_vocab_size()
        if encoder_decoder and (pad := tokenizer.token_to_id(spans.PAD)) is not None:
            yield Derived("model.args.pad_token_id", pad, f"the tokenizer pads with token {pad}")
            if (end := bpe.special(tokenizer, bpe.ENDS)) is not None:
                yield Derived("model.args.eos_token_id", end, f"the tokenizer ends texts with token {end}")
    if tokens is not None and rows is not None and tokens > rows:
        yield Derived("model.args.vocab_size", tokens, f"the tokenizer has {tokens} tokens, the model {rows}")


FAMILIES: Mapping[str, Any] = {
    "classification": _classification,
    "diffusion.class_conditional": _diffusion,
    "contrastive.recipe": _contrastive,
    "diffusion.text_to_image": _text_to_image,
    "language.language_modelling": _text,
    "language.span_corruption": partial(_text, encoder_decoder=True),
}

"""Contrastive training of an image and a text tower: LiT, and BASIC (Lion paper, section 4.2, Tables 1 and 4).

Data: images with captions. Model: timm's image tower, locked in LiT, and a text tower with random weights. Loss:
InfoNCE over the batch of all processes. Metric: zero-shot accuracy, an image's nearest class by the mean embedding of
the class's prompts; retrieval in both directions is measured too, and is the metric if val has no classes. The features
of a locked tower are computed once if images are not augmented.
"""

import difflib
import json
from typing import Any, Literal

import timm
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from recipes import protocol
from recipes.contrastive import retrieval
from recipes.contrastive.loss import info_nce
from recipes.contrastive.rows import PairRows, ProbeRows, cached_features
from recipes.contrastive.two_towers import TwoTowers
from recipes.data.pairs.pairs import Encoder
from recipes.errors import ConfigError
from recipes.protocol import load_data
from recipes.training.pretrained_weights import load_matching, weights_fingerprint
from recipes.training.sampler import Batch, Examples

ARGS = (
    "image",
    "text",
    "width",
    "length",
    "logit_scale",  # 10 is LiT's; larger models trained with Lion have needed more
    "lock_image",
    "project_image",
    "cache_features",
    "micro_batch",
)


class Recipe(protocol.Recipe):
    """One pair of towers on one set of pairs."""

    learns_from = "images with captions"
    metric = "zero_shot"
    goal: Literal["max", "min"] = "max"
    forward_methods = ("embed_image", "embed_text")

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        args: Any = OmegaConf.to_container(cfg.model.args)
        if mismatched := sorted(set(args) ^ set(ARGS)):
            raise ConfigError(f"model.args of {cfg.model.name} are {', '.join(ARGS)}; see {mismatched[0]}")
        self.args = args
        self.uses_initial_weights = bool(args["cache_features"])
        scale, micro = self.args["logit_scale"], self.args["micro_batch"]
        if not scale > 0:
            raise ConfigError(f"model.args.logit_scale={scale} must be above 0")
        if micro is not None and micro < 1:
            raise ConfigError(f"model.args.micro_batch={micro} must be at least 1, or null")
        if cfg.batch_size < 2:
            raise ConfigError(
                f"batch_size={cfg.batch_size}: the contrastive loss compares the pairs of a batch; choose 2 or more"
            )
        if cfg.accumulate > 1:
            raise ConfigError(
                f"accumulate={cfg.accumulate} would compare each micro-batch with itself alone; "
                "model.args.micro_batch= embeds in parts and compares all"
            )
        if self.args["cache_features"] and not self.args["lock_image"]:
            raise ConfigError("model.args.cache_features=true needs model.args.lock_image=true: features would change")
        self.image_width: int | None = None
        self.probes: list[ProbeRows] = []
        self.pairs: PairRows | None = None

    def examples(self) -> dict[str, Examples]:
        """The pairs, and every evaluation set as rows of an image and a text."""
        if self.args["lock_image"] and self.cfg.init_from is None:
            raise ConfigError(
                "model.args.lock_image=true needs init_from=: a run's folder, a .safetensors file or run:command; "
                "a locked tower with random weights would learn nothing"
            )
        data: Any = load_data(self.cfg)  # PairData
        if not (data.probes["val"].label >= 0).any():
            self.metric = "image_to_text_1"
        if not (data.probes["val"].label >= 0).any() and not (data.probes["val"].image_group >= 0).any():
            raise ConfigError(
                f"data={self.cfg.data.name} has neither labelled images nor captions in val to choose by: set "
                "'+data.options.zero_shot.imagenet.path=/data/imagenet'"
            )
        encoder = Encoder(data.tokenizer, self.args["length"])
        text = self.args["text"]
        if data.tokenizer.get_vocab_size() > text["vocab_size"] or text["pad_token_id"] != encoder.pad:
            raise ConfigError(
                f"data={self.cfg.data.name} has {data.tokenizer.get_vocab_size()} tokens and fills up with token "
                f"{encoder.pad}; model.args.text.vocab_size={text['vocab_size']} and "
                f"pad_token_id={text['pad_token_id']} do not fit"
            )
        self.pairs = PairRows(data.train, encoder)
        self.probes = [ProbeRows(probe, encoder, number) for number, probe in enumerate(data.probes.values())]
        return {"train": self.pairs, **dict(zip(data.probes, self.probes, strict=True))}

    def model(self) -> nn.Module:
        """Both towers with random weights."""
        from transformers import RobertaPreLayerNormConfig, RobertaPreLayerNormModel

        image, text = self.args["image"], self.args["text"]
        if not timm.is_model(image["name"]):
            near = ", ".join(difflib.get_close_matches(image["name"], timm.list_models(), n=3)) or "timm.list_models()"
            raise ConfigError(f"model.args.image.name={image['name']} is not a timm model; similar: {near}")
        try:
            tower = timm.create_model(image["name"], pretrained=False, **image.get("args", {}) | {"num_classes": 0})
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"model.args.image: {image['name']} does not take these args: {error}") from None
        if unknown := sorted(set(text) - set(vars(RobertaPreLayerNormConfig()))):
            raise ConfigError(f"model.args.text.{unknown[0]} is none of RobertaPreLayerNormConfig's")
        # Positions are counted from the padding token's number on.
        positions = self.args["length"] + text["pad_token_id"] + 1
        config = RobertaPreLayerNormConfig(**{"type_vocab_size": 1, "max_position_embeddings": positions} | text)
        names = ("width", "logit_scale", "lock_image", "project_image", "micro_batch")
        towers = TwoTowers(
            tower,
            RobertaPreLayerNormModel(config, add_pooling_layer=False),
            **{name: self.args[name] for name in names},
        )
        self.image_width = towers.image_width
        if not self.args["project_image"] and towers.image_width != self.args["width"]:
            raise ConfigError(
                f"model.args.width={self.args['width']}, and {image['name']} has {towers.image_width} features: "
                "they must be equal, or model.args.project_image=true"
            )
        return towers

    def initialise(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Give the image tower a classifier's weights, without its head; or both towers those of such a run as this."""
        towers: Any = model
        is_two_towers = "log_scale" in weights
        target = towers if is_two_towers else towers.image
        if not is_two_towers:
            target_state = target.state_dict()
            head = [
                name for name in weights if name not in target_state and name.startswith(("head", "fc", "classifier"))
            ]
            weights = {name: value for name, value in weights.items() if name not in head}
        load_matching(target, weights, self.cfg.init_from, self.args["image"]["name"], kind="image tower")
        if self.args["cache_features"] and self.pairs is not None:
            # The same weights compute other features with other heads, pooling or activations.
            image = self.args["image"]
            described = json.dumps([image["name"], image.get("args", {}), timm.__version__], sort_keys=True)
            tower = f"{described} {weights_fingerprint(towers.image)}"
            if self.cfg.device == "auto" and torch.accelerator.is_available():
                towers.image.to(torch.accelerator.current_accelerator())  # the loop moves it there anyway
            for rows in (self.pairs, *self.probes):
                rows.features, rows.image_index = cached_features(towers, rows.images, tower)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """InfoNCE over the batch of all processes; the scale and the share of texts found are logged too."""
        cached = "feature" in batch
        image, text, scale = model(batch["feature" if cached else "image"], batch["tokens"], is_feature=cached)
        return {"loss": info_nce(image, text, scale), "logit_scale": scale.detach()}

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """The embeddings of each row's image and text, the number of that image, and which set the row is of."""
        towers: Any = model
        cached = "feature" in batch
        return {
            "image": towers.embed_image(batch["feature" if cached else "image"], is_feature=cached)[batch["image_row"]],
            "text": towers.embed_text(batch["tokens"])[batch["text_row"]],
            "image_index": batch["image_index"],
            "set": batch["set"],
        }

    def metrics(self, figures: dict[str, torch.Tensor]) -> dict[str, float]:
        """Zero-shot accuracy and recalls of the set that the rows are of, where it has classes and captions."""
        probe = self.probes[int(figures["set"][0])].probe
        image, text = figures["image"][: len(probe.images)], figures["text"][: len(probe.texts)]
        index = figures["image_index"][: len(probe.images)].long()
        label, image_group = (torch.from_numpy(array)[index] for array in (probe.label, probe.image_group))
        prompt_class, text_group = (torch.from_numpy(array) for array in (probe.prompt_class, probe.text_group))
        values = {}
        if (label >= 0).any() and (prompt_class >= 0).any():
            values["zero_shot"] = retrieval.zero_shot(image, label, text, prompt_class)
        if (image_group >= 0).any():
            to_text = retrieval.recalls(image, image_group, text, text_group)
            to_image = retrieval.recalls(text, text_group, image, image_group)
            values |= {f"image_to_text_{k}": value for k, value in to_text.items()}
            values |= {f"text_to_image_{k}": value for k, value in to_image.items()}
        return values

    def blank_batch(self, size: int) -> Batch:
        """Zeros of an image's shape, or of its feature's where these are cached, and tokens that are no padding."""
        args = self.args["image"].get("args", {})
        tokens = torch.full((size, self.args["length"]), (self.args["text"]["pad_token_id"] + 1) % 2)
        if self.args["cache_features"]:
            if self.image_width is None:
                with torch.device("meta"):
                    self.model()
            return {"feature": torch.zeros(size, self.image_width or 0), "tokens": tokens}
        published = timm.get_pretrained_cfg(self.args["image"]["name"])
        side = args.get("img_size") or (published.input_size[-1] if published else 224)
        return {"image": torch.zeros(size, args.get("in_chans", 3), side, side), "tokens": tokens}

"""Image synthesis by diffusion with a U-Net (Lion paper, section 4.3, Figures 1 and 5).

Data: images and labels. Model: ADM's U-Net, class-conditional or not, without guidance. Loss: mean square on noise or
on v, at a random time step of each image. Metric: the Fréchet distance between images that the averaged weights
generate and those of the split, one for one of the same class. With the Inception network's features it is the FID; at
embedded scale the features are of our own classifier, and it is not called FID. The loss at fixed noise levels and the
share of images that the classifier assigns to the intended class are measured too.
"""

import hashlib
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from recipes import protocol
from recipes.data.images.arrays import ImageArrays
from recipes.data.images.batches import TensorImages
from recipes.diffusion import feature_extractors, unet
from recipes.diffusion.frechet import between_gaussians, frechet_distance, reference_statistics, statistics
from recipes.diffusion.noise_schedule import noise_schedule
from recipes.diffusion.rows import EvaluationRows, ImageFileRows, initial_noise, row_seed
from recipes.diffusion.samplers import Denoiser, grid, sample, sampler
from recipes.errors import ConfigError
from recipes.protocol import load_data
from recipes.settings.arguments import check_arguments, check_names, is_count
from recipes.settings.schema import RUN
from recipes.training.pretrained_weights import load_matching
from recipes.training.sampler import Batch, Examples

ARGS = ("unet", "noise", "sampler", "judge", "reference", "samples")
TRAIN = "train"
LEVELS = 4  # fixed noise levels for the loss of an example in evaluation
GRID = 10  # rows and columns of the sample grid


class Recipe(protocol.Recipe):
    """One U-Net on one set of images."""

    learns_from = "images with labels"
    metric = "frechet_own_features"
    goal: Literal["max", "min"] = "min"
    argument_names: tuple[str, ...] = ARGS
    network_arguments: tuple[str, ...] = ("judge",)  # of these, networks that are called by a name
    unet: Callable[..., nn.Module] = staticmethod(unet.image_unet)

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        args: Any = OmegaConf.to_container(cfg.model.args)
        check_names(args, self.argument_names, "model.args")
        check_arguments(args["unet"], self.unet, "model.args.unet")
        check_arguments(args["noise"], noise_schedule, "model.args.noise")
        check_arguments(args["sampler"], sampler, "model.args.sampler", elsewhere=["noise"])
        with torch.device("meta"):
            self.unet(**args["unet"])  # says what is wrong with the sizes, before any work
        for name in self.network_arguments:
            if not isinstance(args[name], str):
                raise ConfigError(
                    f"model.args.{name}={args[name]} names nothing; docs/diffusion.md says what it may name"
                )
        self.args = args
        self.noise = noise_schedule(**args["noise"])
        self.scheduler = sampler(self.noise, **args["sampler"])
        self.shape = (args["unet"]["image_channels"], args["unet"]["size"], args["unet"]["size"])
        if args["judge"].startswith(RUN) and args["judge"] != args.get("scorer"):  # else a LiT run, which has both
            feature_extractors.check_run(args["judge"], cfg.scale.name, self.shape)
        self.feature_extractor: feature_extractors.FeatureExtractor | None = None
        self.reference: tuple[Tensor, Tensor] | None = None
        self.trained: weakref.ref[nn.Module] | None = None

    def examples(self) -> dict[str, Examples]:
        """Training images; for evaluation, images with the noise from which their counterparts are generated."""
        splits = load_data(self.cfg)
        classes, names = self.args["unet"]["classes"], splits[TRAIN].class_names
        if classes not in (None, len(names)):
            raise ConfigError(
                f"data={self.cfg.data.name} has {len(names)} classes, model.args.unet.classes={classes}; "
                "null is for a model that is not class-conditional"
            )
        self.check_samples(splits)
        rows = {name: self._rows(split, train=name == TRAIN) for name, split in splits.items()}
        self.set_feature_extractor(feature_extractors.load(self.cfg, self.args["judge"]))
        return {name: each if name == TRAIN else self.evaluation_rows(name, each) for name, each in rows.items()}

    def set_feature_extractor(self, extractor: feature_extractors.FeatureExtractor) -> None:
        """Load the feature extractor, and the statistics of the reference images if they are given.

        Raises:
            ConfigError: it does not take the model's images, or the statistics are of other features.
        """
        self.feature_extractor, self.metric = extractor, extractor.metric
        width = extractor.width(self.shape)
        if self.args["reference"] is not None:
            self.reference = reference_statistics(Path(self.args["reference"]), width)

    def check_samples(self, splits: Iterable[str]) -> None:
        """Refuse a number of samples for a split that the data do not have.

        Raises:
            ConfigError: there is one.
        """
        split_names = {"val", "test", *splits} - {TRAIN}  # a setting may name these two before the data do
        if isinstance(self.args["samples"], dict) and (unknown := sorted({*self.args["samples"]} - split_names)):
            raise ConfigError(
                f"model.args.samples: no split is named {unknown[0]}; known: {', '.join(sorted(split_names))}"
            )

    def evaluation_rows(self, split: str, rows: Any) -> EvaluationRows:
        """A split's rows to evaluate by; their fingerprint covers the feature extractor."""
        assert self.feature_extractor is not None
        fingerprints = [self.feature_extractor.fingerprint]
        if self.reference is not None:
            fingerprints += [hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in self.reference]
        number = self.args["samples"]
        if isinstance(number, dict):
            number = number.get(split)
        if number is not None and not (is_count(number) and number > 1):
            raise ConfigError(
                f"model.args.samples={self.args['samples']}: expected a whole number of at least 2, null for as many "
                "as the split has images, or such numbers by split, as {val: 2000, test: 30000}"
            )
        return EvaluationRows(rows, self.shape, split, number, fingerprints)

    def _rows(self, split: Any, *, train: bool) -> Examples:
        if not isinstance(split, ImageArrays):
            if self.shape[0] != 3:
                raise ConfigError(
                    f"data={self.cfg.data.name} has images of 3 channels: set model.args.unet.image_channels=3"
                )
            return ImageFileRows(split, self.shape[-1], self.cfg.seed, mirrored=train)
        if split.images.shape[1:] != (self.shape[1], self.shape[2], self.shape[0]):
            raise ConfigError(
                f"data={self.cfg.data.name} has images of {'x'.join(map(str, split.images.shape[1:]))}, the model "
                f"model.args.unet.size={self.shape[1]} and image_channels={self.shape[0]}; see data.options.size"
            )
        return TensorImages(split, seed=self.cfg.seed, flip=train and self.cfg.augment.flip)

    def model(self) -> nn.Module:
        """The U-Net with random weights."""
        model = self.unet(**self.args["unet"])
        self.trained = weakref.ref(model)
        return model

    def initialise(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take the weights of another run of the same U-Net."""
        load_matching(model, weights, self.cfg.init_from, self.cfg.model.name)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean square on the target at a time step drawn for each image."""
        x = batch["image"]
        t = torch.randint(self.noise.steps, (len(x),), device=x.device)
        noise = torch.randn_like(x)
        return {"loss": self._errors(model, x, noise, t, self.conditions(batch)).mean()}

    def conditions(self, batch: Batch) -> dict[str, Tensor]:
        """The model's inputs other than image and time step."""
        return {"class_labels": batch["label"]} if self.args["unet"]["classes"] is not None else {}

    def predict(self, model: nn.Module, z: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        """What the model predicts of noisy images."""
        return model(z, t, **conditions).sample

    def _errors(self, model: nn.Module, x: Tensor, noise: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        """The weighted mean square of each image, [B]."""
        prediction = self.predict(model, self.noise.noised(x, noise, t), t, conditions)
        return self.noise.weight(t) * (prediction.float() - self.noise.target_values(x, noise, t)).square().mean(
            (1, 2, 3)
        )

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss of each image at fixed noise levels; features and success of what is made in its place."""
        figures = {"loss": self._fixed_losses(model, batch)}
        if not self._samples_from(model):
            return figures
        assert self.feature_extractor is not None, "examples() comes first"
        features, logits = self.feature_extractor(self.generate(model, batch))
        figures["made"] = features
        if self.reference is None:
            figures["real"] = self.feature_extractor(batch["image"])[0]
        if logits is not None and "class_labels" in self.conditions(batch):
            figures["recognised"] = (logits.argmax(1) == batch["label"]).float()
        return figures

    def _samples_from(self, model: nn.Module) -> bool:
        """Images are made by the averaged weights alone, where there are such: sampling is what evaluation costs."""
        is_unaveraged = self.trained is not None and model is self.trained()
        return self.cfg.ema_decay is None or not is_unaveraged

    def _fixed_losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean square on the target at the middle of each of LEVELS equal parts of the time steps, [B]."""
        x, conditions = batch["image"], self.conditions(batch)
        total = torch.zeros(len(x), device=x.device)
        for level in range(LEVELS):
            t = torch.full((len(x),), (2 * level + 1) * self.noise.steps // (2 * LEVELS), device=x.device)
            total += self._errors(model, x, batch["noise"], t, conditions)
        return total / LEVELS

    def generate(self, model: nn.Module, batch: Batch) -> Tensor:
        """An image [B, C, H, W] in [-1, 1] for each row, from the row's own noise and under its conditions."""
        generators = [torch.Generator().manual_seed(seed) for seed in batch["seed"].tolist()]
        denoise = self.denoiser(model, batch)
        return sample(denoise, self.scheduler, batch["noise"], generators).clamp(-1, 1)

    def denoiser(self, model: nn.Module, batch: Batch) -> Denoiser:
        """The model under a batch's conditions, without guidance."""
        conditions = self.conditions(batch)
        return lambda z, t: self.predict(model, z, t, conditions)

    def metrics(self, figures: dict[str, Tensor]) -> dict[str, float]:
        """Means over the split, and the Fréchet distance where images were made."""
        values = {"loss": figures["loss"].double().mean().item()}
        if "made" in figures and self.reference is None:
            values[self.metric] = frechet_distance(figures["made"], figures["real"])
        elif "made" in figures and self.reference is not None:
            values[self.metric] = between_gaussians(*statistics(figures["made"]), *self.reference)
        if "recognised" in figures:
            values["recognised"] = figures["recognised"].double().mean().item()
        return values

    def pictures(self, model: nn.Module, device: torch.device) -> dict[str, np.ndarray]:
        """A grid of samples, uint8 [H, W, C]: a column a class where there are ten, from fixed noise."""
        number, classes = GRID * GRID, self.args["unet"]["classes"] or 1
        label = torch.arange(number) % GRID * max(1, classes // GRID) % classes
        batch = {"label": label} | initial_noise([row_seed("samples", i) for i in range(number)], self.shape)
        return {"samples": grid(self.generate(model, {k: v.to(device) for k, v in batch.items()}), GRID)}

    def blank_batch(self, size: int) -> Batch:
        """Zeros of an image's shape."""
        return {"image": torch.zeros(size, *self.shape), "label": torch.zeros(size, dtype=torch.long)}

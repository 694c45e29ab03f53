"""Image synthesis by diffusion with a U-Net (Lion paper, section 4.3, Figures 1 and 5).

Data: images and labels. Model: ADM's U-Net, class-conditional or not, without guidance. Loss: mean square on noise or
on v, at a random time step of each image. Metric: the Fréchet distance between images that the averaged weights make
and those of the split, one for one of the same class: with the Inception network's features the FID, at embedded
scale with those of our own classifier, and then it is not called FID. Beside it stand the loss at fixed noise levels
and the share of images that the classifier takes for what they were meant to be.
"""

import hashlib
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from recipes import protocol
from recipes.classification import TensorImages
from recipes.data.hub import first_line
from recipes.data.images.arrays import ImageArrays
from recipes.diffusion import feature_extractors, unet
from recipes.diffusion.frechet import between_gaussians, frechet_distance, statistics
from recipes.diffusion.noise_schedule import noise_schedule
from recipes.diffusion.samplers import Denoiser, sample, sampler
from recipes.errors import ConfigError
from recipes.protocol import load_data
from recipes.settings.arguments import check_arguments, check_names, is_count
from recipes.settings.schema import RUN
from recipes.training.pretrained_weights import load_matching
from recipes.training.sampler import Batch, Examples, Key, draw

ARGS = ("unet", "noise", "sampler", "judge", "reference", "samples")
TRAIN = "train"
LEVELS = 4  # fixed noise levels that an example's loss is the mean over
GRID = 10  # rows and columns of the sample grid


class Recipe(protocol.Recipe):
    """One U-Net on one set of images."""

    learns_from = "images with labels"
    metric = "frechet_own_features"
    goal: Literal["max", "min"] = "min"
    known: tuple[str, ...] = ARGS
    named: tuple[str, ...] = ("judge",)  # of these, networks that are called by a name
    unet: Callable[..., nn.Module] = staticmethod(unet.image_unet)

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        args: Any = OmegaConf.to_container(cfg.model.args)
        check_names(args, self.known, "model.args")
        check_arguments(args["unet"], self.unet, "model.args.unet")
        check_arguments(args["noise"], noise_schedule, "model.args.noise")
        check_arguments(args["sampler"], sampler, "model.args.sampler", beside=["noise"])
        with torch.device("meta"):
            self.unet(**args["unet"])  # says what is wrong with the sizes, before any work
        for name in self.named:
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
        self.judge: feature_extractors.FeatureExtractor | None = None
        self.reference: tuple[Tensor, Tensor] | None = None
        self.trained: weakref.ref[nn.Module] | None = None

    def examples(self) -> dict[str, Examples]:
        """Training images; and to evaluate, images with noise of their own, from which their counterpart is made."""
        splits = load_data(self.cfg)
        classes, names = self.args["unet"]["classes"], splits[TRAIN].class_names
        if classes not in (None, len(names)):
            raise ConfigError(
                f"data={self.cfg.data.name} has {len(names)} classes, model.args.unet.classes={classes}; "
                "null is for a model that is not class-conditional"
            )
        self.check_samples(splits)
        rows = {name: self._rows(split, train=name == TRAIN) for name, split in splits.items()}
        self.judged_by(feature_extractors.judge(self.cfg, self.args["judge"]))
        return {name: each if name == TRAIN else self.evaluated(name, each) for name, each in rows.items()}

    def judged_by(self, judge: feature_extractors.FeatureExtractor) -> None:
        """Take a judge, and the reference's statistics by its features where there are such.

        Raises:
            ConfigError: it does not take the model's images, or the statistics are of other features.
        """
        self.judge, self.metric = judge, judge.metric
        width = judge.width(self.shape)
        if self.args["reference"] is not None:
            self.reference = reference_statistics(Path(self.args["reference"]), width)

    def check_samples(self, splits: Iterable[str]) -> None:
        """Refuse a number of samples for a split that the data do not have.

        Raises:
            ConfigError: there is one.
        """
        known = {"val", "test", *splits} - {TRAIN}  # a setting may name these two before the data do
        if isinstance(self.args["samples"], dict) and (odd := sorted({*self.args["samples"]} - known)):
            raise ConfigError(f"model.args.samples: no split is named {odd[0]}; known: {', '.join(sorted(known))}")

    def evaluated(self, split: str, rows: Any) -> "EvaluationRows":
        """A split's rows to evaluate by; their fingerprint covers what judges them."""
        assert self.judge is not None
        judges = [self.judge.fingerprint]
        if self.reference is not None:
            judges += [hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in self.reference]
        number = self.args["samples"]
        if isinstance(number, dict):
            number = number.get(split)
        if number is not None and not (is_count(number) and number > 1):
            raise ConfigError(
                f"model.args.samples={self.args['samples']}: expected a whole number of at least 2, null for as many "
                "as the split has images, or such numbers by split, as {val: 2000, test: 30000}"
            )
        return EvaluationRows(rows, self.shape, split, number, judges)

    def _rows(self, split: Any, *, train: bool) -> Examples:
        if not isinstance(split, ImageArrays):
            if self.shape[0] != 3:
                raise ConfigError(
                    f"data={self.cfg.data.name} has images of 3 channels: set model.args.unet.image_channels=3"
                )
            return Pictures(split, self.shape[-1], self.cfg.seed, mirrored=train)
        if split.images.shape[1:] != (self.shape[1], self.shape[2], self.shape[0]):
            raise ConfigError(
                f"data={self.cfg.data.name} has images of {'x'.join(map(str, split.images.shape[1:]))}, the model "
                f"model.args.unet.size={self.shape[1]} and image_channels={self.shape[0]}; see data.options.size"
            )
        return TensorImages(split)

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
        """What the model is told beside image and time step."""
        return {"class_labels": batch["label"]} if self.args["unet"]["classes"] is not None else {}

    def answer(self, model: nn.Module, z: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        """What the model predicts of noisy images."""
        return model(z, t, **conditions).sample

    def _errors(self, model: nn.Module, x: Tensor, noise: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        """The weighted mean square of each image, [B]."""
        answer = self.answer(model, self.noise.noised(x, noise, t), t, conditions)
        return self.noise.weight(t) * (answer.float() - self.noise.goal(x, noise, t)).square().mean((1, 2, 3))

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss of each image at fixed noise levels; features and success of what is made in its place."""
        figures = {"loss": self._fixed_losses(model, batch)}
        if not self._samples_from(model):
            return figures
        assert self.judge is not None, "examples() comes first"
        made, logits = self.judge(self.generate(model, batch))
        figures["made"] = made
        if self.reference is None:
            figures["real"] = self.judge(batch["image"])[0]
        if logits is not None and "class_labels" in self.conditions(batch):
            figures["recognised"] = (logits.argmax(1) == batch["label"]).float()
        return figures

    def _samples_from(self, model: nn.Module) -> bool:
        """Images are made by the averaged weights alone, where there are such: sampling is what evaluation costs."""
        raw = self.trained is not None and model is self.trained()
        return self.cfg.ema_decay is None or not raw

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
        return lambda z, t: self.answer(model, z, t, conditions)

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
        batch = {"label": label} | own_start([row_seed("samples", i) for i in range(number)], self.shape)
        return {"samples": grid(self.generate(model, {k: v.to(device) for k, v in batch.items()}), GRID)}

    def blank_batch(self, size: int) -> Batch:
        """Zeros of an image's shape."""
        return {"image": torch.zeros(size, *self.shape), "label": torch.zeros(size, dtype=torch.long)}


class EvaluationRows:
    """A split's images in turn, each with a seed and with noise that are the same at every evaluation.

    Args:
        rows: the split's.
        shape: of the noise, [C, H, W].
        split: its name; every split has noise of its own.
        number: how many. Fewer than the split has are spread over it evenly, since neighbours may be alike; beyond its
            end, it begins anew with other noise. None is one for each image.
        judges: fingerprints of what judges the images that are made in their place.
    """

    def __init__(
        self,
        rows: Any,
        shape: tuple[int, int, int],
        split: str,
        number: int | None = None,
        judges: Sequence[str] = (),
    ) -> None:
        self.rows, self.shape, self.split, self.number = rows, shape, split, number or len(rows)
        self.judges = list(judges)

    def __len__(self) -> int:
        return self.number

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = [index for _, index in keys]
        spread = max(self.number, len(self.rows))
        batch: Batch = self.rows.__getitems__([(i, i * spread // self.number % len(self.rows)) for i in index])
        return batch | own_start([row_seed(self.split, i) for i in index], self.shape)

    def fingerprint(self) -> str:
        """Of the split and of what judges: figures by another judge are no measurements of the same thing."""
        whole = " ".join([self.rows.fingerprint(), *self.judges])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


class Pictures:
    """Image files: the smaller side resized, the central square, mirrored at random to train; in [-1, 1]."""

    def __init__(self, images: Any, size: int, seed: int, *, mirrored: bool) -> None:
        from recipes.data.images.examples import Prepared
        from recipes.data.images.files import eval_transform

        self.images = Prepared(images, eval_transform(size, crop=1.0), size)
        self.seed, self.mirrored = seed, mirrored

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = [], []
        for position, index in keys:
            pixels, label = self.images[index]
            if self.mirrored:
                pixels = draw(lambda p: p.flip(-1) if torch.rand(()) < 0.5 else p, pixels, self.seed, position)
            images.append(pixels)
            labels.append(label)
        return {"image": torch.stack(images), "label": torch.as_tensor(np.asarray(labels))}

    def fingerprint(self) -> str:
        """The data set's own."""
        return self.images.fingerprint()


def row_seed(split: str, index: int) -> int:
    """What a row's noise follows from, whichever batch or process it is in; below 2^63."""
    return int.from_bytes(hashlib.sha256(f"{split} {index}".encode()).digest()[:8]) >> 1


def own_noise(seeds: Sequence[int], shape: Sequence[int], stream: int = 1) -> Tensor:
    """Standard normal float32 [B, C, H, W], a row's from its seed alone; streams are independent."""
    rows = [np.random.default_rng([stream, seed]).standard_normal(tuple(shape), np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def own_start(seeds: Sequence[int], shape: Sequence[int]) -> Batch:
    """What an image is made from: its seed, and the noise that it begins with."""
    return {"noise": own_noise(seeds, shape), "seed": torch.tensor(seeds, dtype=torch.int64)}


def grid(images: Tensor, columns: int) -> np.ndarray:
    """Images [N, C, H, W] in [-1, 1] side by side on grey, uint8 [H', W', C]."""
    from torchvision.utils import make_grid

    tiled = make_grid((images.detach().cpu().float() + 1) / 2, nrow=columns, padding=1, pad_value=0.5)
    pixels: np.ndarray = (tiled.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels


def reference_statistics(file: Path, width: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a reference set's features from a .npz file with `mu` and `sigma`, as ADM publishes them.

    Raises:
        ConfigError: there is no such file, or it holds something else than statistics of `width` features.
    """
    try:
        with np.load(file) as saved:
            mean, covariance = torch.from_numpy(saved["mu"]).double(), torch.from_numpy(saved["sigma"]).double()
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ConfigError(
            f"model.args.reference={file} cannot be read ({first_line(error)}); expected a .npz file with the mean mu "
            "and the covariance sigma of the judge's features"
        ) from None
    if mean.shape != (width,) or covariance.shape != (width, width):
        raise ConfigError(
            f"model.args.reference={file} has mu of {tuple(mean.shape)} and sigma of {tuple(covariance.shape)}; the "
            f"judge has {width} features"
        )
    return mean, covariance

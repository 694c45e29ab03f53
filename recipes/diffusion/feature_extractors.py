"""Networks that evaluate generated images: a classifier trained here, or the Inception network of the FID.

A Fréchet distance is only as good as its features, so each feature extractor says what its distance may be called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.data.hub import first_line
from recipes.errors import ConfigError
from recipes.settings.schema import command_of, composed
from recipes.training import checkpoint
from recipes.training.pretrained_weights import weights_fingerprint

INCEPTION = "inception"
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity publishes them


@dataclass(frozen=True)
class FeatureExtractor:
    """A network in evaluation mode.

    Attributes:
        metric: `frechet_own_features`, or `fid` for the one network whose distance has that name.
        network: moved to the images' device when it is first needed.
        extract: the network's features [B, D] and, where it is a classifier of the same data, logits [B, classes] of
            images [B, C, H, W] in [-1, 1].
        fingerprint: of its weights.
    """

    metric: str
    network: nn.Module
    extract: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    fingerprint: str

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and logits, in float32 whatever autocast says."""
        self.network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return self.extract(images.float())

    def width(self, shape: tuple[int, int, int]) -> int:
        """The number of features of images [C, H, W].

        Raises:
            ConfigError: the network does not take images of this shape.
        """
        return _width(self, shape)


def load(cfg: DictConfig, name: str) -> FeatureExtractor:
    """The feature extractor that model.args.judge names.

    Args:
        cfg: the run's.
        name: the folder of a classification run, `inception`, or a file with the Inception network's weights.

    Raises:
        ConfigError: it does not exist, or it is no classifier.
    """
    if name == INCEPTION or name.endswith(".pth"):
        return _inception(None if name == INCEPTION else Path(name))
    return _classifier(cfg, run_folder(name))


def check_run(name: str, scale: str, shape: tuple[int, int, int]) -> None:
    """Refuse a run that is no classifier of such images, before the minutes that it takes.

    Args:
        name: `run:` and its command.
        scale: the name of the scale it is done at.
        shape: of the images [C, H, W].

    Raises:
        ConfigError: it is no classifier, or does not take such images.
    """
    from recipes import protocol

    config = composed(command_of(name, scale))
    if config.task.recipe != "classification":
        raise ConfigError(f"model.args.judge={name} is a run of {config.task.name}, expected a classifier")
    with torch.device("meta"):
        model: Any = protocol.make(config).model().eval()
        _width(lambda images: (model.forward_features(images), None), shape)


def _width(extract: Callable[[Tensor], tuple[Tensor, Tensor | None]], shape: tuple[int, int, int]) -> int:
    """The number of features of images [C, H, W]; ConfigError where the network does not take them."""
    try:
        return extract(torch.zeros(1, *shape))[0].shape[1]
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"model.args.judge does not take images of {'x'.join(map(str, shape))} ({first_line(error)}): name one "
            "that was trained at this size, such as run: and the command of a classification run"
        ) from None


def is_run_folder(name: str) -> bool:
    """Whether a name is that of a run's folder."""
    return (Path(name) / "config.yaml").exists()


def run_folder(name: str) -> Path:
    """The folder of a run.

    Raises:
        ConfigError: it is none.
    """
    if not is_run_folder(name):
        raise ConfigError(f"{name} is not a run's folder; expected run:command, a folder, {INCEPTION} or a .pth file")
    return Path(name)


def load_trained(folder: Path) -> tuple[DictConfig, nn.Module]:
    """A run's config and its model with the trained weights."""
    from recipes import protocol

    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    model = protocol.make(config).model()
    model.load_state_dict(checkpoint.load_weights(folder))
    return config, model.eval().requires_grad_(False)


def has_same_data(config: DictConfig, other: DictConfig) -> bool:
    """Whether two runs' data are the same, however many processes load them."""
    one, two = (OmegaConf.masked_copy(c.data, [k for k in c.data if k != "workers"]) for c in (config, other))
    return bool(one == two)


def _classifier(cfg: DictConfig, folder: Path) -> FeatureExtractor:
    config, model = load_trained(folder)
    if config.task.recipe != "classification":
        raise ConfigError(f"model.args.judge={folder} is a run of {config.task.name}, expected a classifier")
    # Of other data it has features, but no word for what it sees.
    return _of_classifier(model, knows=has_same_data(config, cfg))


def _of_classifier(model: nn.Module, *, knows: bool) -> FeatureExtractor:
    timm_model: Any = model

    def extract(images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
        return features, timm_model.get_classifier()(features) if knows else None

    return FeatureExtractor("frechet_own_features", model, extract, weights_fingerprint(model))


def _inception(weights: Path | None) -> FeatureExtractor:
    """The network that FIDs are computed with: TensorFlow's Inception of 2015 and its way of resizing."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    cached = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if weights is None and not cached.exists():
        from recipes.data.hub import reachable

        if not reachable("https://github.com"):
            raise ConfigError(
                f"model.args.judge=inception needs {WEIGHTS} of torch-fidelity's releases, which cannot be reached: "
                f"put the file at {cached}, or name it with model.args.judge=/path/to/{WEIGHTS}"
            )
    if weights is not None and not weights.exists():
        raise ConfigError(f"model.args.judge={weights} does not exist")
    path = None if weights is None else str(weights)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=path)
    except Exception as error:  # torch has no common error for a damaged file
        raise ConfigError(f"model.args.judge={weights or INCEPTION} cannot be read: {first_line(error)}") from None
    network.eval()

    def extract(images: Tensor) -> tuple[Tensor, Tensor | None]:
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return network(pixels.expand(-1, 3, -1, -1))[0], None

    return FeatureExtractor("fid", network, extract, weights_fingerprint(network))


def enlarged(images: Tensor, size: int) -> Tensor:
    """Square images enlarged by a whole factor and cut at the edges to `size`: the way back from small ones."""
    factor = -(-size // images.shape[-1])
    if factor > 1:
        images = F.interpolate(images, scale_factor=factor, mode="bilinear", antialias=False)
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]

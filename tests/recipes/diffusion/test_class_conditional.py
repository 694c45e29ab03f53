"""Image synthesis from config to record: what is learnt, what is made, how it is judged, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes import protocol
from recipes.diffusion import feature_extractors
from recipes.diffusion.frechet import frechet_distance, statistics
from recipes.diffusion.rows import ImageFileRows, initial_noise
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.record import folder_of, read_summary
from recipes.training.execution.device_layout import Placement
from tests.recipes import conftest

SMALL = [
    "tracker=none",
    "steps=4",
    "eval_every=2",
    "checkpoint_every=2",
    "log_every=1",
    "batch_size=8",
    "model.args.samples=30",
    "model.args.sampler.steps=4",
]
TINY = ["model.args.unet.channels=[8,16]", "model.args.unet.norm_groups=4"]
Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder, of random weights."""
    folder = tmp_path_factory.mktemp("judge")
    small = ["model.args.img_size=16", "model.args.patch_size=4", "model.args.depth=1", "model.args.embed_dim=16"]
    cfg = conftest.composed("task=vit_b16", "optim=adamw", "+data.options.size=16", *small)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    torch.manual_seed(0)
    save_file(protocol.make(cfg).model().state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def composed(tmp_path: Path, classifier: Path) -> Compose:
    def make(*overrides: str) -> DictConfig:
        where = [f"output_dir={tmp_path / 'outputs'}", f"model.args.judge={classifier}"]
        return conftest.composed("task=unet_64", "optim=adamw", *SMALL, *TINY, *where, *overrides)

    return make


def measured(cfg: DictConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder_of(cfg) / "metrics.jsonl").read_text().splitlines()]


def test_a_run_ends_with_its_figures_and_a_picture(composed: Compose) -> None:
    cfg = composed()
    assert experiment.run(cfg) == "completed"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["metric"], summary["goal"]) == ("ema_frechet_own_features", "min")
    rows = measured(cfg)
    names = {row["name"] for row in rows if row["split"] == "val"}
    assert names == {
        "loss",
        "ema_loss",
        "ema_frechet_own_features",
        "ema_recognised",
    }  # the raw weights are not sampled from
    assert not any("fid" in row["name"] for row in rows)
    curve = [row["value"] for row in rows if (row["split"], row["name"]) == ("val", "ema_frechet_own_features")]
    assert len(curve) == 2
    assert summary["final"] == curve[-1]
    picture = np.asarray(Image.open(folder_of(cfg) / "samples.png"))
    assert picture.shape[:2] == (10 * 17 + 1, 10 * 17 + 1)
    assert len(np.unique(picture)) > 20


def test_without_averaging_the_trained_weights_are_sampled_from(composed: Compose) -> None:
    cfg = composed("ema_decay=null")
    experiment.run(cfg)
    assert {row["name"] for row in measured(cfg) if row["split"] == "val"} == {
        "loss",
        "frechet_own_features",
        "recognised",
    }


class Knows(nn.Module):
    """A model that knows the one image of each class, and so the best answer to anything noisy."""

    def __init__(self, images: Tensor, noise: Any) -> None:
        super().__init__()
        self.images, self.noise = images, noise

    def forward(self, z: Tensor, t: Tensor, class_labels: Tensor) -> SimpleNamespace:
        x = self.images[class_labels]
        alpha, sigma = self.noise.coefficients(t)
        epsilon = (z - alpha * x) / sigma
        return SimpleNamespace(sample=epsilon if self.noise.target == "epsilon" else alpha * epsilon - sigma * x)


@pytest.mark.parametrize("target", ["epsilon", "v"])
@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_who_knows_the_image_loses_nothing_and_makes_it(composed: Compose, name: str, target: str) -> None:
    the_recipe: Any = protocol.make(composed(f"model.args.sampler.name={name}", f"model.args.noise.target={target}"))
    torch.manual_seed(0)
    images = torch.rand(10, 1, 16, 16) * 2 - 1
    model = Knows(images, the_recipe.noise)
    label = torch.arange(20) % 10
    batch = {"image": images[label], "label": label}
    assert the_recipe.loss(model, batch)["loss"].item() < 1e-6
    batch |= initial_noise(list(range(20)), (1, 16, 16))
    torch.testing.assert_close(the_recipe.generate(model, batch), images[label], atol=2e-2, rtol=0)


def test_the_loss_of_a_silent_model_is_the_targets_mean_square(composed: Compose) -> None:
    """Of v = α ε - σ x, with ε standard normal: the mean of α² + σ² x² over the time steps."""
    the_recipe: Any = protocol.make(composed())
    silent: Any = lambda z, t, class_labels: SimpleNamespace(sample=torch.zeros_like(z))  # noqa: E731
    image = torch.full((4000, 1, 16, 16), 0.5)
    torch.manual_seed(0)
    got = the_recipe.loss(silent, {"image": image, "label": torch.zeros(4000, dtype=torch.long)})["loss"].item()
    kept = the_recipe.noise.alpha_squared
    assert got == pytest.approx((kept + (1 - kept) * 0.25).mean().item(), rel=0.02)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_evaluation_is_the_same_however_it_is_batched(composed: Compose, sampler: str) -> None:
    the_recipe: Any = protocol.make(composed(f"model.args.sampler.name={sampler}"))
    rows = the_recipe.examples()["val"]
    torch.manual_seed(3)
    model = the_recipe.model().eval()
    the_recipe.trained = None  # judge this one as if it were the average
    whole, placed = {}, Placement(torch.device("cpu"))
    for size in (30, 7):
        parts = [range(start, min(start + size, 30)) for start in range(0, 30, size)]
        with torch.no_grad():
            batches = (placed(rows.__getitems__([(i, i) for i in part])) for part in parts)
            figures = [the_recipe.evaluate(model, batch) for batch in batches]
        whole[size] = {name: torch.cat([each[name] for each in figures]) for name in figures[0]}
        whole[size]["metrics"] = the_recipe.metrics(whole[size])
    for name in ("loss", "made", "real"):
        torch.testing.assert_close(whole[30][name], whole[7][name], atol=1e-3, rtol=1e-3)
    expected = frechet_distance(whole[30]["made"], whole[30]["real"])
    assert whole[30]["metrics"]["frechet_own_features"] == pytest.approx(expected)
    assert whole[30]["metrics"]["recognised"] == whole[30]["recognised"].mean()


def test_the_split_begins_anew_with_other_noise(composed: Compose) -> None:
    rows = protocol.make(composed("model.args.samples=600")).examples()["val"]
    assert len(rows) == 600  # of 500 images
    batch = rows.__getitems__([(0, 7), (0, 507)])
    assert torch.equal(batch["image"][0], batch["image"][1])
    assert not torch.allclose(batch["noise"][0], batch["noise"][1])


def test_fewer_samples_are_spread_over_the_split(composed: Compose) -> None:
    whole, some = (protocol.make(composed(f"model.args.samples={n}")).examples()["val"] for n in ("null", "{val: 200}"))
    assert (len(whole), len(some)) == (500, 200)
    taken = some.__getitems__([(i, i) for i in range(200)])["image"]
    everything = whole.__getitems__([(i, i) for i in range(500)])["image"]
    assert torch.equal(taken, everything[[i for i in range(500) if i % 5 in (0, 2)]])  # 0, 2.5, 5, 7.5, ...


def test_every_split_has_noise_of_its_own(composed: Compose) -> None:
    """A test figure of the very images that validation chose by would say less than it seems to."""
    examples = protocol.make(composed()).examples()
    val, test = (examples[name].__getitems__([(i, i) for i in range(30)]) for name in ("val", "test"))
    assert not set(val["seed"].tolist()) & set(test["seed"].tolist())
    correlation = torch.corrcoef(torch.stack([val["noise"].flatten(), test["noise"].flatten()]))[0, 1]
    assert abs(correlation) < 0.05


def test_another_feature_extractor_makes_other_data(composed: Compose, classifier: Path, tmp_path: Path) -> None:
    """Records are compared, and runs go on, where the fingerprints of data are the same."""
    other = tmp_path / "other"
    shutil.copytree(classifier, other)
    weights = load_file(classifier / "model.safetensors")
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, other / "model.safetensors")
    ours, again, theirs = (
        {name: rows.fingerprint() for name, rows in protocol.make(composed(*given)).examples().items()}
        for given in ([], [], [f"model.args.judge={other}"])
    )
    assert ours == again
    assert ours["train"] == theirs["train"]
    assert ours["val"] != theirs["val"]
    assert ours["test"] != theirs["test"]


def test_another_reference_makes_other_data(composed: Compose, tmp_path: Path) -> None:
    """By what the file holds, not by its name."""
    prints = []
    for name, mean in (("a.npz", 0.0), ("b.npz", 0.0), ("b.npz", 1.0)):
        np.savez(tmp_path / name, mu=np.full(16, mean), sigma=np.eye(16))
        prints.append(
            protocol.make(composed(f"model.args.reference={tmp_path / name}")).examples()["val"].fingerprint()
        )
    assert prints[0] == prints[1] != prints[2]


def test_a_of_classifier_other_data_recognises_nothing(composed: Compose, classifier: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(classifier, other)
    text = (classifier / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("name: mnist5k", "name: otherdigits"))
    images = torch.zeros(2, 1, 16, 16)
    features, logits = feature_extractors.load(composed(), str(other))(images)
    assert logits is None
    torch.testing.assert_close(features, feature_extractors.load(composed(), str(classifier))(images)[0])


def test_fewer_classes_than_columns_are_drawn(composed: Compose) -> None:
    the_recipe: Any = protocol.make(composed("model.args.unet.classes=4"))
    asked: list[Tensor] = []
    the_recipe.generate = lambda model, batch: (asked.append(batch["label"]), batch["noise"])[1]
    the_recipe.pictures(the_recipe.model(), torch.device("cpu"))
    assert asked[0].view(10, 10)[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_reference_statistics_take_the_splits_place(composed: Compose, tmp_path: Path) -> None:
    reference, made = torch.randn(200, 16), torch.randn(40, 16) + 1
    mean, covariance = statistics(reference)
    np.savez(tmp_path / "reference.npz", mu=mean.numpy(), sigma=covariance.numpy())
    the_recipe: Any = protocol.make(composed(f"model.args.reference={tmp_path / 'reference.npz'}"))
    the_recipe.examples()
    values = the_recipe.metrics({"loss": torch.ones(40), "made": made})
    assert values["frechet_own_features"] == pytest.approx(frechet_distance(made, reference))


def test_a_feature_extractor_sees_what_its_own_classifier_would_say(classifier: Path, composed: Compose) -> None:
    judge = feature_extractors.load(composed(), str(classifier))
    model = feature_extractors.load_trained(classifier)[1]
    images = torch.randn(5, 1, 16, 16)
    features, logits = judge(images)
    assert judge.metric == "frechet_own_features"
    assert features.shape == (5, 16)
    torch.testing.assert_close(logits, model(images))


def test_the_inception_networks_distance_alone_is_called_fid(
    tmp_path: Path, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights in the published file's format: features are torch-fidelity's own of the same pixels."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = tmp_path / "weights.pth"
    torch.save({}, file)
    with monkeypatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        random = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file))
    torch.save(random.state_dict(), file)
    judge = feature_extractors.load(composed(), str(file))
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    features, logits = judge(pixels / 127.5 - 1)
    assert judge.metric == "fid"
    assert logits is None
    torch.testing.assert_close(features, random.eval()(pixels)[0])


def test_without_a_network_the_inception_weights_are_asked_for(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("recipes.data.hub.reachable", lambda address: False)
    with pytest.raises(
        ConfigError, match=r"judge=inception needs weights-inception.* name it with model\.args\.judge="
    ):
        feature_extractors.load(composed(), "inception")


def test_pictures_of_files_are_squares_of_the_size_and_mirrored_to_train() -> None:
    picture = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8)[None, :, None] * 6, (20, 1, 3)))
    held: Any = type("One", (), {"__len__": lambda s: 1, "__getitem__": lambda s, i: (picture, 3)})()
    plain = ImageFileRows(held, 16, seed=0, mirrored=False).__getitems__([(i, 0) for i in range(8)])
    mirrored = ImageFileRows(held, 16, seed=0, mirrored=True).__getitems__([(i, 0) for i in range(32)])
    assert plain["image"].shape == (8, 3, 16, 16)
    assert plain["label"].tolist() == [3] * 8
    rising = [bool(image[0, 0, -1] > image[0, 0, 0]) for image in mirrored["image"]]
    assert 4 < sum(rising) < 28
    torch.testing.assert_close(mirrored["image"][rising.index(False)].flip(-1), plain["image"][0])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+model.args.unet.chanels=[8]", "model.args.unet.chanels is unknown; known: size, image_channels"),
        ("+model.args.sampler_steps=4", "model.args.sampler_steps is unknown"),
        ("~model.args.judge", "model.args.judge is missing"),
        ("model.args.unet.size=32", "images of 16x16x1, the model model.args.unet.size=32"),
        ("model.args.unet.classes=4", "has 10 classes, model.args.unet.classes=4"),
        ("data.options.size=20", "size=20 is not a size of mnist5k; known: 16, 28, 32"),
        ("model.args.reference=/nowhere.npz", "reference=/nowhere.npz cannot be read"),
        ("model.args.judge=/nowhere", "/nowhere is not a run's folder"),
        ("model.args.judge=null", "judge=None names nothing"),
        ("model.args.judge='run:'", "run: names no task"),
        ("model.args.judge=broken.pth", "judge=broken.pth cannot be read"),
        ("model.args.samples=1", "samples=1: expected a whole number of at least 2"),
        ("model.args.samples={val: -3}", "expected a whole number of at least 2"),
        ("model.args.samples={vall: 30}", "no split is named vall; known: test, val"),
        ("+model.args.sampler.stepz=3", "model.args.sampler.stepz is unknown; known: name, steps, clip"),
        ("model.args.sampler.steps=2.5", "sampler.steps=2.5 must divide"),
        ("+model.args.sampler.threshold=1.5", "threshold=1.5 must be a quantile"),
        ("+model.args.noise.x=3", "model.args.noise.x is unknown"),
        ("model.args.noise=cosine", "model.args.noise=cosine must hold schedule"),
        ("~model.args.unet.size", "model.args.unet.size is missing"),
        ("model.args.unet.head_width=0", "head_width=0 must be a whole number"),
        ("model.args.unet.attention=[16]", "head_width=32 does not divide the 8 channels"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    composed: Compose, override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=said):
        protocol.make(composed(override)).examples()


@pytest.mark.parametrize("wrong", ["empty", "cut", "array", "words", "narrow"])
def test_a_reference_of_something_else_is_refused(composed: Compose, tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "reference.npz"
    np.savez(file, mu=np.zeros(16), sigma=np.eye(16))
    if wrong == "empty":
        file.write_bytes(b"")
    elif wrong == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    elif wrong == "array":
        with file.open("wb") as opened:
            np.save(opened, np.zeros(16))
    elif wrong == "words":
        np.savez(file, mu=np.array(["a"] * 16), sigma=np.eye(16))
    else:
        np.savez(file, mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(ConfigError, match=r"reference=.*(cannot be read|the feature extractor has 16 features)"):
        protocol.make(composed(f"model.args.reference={file}")).examples()


def test_a_of_classifier_another_size_is_refused(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="judge does not take images of 1x32x32"):
        protocol.make(composed("data.options.size=32", "model.args.unet.size=32")).examples()


@pytest.mark.slow
@pytest.mark.parametrize("optim", ["adamw", "lion"])
def test_most_digits_of_a_default_run_are_recognised(tmp_path: Path, optim: str) -> None:
    cfg = conftest.composed("task=unet_64", f"optim={optim}", "tracker=none", f"output_dir={tmp_path}")
    assert experiment.run(cfg) == "completed"
    result = [r["value"] for r in measured(cfg) if (r["split"], r["name"]) == ("test", "ema_recognised")]
    assert result[-1] >= 0.75

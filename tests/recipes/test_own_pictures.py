"""Pictures of one's own, with and without captions, by the commands that the documentation gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from recipes import protocol
from recipes.data.pairs.pairs import PAD
from recipes.data.text import bpe
from recipes.diffusion import feature_extractors
from recipes.errors import ConfigError
from recipes.runs import experiment, prerequisite, record
from recipes.settings import from_data, schema
from recipes.settings.schema import composed
from tests.recipes.conftest import composed as plain

SHORT = ["optim=lion", "tracker=none", "steps=2", "eval_every=2", "schedule.warmup_steps=1"]


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))


def draw(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*rng.integers(20, 70, 2), 3)).astype(np.uint8)).save(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three class folders of pictures of mixed sizes, in a folder whose name needs quotation marks."""
    for number in range(30):
        draw(tmp_path / "my 'own' photos" / "abc"[number % 3] / f"{number}.png", number)
    return tmp_path / "my 'own' photos"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(30):
        draw(tmp_path / "pairs" / f"{number}.png", number)
        (tmp_path / "pairs" / f"{number}.txt").write_text(f"picture number {number}")
    return tmp_path / "pairs"


def own(task: str, place: Path, *more: str) -> list[str]:
    data = "image_text" if task.startswith("lit") else "imagenet"
    return [f"task={task}", f"data={data}", f"data.path={schema.quoted(str(place))}", *more]


@pytest.mark.parametrize("task", ["vit_b16", "resnet50", "mixer_b16", "coatnet_1"])
def test_class_folders_train_a_classifier(photos: Path, tmp_path: Path, task: str) -> None:
    cfg = plain(*own(task, photos, f"output_dir={tmp_path}/out", *SHORT))
    assert experiment.run(cfg) == "completed"
    (folder,) = (tmp_path / "out" / task / "lion").iterdir()
    held = OmegaConf.load(folder / "config.yaml")
    assert (held.model.args.num_classes, held.model.args.in_chans, held.augment.shift) == (3, 3, 0)
    assert folder.name == record.run_id(composed(own(task, photos, f"output_dir={tmp_path}/out", *SHORT)))
    assert experiment.run(composed(own(task, photos, f"output_dir={tmp_path}/out", *SHORT))) == "skipped"


def test_pairs_train_two_towers_and_retrieval_chooses(pairs: Path, tmp_path: Path) -> None:
    cfg = plain(*own("lit_b16_b", pairs, f"output_dir={tmp_path}/out", *SHORT))
    assert experiment.run(cfg) == "completed"
    (folder,) = (tmp_path / "out" / "lit_b16_b" / "lion").iterdir()
    assert json.loads((folder / "summary.json").read_text())["metric"] == "image_to_text_1"
    held: Any = OmegaConf.load(folder / "config.yaml")
    assert (held.batch_size, held.init_from, held.model.args.lock_image) == (16, None, False)
    assert held.model.args.image.args.in_chans == 3


def test_the_of_classifier_own_pictures_learns_from_them(photos: Path, tmp_path: Path) -> None:
    cfg = composed(own("unet_64", photos, f"output_dir={tmp_path}/out", "model.args.unet.size=8", *SHORT))
    assert (cfg.model.args.unet.image_channels, cfg.model.args.unet.classes, cfg.data.options.size) == (3, 3, 8)
    judge = composed(schema.command_of(cfg.model.args.judge, "embedded"))
    assert feature_extractors.has_same_data(judge, cfg)
    assert (judge.model.args.img_size, judge.model.args.patch_size, judge.model.args.num_classes) == (8, 2, 3)
    assert record.run_id(cfg) == record.run_id(composed(own("unet_64", photos, "model.args.unet.size=8", *SHORT)))


def test_own_pictures_train_a_u_net(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a judge of two steps in the place of its whole run."""
    judge = composed(own("vit_b16", photos, "+data.options.size=16", "model.args.img_size=16", *SHORT))
    judge.output_dir = str(tmp_path / "judge")
    experiment.run(judge)
    monkeypatch.setattr(prerequisite, "folder", lambda cfg, setting: record.folder_of(judge))
    cfg = composed(own("unet_64", photos, f"output_dir={tmp_path}/out", *SHORT, "batch_size=4", "precision=fp32"))
    assert experiment.run(cfg) == "completed"
    summary = json.loads((record.folder_of(cfg) / "summary.json").read_text())
    assert summary["metric"] == "ema_frechet_own_features"


def test_a_of_classifier_another_size_is_refused_before_it_is_trained(photos: Path, tmp_path: Path) -> None:
    for command, message in (
        ("run:task=vit_b16 optim=adamw", "model.args.judge does not take images of 1x16x16"),
        ("run:task=gpt2_small optim=adamw", "is a run of gpt2_small, expected a classifier"),
    ):
        cfg = composed(["task=unet_64", f"output_dir={tmp_path}/out", f"model.args.judge={schema.quoted(command)}"])
        with pytest.raises(ConfigError, match=message):
            experiment.run(cfg)
    assert not (tmp_path / "out").exists()


CONTRADICTIONS = {
    "vit_b16": ["model.args.num_classes=7", "model.args.in_chans=1", "augment.shift=2"],
    "unet_64": ["model.args.unet.classes=10", "model.args.unet.image_channels=1"],
}


@pytest.mark.parametrize("task", CONTRADICTIONS)
def test_all_that_was_typed_against_the_data_is_named_with_what_to_type(photos: Path, task: str) -> None:
    typed = CONTRADICTIONS[task]
    with pytest.raises(ConfigError) as error:
        composed(own(task, photos, *typed))
    for override in typed:
        key, _, value = override.partition("=")
        assert f"{key}={value}: " in str(error.value)
        assert f"set {key}=" in str(error.value)
    assert "\n" not in str(error.value)
    cfg = plain(*own(task, photos, *typed))
    result = from_data.contradictions(cfg, typed)
    assert len(result) == len(typed)
    # Where the overrides are not known, other values than the files' tell that they were typed.
    assert len(from_data.problems(cfg)) == {"vit_b16": 2, "unet_64": 0}[task]


def test_what_was_typed_and_fits_stays(photos: Path) -> None:
    typed = ["model.args.num_classes=3", "model.args.img_size=64", "model.args.patch_size=8"]
    cfg = composed(own("vit_b16", photos, *typed))
    assert (cfg.model.args.num_classes, cfg.model.args.img_size) == (3, 64)
    assert composed(own("unet_64", photos, "model.args.unet.classes=null")).model.args.unet.classes is None
    judge = "model.args.judge='run:task=resnet50 optim=sgd'"
    assert composed(own("unet_64", photos, judge)).model.args.judge == "run:task=resnet50 optim=sgd"


def test_a_locked_tower_is_kept_where_the_command_names_one(pairs: Path) -> None:
    cfg = composed(own("lit_b16_b", pairs, "init_from=/somewhere/a_run"))
    assert (cfg.init_from, cfg.model.args.lock_image) == ("/somewhere/a_run", True)
    with pytest.raises(ConfigError, match=r"model\.args\.lock_image=true: .* name one that has with init_from="):
        composed(own("lit_b16_b", pairs, "model.args.lock_image=true"))
    with pytest.raises(ConfigError, match=r"batch_size=30: there are 24 pairs to train on"):
        composed(own("lit_b16_b", pairs, "batch_size=30"))


def test_the_vocabulary_is_that_of_the_tokenizer(pairs: Path, tmp_path: Path) -> None:
    maker = bpe.trained(lambda: ["abc " * 900 + str(list(range(900)))], "print", 900, ("x", "y", PAD))
    maker.save(str(tmp_path / "tokenizer.json"))
    tokenizer = f"+data.options.tokenizer={tmp_path / 'tokenizer.json'}"
    text = composed(own("lit_b16_b", pairs, tokenizer)).model.args.text
    assert (text.vocab_size, text.pad_token_id) == (maker.get_vocab_size(), 3)
    (tmp_path / "a.txt").write_text("a line\n" * 99)
    words = ["task=gpt2_small", "data=text", f"data.path={tmp_path / 'a.txt'}"]
    assert composed([*words, "data.options.vocab_size=4096"]).model.args.vocab_size == 4096
    assert composed([*words, "data.options.vocab_size=400"]).model.args.vocab_size == 2048
    with pytest.raises(ConfigError, match=r"model\.args\.vocab_size=500: the tokenizer has 2048 tokens, the model 500"):
        composed([*words, "model.args.vocab_size=500"])


def test_options_of_a_setting_that_other_data_do_not_take_are_dropped() -> None:
    cfg = composed(["task=lit_b16_b", "scale=paper", "data=glyph_pairs"])
    assert cfg.data.options == {}
    with pytest.raises(ConfigError, match=r"data\.options\.size is unknown"):
        protocol.make(composed(["task=lit_b16_b", "data=glyph_pairs", "+data.options.size=3"]))


def test_mistakes_are_told_from_the_settings_alone(photos: Path, pairs: Path) -> None:
    for overrides, message in (
        (["task=vit_b16", "augment.shift=15"], "augment.shift=15 moves images of 28 pixels out of sight"),
        (["task=lit_b16_b", "batch_size=1"], "batch_size=1: the contrastive loss compares the pairs of a batch"),
        (["task=gpt2_small", "data=text", f"data.path={pairs.parent / 'photos'}"], "does not exist"),
        (["task=gpt2_small", "data=text", f"data.path={schema.quoted(str(photos))}"], "holds no texts: expected files"),
        (["task=unet_64", "data=imagenet", f"data.path={pairs}"], "has no class folders in train/ and no tables"),
    ):
        (result,) = from_data.problems(plain(*overrides), overrides)
        assert message in result
    for odd in ("model.args.unet.size=x", "model.args.unet=null", "model.args.unet.classes=[1]", "~model.args.judge"):
        from_data.problems(plain(*own("unet_64", photos, odd)))  # the recipe says what is wrong with it
    paper = plain("task=lit_b16_b", "scale=paper", "data=glyph_pairs")
    assert from_data.problems(paper) == []  # its size and tokenizer were not typed


def test_data_that_ship_and_dry_runs_of_absent_data_are_left_alone() -> None:
    for overrides in (["task=vit_b16"], ["task=unet_64"], ["task=vit_b16", "data=imagenet", "data.path=/nowhere"]):
        assert composed(overrides) == plain(*overrides)


@pytest.mark.parametrize("value", ["a b", 'a"b', "a'b", "a\\", 'a\\"', "x=y,z", "[1, {", "häß 日本", "#;&"])
def test_quoted_texts_come_back(value: str) -> None:
    assert composed([f"data.path={schema.quoted(value)}"]).data.path == value
    options = composed([f"+data.options={schema.literal({'a': [value, 1, True, None, 0.5], 'b': {'c': value}})}"])
    assert options.data.options == {"a": [value, 1, True, None, 0.5], "b": {"c": value}}


def test_images_of_one_class_or_of_other_channels_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "photos").symlink_to(photos)
    with pytest.raises(ConfigError, match="has one class, and a classifier needs two or more"):
        composed(own("vit_b16", tmp_path / "above"))
    for typed, message in (
        ("model.args.in_chans=3", r"data=mnist5k has images of 1 channels, .* set model\.args\.in_chans=1"),
        ("model.args.num_classes=9", r"has 10 classes, model\.args\.num_classes=9: set model\.args\.num_classes=10"),
        ("model.args.img_size=14", r"has images of 28 pixels a side, .* or \+data\.options\.size=14"),
        ("augment.shift=15", r"augment\.shift=15 moves images of 28 pixels out of sight: choose at most 14"),
    ):
        with pytest.raises(ConfigError, match=message):
            protocol.make(plain("task=vit_b16", typed)).examples()
    with pytest.raises(ConfigError, match="batch_size=1 gives each process one image at a time, and resnet50 has"):
        protocol.make(plain("task=resnet50", "batch_size=1")).model()

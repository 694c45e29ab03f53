"""Text to image and super-resolution: what is read, how well it is scored, and whole runs of a few steps."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from recipes import protocol
from recipes.data.images.arrays import resized
from recipes.data.pairs.pairs import Probe, Texts
from recipes.diffusion import caption_rows, feature_extractors, text_encoders
from recipes.errors import ConfigError
from recipes.runs import experiment, prerequisite
from recipes.runs.record import folder_of, read_summary
from recipes.training.execution.device_layout import Placement
from tests.recipes import conftest

SMALL = [
    "tracker=none",
    "steps=2",
    "eval_every=2",
    "checkpoint_every=2",
    "log_every=1",
    "batch_size=4",
    "+data.options.variants=1",
    "model.args.samples=12",
    "model.args.sampler.steps=2",
]
Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LiT run's folder, of random weights."""
    folder = tmp_path_factory.mktemp("lit")
    cfg = conftest.composed("task=lit_b16_b", "optim=adamw", "+data.options.variants=1")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    torch.manual_seed(0)
    save_file(protocol.make(cfg).model().state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def composed(tmp_path: Path, lit: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    monkeypatch.setattr(prerequisite, "folder", lambda cfg, setting: lit)
    cache = tmp_path.parent / "cache"
    monkeypatch.setenv("LION_BENCH_CACHE", str(cache))

    def make(task: str, *overrides: str) -> DictConfig:
        return conftest.composed(f"task={task}", "optim=adamw", *SMALL, f"output_dir={tmp_path}", *overrides)

    return make


@pytest.mark.parametrize(("task", "side"), [("t2i_64", 16), ("t2i_256_sr", 32)])
def test_a_run_ends_with_its_figures_and_pictures(composed: Compose, task: str, side: int) -> None:
    cfg = composed(task)
    assert experiment.run(cfg) == "completed"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["metric"], summary["goal"]) == ("ema_frechet_own_features", "min")
    assert set(summary["further_tests"]) == {"characters"}
    rows = [json.loads(line) for line in (folder_of(cfg) / "metrics.jsonl").read_text().splitlines()]
    names = {row["name"] for row in rows if row["split"] == "val"}
    assert names == {"loss", "ema_loss", "ema_frechet_own_features", "ema_lit_score", "ema_real_lit_score"}
    for name in ("samples", "originals"):
        assert np.asarray(Image.open(folder_of(cfg) / f"{name}.png")).shape[:2] == (8 * (side + 1) + 1,) * 2


def test_captions_are_left_out_as_often_as_asked(composed: Compose) -> None:
    the_recipe: Any = protocol.make(prerequisite.resolved(composed("t2i_64", "model.args.drop_text=0.25")))
    the_recipe.examples()
    seen: list[torch.Tensor] = []
    read = the_recipe.text.read
    encoder = text_encoders.TextEncoder(32, the_recipe.text.tokens, lambda t: (seen.append(t), read(t))[1], "")
    the_recipe.states = caption_rows.CaptionStates(encoder, [])
    batch = {"image": torch.zeros(400, 1, 16, 16), "tokens": the_recipe.text.tokens(["latin small letter a"] * 400)}
    torch.manual_seed(0)
    the_recipe.loss(the_recipe.model(), batch)
    empty = (seen[0] == the_recipe.empty_caption).all(1)
    assert 0.18 < empty.float().mean() < 0.32
    assert torch.equal(seen[0][~empty], batch["tokens"][~empty])


def test_states_of_captions_that_are_kept_are_those_that_are_computed(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    the_recipe: Any = protocol.make(prerequisite.resolved(composed("t2i_64", "model.args.drop_text=0.5")))
    examples, model, placed = the_recipe.examples(), the_recipe.model(), Placement(torch.device("cpu"))
    keys = [(i, i) for i in range(40)]
    train, val = (placed(examples[name].__getitems__(keys)) for name in ("train", "val"))
    the_recipe.trained = None  # have images made, as by the averaged weights
    states, rows = the_recipe.states, []
    read = states.text.read
    states.text = dataclasses.replace(states.text, read=lambda tokens: (rows.append(len(tokens)), read(tokens))[1])
    found = {}
    for kept in (False, True):
        monkeypatch.setattr(caption_rows.CaptionStates, "fits", lambda _, device, kept=kept: kept)
        torch.manual_seed(0)
        found[kept] = {"train": the_recipe.loss(model, train)["loss"].detach()}
        with torch.no_grad():
            found[kept] |= the_recipe.evaluate(model.eval(), val)
        model.train()
        if not kept:
            rows.clear()
    for name, value in found[True].items():
        torch.testing.assert_close(value, found[False][name], rtol=1e-4, atol=1e-5, msg=name)
    assert sum(rows) == len(states.numbers)  # each caption once, those that are dropped and guided included


def test_a_device_keeps_the_states_that_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = text_encoders.TextEncoder(5, lambda texts: torch.zeros(len(texts), 7), lambda t: (t, t), "")
    states = caption_rows.CaptionStates(encoder, [Texts(["a", "b", "a"]), Texts(["b", "c"])])
    assert states.numbers == {"": states.NONE, "a": 1, "b": 2, "c": 3}
    monkeypatch.setattr(caption_rows, "STATES_BYTES", 4 * 4 * 7 * 5)
    assert states.fits(torch.device("cuda"))
    assert not states.fits(torch.device("cpu"))
    monkeypatch.setattr(caption_rows, "STATES_BYTES", 4 * 4 * 7 * 5 - 1)
    assert not states.fits(torch.device("cuda"))


def test_what_is_given_to_super_resolution_is_the_small_picture_and_the_same_each_time(composed: Compose) -> None:
    the_recipe: Any = protocol.make(composed("t2i_256_sr", "model.args.low_noise=0.0"))
    image = torch.rand(3, 1, 32, 32) * 2 - 1
    low = the_recipe._low({"image": image})
    assert low.shape == image.shape
    expected = image.view(3, 1, 16, 2, 16, 2).mean((3, 5))
    # Enlarging by two, bilinear pixels lie a quarter off those of the small picture.
    torch.testing.assert_close(
        low[..., 1, 1],
        (9 * expected[..., 0, 0] + 3 * expected[..., 0, 1] + 3 * expected[..., 1, 0] + expected[..., 1, 1]) / 16,
    )
    noisy: Any = protocol.make(composed("t2i_256_sr", "model.args.low_noise=0.5"))
    first, again = (noisy._low({"image": image, "seed": torch.tensor([4, 5, 6])}) for _ in range(2))
    assert torch.equal(first, again)
    assert (first - low).std() > 0.1
    assert not torch.equal(noisy._low({"image": image}), noisy._low({"image": image}))


def test_pictures_are_reduced_as_arrays_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    for size in (16, 28, 32):
        ours = (caption_rows.downsampled(images, size) + 1) * 127.5
        torch.testing.assert_close(
            ours[:, 0].numpy(), resized(pixels, size)[..., 0].astype(np.float32), atol=0.51, rtol=0
        )
    back = feature_extractors.enlarged(caption_rows.downsampled(images, 32), 28)
    torch.testing.assert_close(back, images)
    assert feature_extractors.enlarged(caption_rows.downsampled(images, 16), 28).shape == images.shape


def test_only_images_with_a_caption_are_judged_by_it() -> None:
    class Numbered:
        def __len__(self) -> int:
            return 5

        def batch(self, index: Any) -> tuple[torch.Tensor, Any]:
            return torch.tensor(index, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), index

        def fingerprint(self) -> str:
            return "five"

    probe = Probe(
        Numbered(),
        Texts(["prompt", "one", "two", "another two"]),
        text_group=np.array([-1, 7, 9, 9]),
        image_group=np.array([-1, 9, -1, 7, 8]),
    )
    encoder = text_encoders.TextEncoder(1, lambda texts: torch.tensor([[len(t)] for t in texts]), lambda t: (t, t), "")
    scorer = text_encoders.Scorer("s", lambda texts: torch.tensor([[ord(t[0])] for t in texts]), lambda a, b: a, "")
    rows = caption_rows.captioned_rows(probe, 4, encoder, scorer)
    assert rows is not None
    batch = rows.__getitems__([(0, 0), (0, 1)])
    assert batch["image"][:, 0, 0, 0].tolist() == [1, 3]  # of groups 9 and 7; 8 has no text
    assert batch["tokens"].tolist() == [[3], [3]]
    assert batch["scored"].tolist() == [[ord("t")], [ord("o")]]
    assert caption_rows.captioned_rows(Probe(Numbered(), Texts(["x"])), 4, encoder, scorer) is None


def words(end: str) -> Tokenizer:
    vocabulary = {"<pad>": 0, end: 1, "a": 2, "red": 3, "dog": 4, "<unk>": 5, "<start>": 6}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    return tokenizer


def test_t5_from_a_folder_is_what_transformers_makes_of_each_text_alone(tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    small = T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2, pad_token_id=0)
    model = T5EncoderModel(small).eval()
    model.save_pretrained(tmp_path)
    words("</s>").save(str(tmp_path / "tokenizer.json"))
    encoder = text_encoders.text_encoder(str(tmp_path), 6, pytest.fail)
    assert encoder.width == 16
    tokens = encoder.tokens(["a dog", "a red dog", "a a a a a a a a", ""])
    assert tokens.tolist() == [[2, 4, 1, 0, 0, 0], [2, 3, 4, 1, 0, 0], [2, 2, 2, 2, 2, 1], [1, 0, 0, 0, 0, 0]]
    states, seen = encoder.read(tokens)
    assert seen.sum(1).tolist() == [3, 4, 6, 1]
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([[2, 4, 1]])).last_hidden_state[0]
    torch.testing.assert_close(states[0, :3], alone, atol=1e-5, rtol=1e-4)


def test_clip_from_a_folder_scores_as_transformers_own_processing_does(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    text = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "eos_token_id": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 7, "pad_token_id": 1, "bos_token_id": 6}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    both = CLIPConfig(text_config=text, vision_config=vision | {"image_size": 32, "patch_size": 8}, projection_dim=8)
    model = CLIPModel(both).eval()
    model.save_pretrained(tmp_path)
    words("<end>").save(str(tmp_path / "tokenizer.json"))
    scorer = text_encoders.scorer(str(tmp_path), pytest.fail)
    assert scorer.metric == "clip_score"
    pixels = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    tokens = scorer.tokens(["a dog", "a red dog"])
    got = scorer.score(pixels / 127.5 - 1, tokens)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    prepared = processor(images=[p.permute(1, 2, 0).numpy() for p in pixels], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(input_ids=tokens, pixel_values=prepared)
    expected = out.logits_per_image.diag() / model.logit_scale.exp()
    torch.testing.assert_close(got, expected, atol=2e-2, rtol=2e-2)  # the processor rounds to 256 levels


def test_weights_that_are_nowhere_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.data.hub.reachable", lambda address: False)
    with pytest.raises(ConfigError, match=r"model\.args\.text=google/t5-v1_1-xxl: T5's weights are not available"):
        text_encoders.text_encoder("google/t5-v1_1-xxl", 8, pytest.fail)
    with pytest.raises(ConfigError, match=f"model.args.scorer={tmp_path}: CLIP's weights are not available"):
        text_encoders.scorer(str(tmp_path), pytest.fail)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """transformers goes on with random numbers where a name is not found."""
    from transformers import T5Config, T5EncoderModel

    small = T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0)
    T5EncoderModel(small).save_pretrained(tmp_path)
    words("</s>").save(str(tmp_path / "tokenizer.json"))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({f"other.{name}": t for name, t in weights.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="holds other weights than T5's weights: "):
        text_encoders.text_encoder(str(tmp_path), 6, pytest.fail)


def test_how_many_processes_load_the_data_makes_no_other_run_of_it(composed: Compose) -> None:
    assert protocol.make(prerequisite.resolved(composed("t2i_64", "data.workers=1"))).examples()["val"]


@pytest.mark.parametrize(
    ("task", "override", "said"),
    [
        ("t2i_64", "model.args.drop_text=1", "drop_text=1 must be at least 0 and below 1"),
        ("t2i_64", "model.args.low_size=8", "condition_channels must be 1 with model.args.low_size=8"),
        ("t2i_64", "model.args.drop_text=null", "drop_text=None must be at least 0"),
        ("t2i_64", "model.args.guidance=null", "guidance=None must be a number"),
        ("t2i_64", "model.args.scorer=null", "scorer=None names nothing"),
        ("t2i_64", "model.args.text_length=64", "text_length=64 is the number of pixels of a level that attends"),
        (
            "t2i_64",
            "model.args.unet.image_channels=3",
            "images of 1 channels, the model model.args.unet.image_channels=3",
        ),
        ("t2i_64", "model.args.unet.head_width=32", "head_width=32 does not divide the 48 channels that attend"),
        ("t2i_256_sr", "model.args.low_size=12", "low_size=12 must divide model.args.unet.size=32"),
        ("t2i_64", "model.args.unet.text_width=16", "states of 32 numbers: set model.args.unet.text_width=32"),
        (
            "t2i_64",
            "+data.options.vocab_size=500",
            "is a LiT run on glyph_pairs with .*, this run is on glyph_pairs with .*500",
        ),
    ],
)
def test_what_is_wrong_is_said_before_any_work(composed: Compose, task: str, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        protocol.make(prerequisite.resolved(composed(task, override))).examples()

"""Contrastive training from config to record: locked and cached towers, what is judged, and what is refused."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file

from recipes import protocol
from recipes.contrastive import retrieval
from recipes.contrastive.two_towers import TwoTowers
from recipes.data.images.transforms import pixels
from recipes.data.pairs import glyph_pairs
from recipes.data.pairs.pairs import Pairs, Texts
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.record import folder_of, read_summary
from recipes.training.checkpoint import load_weights
from tests.recipes import conftest

SMALL = [
    "task=lit_b16_b",
    "optim=adamw",
    "tracker=none",
    "steps=6",
    "eval_every=6",
    "checkpoint_every=3",
    "log_every=1",
    "batch_size=16",
    "+data.options.variants=1",
    "model.args.text.num_hidden_layers=1",
    "model.args.text.hidden_size=16",
    "model.args.text.intermediate_size=16",
]
Compose = Callable[..., DictConfig]


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """A small run whose locked tower has random weights of a file's."""
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))

    def make(*overrides: str, init: bool = True) -> DictConfig:
        where = [f"output_dir={tmp_path / 'outputs'}", *([f"init_from={tmp_path / 'tower.safetensors'}"] * init)]
        return conftest.composed(*SMALL, *where, *overrides)

    cfg = make()
    torch.manual_seed(1)
    towers: Any = protocol.make(cfg).model()
    weights = {name: value.clone() for name, value in towers.image.state_dict().items()}
    save_file(weights | {"head.weight": torch.zeros(62, 64)}, tmp_path / "tower.safetensors")
    return make


def losses(cfg: DictConfig) -> list[float]:
    lines = (folder_of(cfg) / "metrics.jsonl").read_text().splitlines()
    return [row["value"] for row in map(json.loads, lines) if (row["split"], row["name"]) == ("train", "loss")]


def test_cached_features_give_the_run_that_recomputed_ones_give(composed: Compose, tmp_path: Path) -> None:
    cached, recomputed = composed(), composed("model.args.cache_features=false")
    for cfg in (cached, recomputed):
        assert experiment.run(cfg) == "completed"
    assert losses(cached) == pytest.approx(losses(recomputed), rel=1e-4)
    assert len(losses(cached)) == 6
    one, other = (read_summary(folder_of(cfg)) for cfg in (cached, recomputed))
    assert one is not None
    assert other is not None
    assert one["test"] == pytest.approx(other["test"], abs=0.01)
    assert set(one["further_tests"]) == {"characters"}
    files = list((tmp_path / "cache" / "features").glob("*.npz"))
    assert len(files) == 4  # train, val, test, characters


@pytest.mark.parametrize("other", ["model.args.image.args.num_heads=4", "+model.args.image.args.act_layer=relu"])
def test_a_tower_of_the_same_weights_and_other_settings_has_features_of_its_own(composed: Compose, other: str) -> None:
    features = []
    for overrides in ([], [other]):
        recipe: Any = protocol.make(composed(*overrides))
        examples = recipe.examples()
        recipe.initialise(recipe.model(), load_weights(str(composed().init_from)))
        features.append(examples["val"].features)
    assert features[0].shape == features[1].shape
    assert not torch.equal(*features)


def test_cached_features_are_exact_where_a_run_takes_tf32(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache serves runs on every device; TF32 keeps 10 bits of a factor."""
    seen, features = [], TwoTowers.features

    def watched(towers: TwoTowers, image: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return features(towers, image)

    monkeypatch.setattr(TwoTowers, "features", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        recipe: Any = protocol.make(composed())
        recipe.examples()
        recipe.initialise(recipe.model(), load_weights(str(composed().init_from)))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {"highest"}


def test_a_locked_tower_stays_as_it_was_and_all_else_moves(composed: Compose, tmp_path: Path) -> None:
    cfg = composed("model.args.cache_features=false", "optim.weight_decay=0.1")
    torch.manual_seed(0)
    experiment.run(cfg)
    trained = load_file(next((folder_of(cfg) / "checkpoint").glob("step-*")) / "model.safetensors")
    start = load_file(tmp_path / "tower.safetensors")
    for name, value in trained.items():
        if name.startswith("image."):
            assert value.equal(start[name.removeprefix("image.")]), name
    moved = ("log_scale", "image_projection.weight", "text_projection.weight")
    assert trained["log_scale"].item() != pytest.approx(2.302585, abs=1e-7)
    assert all(name in trained for name in moved)


def test_metrics_are_those_of_the_embeddings_of_each_set(composed: Compose) -> None:
    """Against a loop that embeds one image and one text at a time."""
    cfg = composed("model.args.cache_features=false")
    the_recipe: Any = protocol.make(cfg)
    examples = the_recipe.examples()
    torch.manual_seed(0)
    model = the_recipe.model().eval()
    rows = examples["val"]
    with torch.no_grad():
        batches = [rows.__getitems__([(i, i) for i in range(s, min(s + 200, len(rows)))])
                   for s in range(0, len(rows), 200)]  # fmt: skip
        parts = [the_recipe.evaluate(model, batch | {"image": pixels(batch["image"])}) for batch in batches]
        figures = {name: torch.cat([part[name].float() for part in parts]) for name in parts[0]}
        probe = rows.probe
        each = [pixels(probe.images.batch([i])[0]) for i in range(0, len(probe.images), 31)]
        image = torch.cat([model.embed_image(one) for one in each])
        text = model.embed_text(the_recipe.pairs.encoder(probe.texts.texts))
    metrics = the_recipe.metrics(figures)
    classes = torch.stack([text[probe.prompt_class == c].mean(0) for c in range(62)])
    classes = classes / classes.norm(dim=1, keepdim=True)
    right = [int((classes @ v).argmax()) == int(probe.label[31 * i]) for i, v in enumerate(image)]
    kept = torch.zeros(len(probe.images), dtype=torch.bool)
    kept[::31] = True
    label = torch.from_numpy(probe.label).masked_fill(~kept, -1)
    again = retrieval.zero_shot(figures["image"][: len(label)], label, text, torch.from_numpy(probe.prompt_class))
    assert again == pytest.approx(sum(right) / len(right))
    assert set(metrics) == {"zero_shot"} | {
        f"{way}_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)
    }
    assert metrics["image_to_text_1"] <= metrics["image_to_text_5"] <= metrics["image_to_text_10"]


def towers(micro_batch: int | None, composed: Compose) -> TwoTowers:
    overrides = ["model.args.lock_image=false", "model.args.cache_features=false"]
    the_recipe = protocol.make(composed(*overrides, f"model.args.micro_batch={micro_batch or 'null'}"))
    torch.manual_seed(3)
    model: Any = the_recipe.model()
    return model.double()


def test_embedding_in_parts_has_the_gradients_of_the_whole_and_keeps_less(composed: Compose) -> None:
    from recipes.contrastive.loss import info_nce

    torch.manual_seed(4)
    image, tokens = torch.randn(24, 1, 28, 28).double(), torch.randint(2, 700, (24, 14))
    gradients, kept = {}, {}
    for micro_batch in (None, 5):
        model = towers(micro_batch, composed).train()
        sizes: list[int] = []

        def count(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = info_nce(*model(image, tokens))
        kept[micro_batch] = sum(sizes)
        loss.backward()
        gradients[micro_batch] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients[None].keys() == gradients[5].keys()
    for name, gradient in gradients[None].items():
        scale = gradient.abs().max().clamp_min(1e-12)
        assert ((gradient - gradients[5][name]).abs().max() / scale) < 1e-5, name
    assert kept[5] < kept[None] / 10


class Damaged:
    """Images of one number each, 0, 1, 2, ...; what should be number 2 is number 3."""

    def __len__(self) -> int:
        return 5

    def batch(self, index: Sequence[int]) -> tuple[torch.Tensor, list[int]]:
        taken = [3 if i == 2 else i for i in index]
        return torch.tensor(taken).float()[:, None, None, None].expand(-1, 1, 2, 2), taken

    def fingerprint(self) -> str:
        return "damaged"


class Mean(torch.nn.Module):
    """In the towers' place: an image's feature is its number."""

    def __init__(self) -> None:
        super().__init__()
        self.image = torch.nn.Linear(1, 1)
        self.calls = 0

    def features(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return image.mean((2, 3))


def test_an_unreadable_image_brings_its_neighbours_caption_cached_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes.contrastive.rows import PairRows, cached_features

    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path))
    texts = Texts([f"text {i}" for i in range(5)])

    def numbers(captions: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[int(text.split()[1])] for text in captions])

    rows, keys = PairRows(Pairs(Damaged(), texts), numbers), [(9, 4), (10, 2), (11, 0)]  # type: ignore[arg-type]
    plain = rows.__getitems__(keys)
    assert plain["tokens"].flatten().tolist() == [4, 3, 0]
    assert plain["image"].mean((1, 2, 3)).tolist() == [4, 3, 0]
    for _ in range(2):  # made, then read
        towers: Any = Mean()
        rows.features, rows.image_index = cached_features(towers, rows.images, "weights")
        result = rows.__getitems__(keys)
        assert result["tokens"].flatten().tolist() == [4, 3, 0]
        assert result["feature"].flatten().tolist() == [4, 3, 0]
    assert towers.calls == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["accumulate=2"], "model.args.micro_batch= embeds in parts"),
        (["model.args.logit_scale=0"], "logit_scale=0 must be above 0"),
        (["model.args.micro_batch=0"], "micro_batch=0 must be at least 1"),
        (["+model.args.temperature=1"], "model.args of lit are .*logit_scale.* see temperature"),
        (["model.args.lock_image=false"], "cache_features=true needs model.args.lock_image=true"),
        (["init_from=null"], "lock_image=true needs init_from="),
        (["model.args.text.vocab_size=100"], "has 768 tokens and fills up with token 1"),
        (
            ["model.args.project_image=false", "model.args.width=32"],
            "width=32, and vit_small_patch16_224 has 64 features",
        ),
        (["model.args.image.name=vit_smal"], "vit_smal is not a timm model; similar: gcvit_small"),
        (["+model.args.text.heads=3"], "text.heads is none of RobertaPreLayerNormConfig's"),
        (["model.args.image.args.depth=2"], "is of another image tower than vit_small_patch16_224"),
    ],
)
def test_what_a_user_gets_wrong(composed: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment.run(composed(*overrides))


def test_another_run_of_this_family_goes_on_with_both_towers(composed: Compose) -> None:
    first = composed()
    experiment.run(first)
    second = composed(f"init_from={folder_of(first)}", "seed=1", init=False)
    assert experiment.run(second) == "completed"
    assert losses(second)[0] < losses(first)[0]


@pytest.mark.slow
def test_held_out_faces_are_named_and_shuffled_captions_teach_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About three minutes on one core: the image tower, a run as users start it, and one with shuffled captions."""
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path / "cache"))
    result = {}
    for shuffled in ("false", "true"):
        overrides = ["task=lit_b16_b", "optim=lion", "tracker=none", f"output_dir={tmp_path}"]
        cfg = conftest.composed(*overrides, f"+data.options.shuffle_captions={shuffled}")
        assert experiment.run(cfg) == "completed"
        result[shuffled] = read_summary(folder_of(cfg)) or {}
    assert result["false"]["test"] > 20 / 62
    assert result["false"]["further_tests"]["characters"] > 20 / 249
    assert result["true"]["test"] < 3 / 62


def test_captions_choose_where_there_are_no_classes(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    data = glyph_pairs.load(variants=1)
    nobody = np.full(len(data.probes["val"].images), -1)

    def hold(**change: np.ndarray) -> None:
        probes = data.probes | {"val": dataclasses.replace(data.probes["val"], label=nobody, **change)}
        load = functools.wraps(glyph_pairs.load)(lambda **_: dataclasses.replace(data, probes=probes))
        monkeypatch.setattr(glyph_pairs, "load", load)

    hold()
    made: Any = protocol.make(composed())
    made.examples()
    assert made.metric == "image_to_text_1"
    hold(image_group=nobody)  # nothing to choose by is refused before training, not after a part of it
    with pytest.raises(ConfigError, match="has neither labelled images nor captions in val to choose by"):
        experiment.run(composed())


def test_a_batch_of_one_pair_is_refused(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="batch_size=1: the contrastive loss compares the pairs of a batch"):
        protocol.make(composed("batch_size=1"))

"""Weights to start from that transformers saved, in each of its forms."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from recipes import protocol
from recipes.errors import ConfigError
from recipes.training import checkpoint, pretrained_weights
from tests.recipes.conftest import composed


@pytest.fixture(scope="module")
def model() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=4, decoder_start_token_id=0)
    )


@pytest.mark.parametrize("shard", ["1GB", "8KB"])
def test_a_folder_that_transformers_saved(tmp_path: Path, model: T5ForConditionalGeneration, shard: str) -> None:
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "8KB")
    weights = checkpoint.load_weights(tmp_path)
    own = model.state_dict()
    assert {"shared.weight", "encoder.final_layer_norm.weight"} <= weights.keys() <= own.keys()
    for name, value in weights.items():
        assert torch.equal(value, own[name])


@pytest.mark.parametrize("task", ["gpt2_small", "bert_small"])
def test_tied_weights_that_transformers_wrote_once(tmp_path: Path, task: str) -> None:
    made = protocol.make(composed(f"task={task}", "model.args.vocab_size=50"))
    torch.manual_seed(0)
    saved: Any = made.model()
    saved.save_pretrained(tmp_path)
    weights = checkpoint.load_weights(tmp_path)
    assert weights.keys() < saved.state_dict().keys()
    model: Any = made.model()
    made.initialise(model, weights)
    read = type(saved).from_pretrained(tmp_path, attn_implementation="eager")  # transformers' own way
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    del weights[next(name for name in weights if "norm" in name.lower() or "ln_" in name)]
    with pytest.raises(ConfigError, match=r"is of another model than .*: 1 tensors differ"):
        made.initialise(model, weights)


@pytest.mark.parametrize("task", ["gpt2_small", "bert_small"])
def test_the_names_that_published_models_gave_their_weights(tmp_path: Path, task: str) -> None:
    made = protocol.make(composed(f"task={task}", "model.args.vocab_size=50", "init_from=somewhere"))
    torch.manual_seed(0)
    saved, model = made.model(), made.model()
    weights = saved.state_dict()
    if task == "gpt2_small":  # as openai-community/gpt2: no prefix, no output layer, the constants of masking
        older = {name.removeprefix("transformer."): value for name, value in weights.items() if "lm_head" not in name}
        older |= {"h.0.attn.bias": torch.ones(1, 1, 8, 8).tril(), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    else:  # as google-bert/bert-base-uncased: gamma and beta, and the other head
        names = {".weight": ".gamma", ".bias": ".beta"}
        older = {
            name.replace(end, names[end]) if "LayerNorm" in name else name: value
            for name, value in weights.items()
            for end in (name[name.rindex(".") :],)
        }
        older |= {"cls.seq_relationship.weight": torch.ones(2, 4)}
    older = {name: value.half().float() for name, value in older.items()}
    made.initialise(model, {name: value.half() for name, value in older.items()})
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    assert all(torch.equal(value, weights[name].half().float()) for name, value in model.state_dict().items())
    first = "h.0." if task == "gpt2_small" else "layer.0."
    deeper = older | {name.replace(first, first.replace("0", "9")): value for name, value in older.items()}
    with pytest.raises(ConfigError, match=r"init_from=somewhere is of another model than .*9\..* among them"):
        made.initialise(model, deeper)


def test_a_folder_in_pytorch_s_older_form(tmp_path: Path, model: T5ForConditionalGeneration) -> None:
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    weights = checkpoint.load_weights(tmp_path)
    assert weights.keys() == model.state_dict().keys()
    (tmp_path / "pytorch_model.bin").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin cannot be read") as error:
        checkpoint.load_weights(tmp_path)
    assert "\n" not in str(error.value)


def test_a_name_on_the_hub_is_fetched_once_for_the_form_that_it_has(
    tmp_path: Path, model: T5ForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    asked = []

    def snapshot(name: str, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((name, allow_patterns[0], local_files_only))
        present = (tmp_path / allow_patterns[0]).exists()
        return str(tmp_path if present else tmp_path / "nothing")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr("recipes.training.pretrained_weights.reachable", lambda _: True)
    weights = checkpoint.load_weights("someone/t5-v1_1-tiny")
    assert weights.keys() == model.state_dict().keys()
    assert asked[-1] == ("someone/t5-v1_1-tiny", "pytorch_model.bin", False)


def test_without_a_network_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("recipes.training.pretrained_weights.reachable", lambda _: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="the hub cannot be reached and the cache has no copy") as error:
        pretrained_weights.from_hub("google/t5-v1_1-base")
    assert "\n" not in str(error.value)
    for name in ("/no/such/folder", "just-a-word", "outputs/run.safetensors"):
        with pytest.raises(ConfigError, match="does not exist; expected a run's folder"):
            pretrained_weights.from_hub(name)


def test_weights_are_loaded_only_into_a_model_that_they_match() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    weights = {name: torch.full_like(value, 7.0) for name, value in model.state_dict().items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bad = [
        weights | {"0.bias": torch.zeros(3)},  # another shape
        weights | {"2.weight": torch.zeros(1)},  # one more
        {name: value for name, value in weights.items() if name != "0.weight"},  # one less
    ]
    for other, name in zip(bad, ("0.bias", "2.weight", "0.weight"), strict=True):
        with pytest.raises(ConfigError) as error:
            pretrained_weights.load_matching(model, other, "there", "mlp", optional=["1.bias"])
        assert str(error.value) == (
            f"init_from=there is of another model than mlp: 1 tensors differ, {name} among them"
        )
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ConfigError, match=r"another tower than mlp: 1 tensors differ, 1\.bias"):  # optional, not any
        pretrained_weights.load_matching(
            model, weights | {"1.bias": torch.zeros(5)}, "there", "mlp", kind="tower", optional=["1.bias"]
        )
    del weights["1.bias"]
    pretrained_weights.load_matching(model, weights, "there", "mlp", optional=["1.bias"])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key == "1.bias" else torch.full_like(value, 7.0))


def test_the_fingerprint_of_weights_covers_counters_and_running_statistics() -> None:
    """A batch norm's counter is an integer without axes."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = pretrained_weights.weights_fingerprint(network)
    assert pretrained_weights.weights_fingerprint(copy.deepcopy(network)) == before
    network[1].num_batches_tracked += 1
    assert pretrained_weights.weights_fingerprint(network) != before

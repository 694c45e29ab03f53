"""Pre-training T5 on a corpus of a few files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from tokenizers import Tokenizer, models, pre_tokenizers

from recipes import protocol
from recipes.data.text import docpairs, stdlib
from recipes.data.text.spans import PAD, SENTINELS, lengths, spans_in
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.record import folder_of, read_summary
from recipes.training import pretrained_weights
from tests.recipes.language.test_text_to_text import TINY, composed

FEW = ["task=t5_pretrain", "+data.options.max_files=60", "data.options.eval_documents=1"]


@pytest.fixture
def tiny(tmp_path: Path):
    return lambda *more: composed(*(o for o in TINY if "init_from" not in o), *FEW, f"output_dir={tmp_path}", *more)


def test_windows_are_the_corpus_s_and_sentinels_the_tokenizer_s(tiny) -> None:
    cfg = tiny("data.options.context=40")
    the_recipe = protocol.make(cfg)
    examples = the_recipe.examples()
    assert set(examples) == {"train", "val", "test"}
    made = stdlib.tokenizer(cfg.model.args.vocab_size, (PAD, *SENTINELS), 60)
    batch = examples["train"].__getitems__([(0, 3), (1, 4)])
    assert [*map(len, batch["input"])] == [lengths(40)[0]] * 2
    assert [*map(len, batch["target"])] == [lengths(40)[1]] * 2
    assert made.token_to_id(PAD) == cfg.model.args.pad_token_id
    assert batch["target"][0, 0] == made.token_to_id("<extra_id_0>")
    assert batch["input"][0, -1] == batch["target"][0, -1] == cfg.model.args.eos_token_id
    words = made.decode([token for token in batch["input"][0].tolist() if token > made.token_to_id(SENTINELS[-1])])
    assert any(word in " ".join(stdlib.texts("train", 60)) for word in words.split() if len(word) > 3)


@pytest.fixture
def published(tmp_path: Path):
    """Compose a run on words of which each is a token, read by a tokenizer with T5's names and its order of them."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for split in ("train", "val", "test"):
        rng = np.random.default_rng(len(split))
        (texts / f"{split}.txt").write_text(" ".join(rng.choice(list("!abcdefgh"), 200)))

    def compose(*overrides: str, sentinels: int = 100) -> DictConfig:
        names = [f"<extra_id_{number}>" for number in reversed(range(sentinels))]
        words = ["<pad>", "</s>", "<unk>", *"!abcdefgh", *names]
        made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "<unk>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        made.save(str(tmp_path / "tokenizer.json"))
        return composed(
            *(o for o in TINY if "init_from" not in o),
            "task=t5_pretrain",
            "data=wiki40b",
            f"data.path={texts}",
            f"+data.options.tokenizer={tmp_path / 'tokenizer.json'}",
            f"output_dir={tmp_path / 'outputs'}",
            *overrides,
        )

    return compose


def test_a_published_tokenizer_s_sentinels_are_found_by_name(published) -> None:
    cfg = published("model.args.pad_token_id=0", "model.args.eos_token_id=1", "data.options.context=40")
    batch = protocol.make(cfg).examples()["train"].__getitems__([(0, 0), (1, 2)])
    spans = spans_in(40)[1]
    first = 12 + 99  # <extra_id_0> is the last of the vocabulary
    for source, target in zip(batch["input"].tolist(), batch["target"].tolist(), strict=True):
        assert [token for token in source if token >= 12] == [first - number for number in range(spans)]
        assert [token for token in target if token >= 12] == [first - number for number in range(spans)]
        assert source[-1] == target[-1] == 1
        assert target[0] == first
    assert experiment.run(cfg) == "completed"


def test_a_tokenizer_that_lacks_what_hides_text_or_pads_elsewhere_is_refused(published) -> None:
    with pytest.raises(ConfigError, match=r"112 tokens and pads with token 0; .*pad_token_id=1 do not fit"):
        protocol.make(published()).examples()
    pads = ("model.args.pad_token_id=0", "data.options.context=40")
    with pytest.raises(ConfigError, match=r"the tokenizer of data=wiki40b has no token <extra_id_1>; take one"):
        protocol.make(published(*pads, sentinels=1)).examples()
    protocol.make(published(*pads, sentinels=2)).examples()


def test_the_same_tokenizer_as_fine_tuning(tiny) -> None:
    """A model that was pre-trained reads what it is fine-tuned on in the same tokens."""
    pretrain, finetune = composed("task=t5_pretrain"), composed("task=t5_glue")
    assert pretrain.model == finetune.model
    assert docpairs.SENTINELS is SENTINELS
    assert pretrain.model.args.vocab_size == stdlib.VOCABULARY


def test_perplexity_is_the_exponential_of_the_mean_over_all_target_tokens(tiny) -> None:
    the_recipe = protocol.make(tiny())
    torch.manual_seed(0)
    model, examples = the_recipe.model().eval(), the_recipe.examples()["val"]
    batches = [examples.__getitems__([(0, n) for n in rows]) for rows in ([0, 1, 2], [3])]
    with torch.no_grad():
        figures = [the_recipe.evaluate(model, batch) for batch in batches]
        losses = [
            torch.nn.functional.cross_entropy(
                model(input_ids=batch["input"], labels=batch["target"]).logits.flatten(0, 1),
                batch["target"].flatten(),
                reduction="none",
            )
            for batch in batches
        ]
    values = the_recipe.metrics({name: torch.cat([found[name] for found in figures]) for name in figures[0]})
    assert values["loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))


def test_a_loss_beyond_all_bounds_is_infinite_not_an_error(tiny) -> None:
    values = protocol.make(tiny()).metrics({"loss": torch.tensor([1e6]), "tokens": torch.tensor([2.0])})
    assert values == {"perplexity": math.inf, "loss": 5e5}


def test_a_run_lowers_the_perplexity(tiny) -> None:
    cfg = tiny("steps=30", "eval_every=10", "batch_size=16", "optim.lr=1e-2", "schedule.warmup_steps=2")
    assert experiment.run(cfg) == "completed"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["metric"], summary["goal"]) == ("perplexity", "min")
    assert summary["final"] < 0.5 * cfg.model.args.vocab_size
    made = stdlib.tokenizer(cfg.model.args.vocab_size, (PAD, *SENTINELS), 60)
    assert summary["tokenizer"] == pretrained_weights.tokenizer_fingerprint(made)
    assert np.isfinite(summary["test"])


@pytest.mark.parametrize("context", [1, 1000])
def test_windows_without_a_span_or_with_too_many_are_refused(tiny, context: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.options\.context={context} must be at least 2"):
        protocol.make(tiny(f"data.options.context={context}"))

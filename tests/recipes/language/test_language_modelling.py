"""Causal and masked language modelling against transformers' own loss, by hand, and through the loop."""

import math

import numpy as np
import pytest
import torch

from recipes import protocol
from recipes.data.text.tokens import PADDING, Tokens, TokenWindows
from recipes.errors import ConfigError
from recipes.language import ngram
from recipes.language.token_targets import HIDDEN, HiddenTokens, NextTokens
from recipes.runs import build, cli, experiment, record
from recipes.training import param_groups
from tests.recipes.conftest import TINY, TINY_BERT, TINY_GPT2, composed
from tests.recipes.test_resume import assert_same_result, run_killed_after_a_checkpoint

SMALL = ["++model.args.n_embd=16", "++model.args.n_layer=1", "++model.args.n_head=2"]
CORPUS = ["++data.options.max_files=60", "++data.options.vocab_size=300", "++data.options.context=32"]
GPT = ["task=gpt2_small", "++model.args.vocab_size=300", "++model.args.n_positions=32", *SMALL, *CORPUS]


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LION_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def gpt(tmp_path):
    """Compose a GPT-2 of one layer on a few files, in the place of the fixture's ViT."""
    base = [text for text in TINY if not text.startswith(("model.args", "task="))]
    return lambda *overrides: composed(*base, *GPT, f"output_dir={tmp_path / 'outputs'}", *overrides)


def windows(length: int, context: int, vocab_size: int = 11) -> TokenWindows:
    ids = np.random.default_rng(0).integers(1, vocab_size - 1, length).astype(np.uint16)
    return TokenWindows(Tokens(ids, 1, length // 2, "print", vocab_size, 0, vocab_size - 1), context)


def test_the_loss_is_transformers_own(gpt):
    made = protocol.make(gpt())
    torch.manual_seed(0)
    model = made.model().eval()
    tokens = torch.randint(0, 300, (3, 33))
    batch = {"input": tokens[:, :-1], "target": tokens[:, 1:]}
    theirs = model(input_ids=tokens[:, :-1], labels=tokens[:, :-1]).loss  # it shifts the labels by itself
    ours = {"input": tokens[:, :-1], "target": torch.cat([tokens[:, 1:-1], torch.full((3, 1), PADDING)], 1)}
    assert made.loss(model, ours)["loss"].item() == pytest.approx(theirs.item(), rel=1e-5)
    figures = made.evaluate(model, batch)
    assert made.metrics(figures)["loss"] == pytest.approx(made.loss(model, batch)["loss"].item(), rel=1e-5)
    assert made.metrics(figures)["perplexity"] == pytest.approx(math.exp(made.metrics(figures)["loss"]))


def test_padding_changes_nothing_and_the_last_window_counts(gpt):
    made = protocol.make(gpt())
    torch.manual_seed(0)
    model = made.model().eval()
    text = windows(32 + 7, 32, 300)
    examples = NextTokens(text)
    assert len(examples) == 2
    figures = made.evaluate(model, examples.__getitems__([(0, 0), (1, 1)]))
    assert figures["tokens"].tolist() == [32, 6]
    alone = torch.from_numpy(text.tokens.ids[32:].astype(np.int64))[None]
    with torch.no_grad():
        logits = model(input_ids=alone[:, :-1]).logits
    nll = torch.nn.functional.cross_entropy(logits[0], alone[0, 1:], reduction="sum")
    assert figures["nll"][1].item() == pytest.approx(nll.item(), rel=1e-4)


def test_what_counting_gives_is_what_the_tables_give_the_text(gpt):
    made = protocol.make(gpt())
    split = made.examples()["val"]
    torch.manual_seed(0)
    model, text = made.model().eval(), split.windows.tokens.ids
    with torch.no_grad():
        keys = [(0, index) for index in range(len(split))]
        parts = [made.evaluate(model, split.__getitems__(keys[at : at + 100])) for at in range(0, len(keys), 100)]
    values = made.metrics({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    training = made.examples()["train"].windows.tokens.ids
    for name, table in (("unigram", ngram.unigram(training, 300)), ("bigram", ngram.bigram(training, 300))):
        assert values[f"{name}_perplexity"] == pytest.approx(ngram.perplexity(table, text), rel=1e-4)


def test_perplexity_is_of_the_total_and_by_words_where_asked(gpt):
    made = protocol.make(gpt())
    figures = {"nll": torch.tensor([10.0, 2.0]), "tokens": torch.tensor([8, 2])}
    assert made.metrics(figures)["perplexity"] == pytest.approx(math.exp(1.2))
    by_word = made.metrics({**figures, "words": torch.tensor([3.0, 1.0])})
    assert by_word["perplexity"] == pytest.approx(math.exp(3.0))
    assert by_word["loss"] == pytest.approx(1.2)


def test_hidden_tokens():
    text = windows(40_000, 100)
    examples = HiddenTokens(text, seed=3)
    keys = [(number, number) for number in range(len(examples))]
    batch = examples.__getitems__(keys)
    tokens = text.__getitems__(keys)["tokens"]
    hidden = batch["target"] != PADDING
    assert torch.equal(batch["target"][hidden], tokens[hidden])
    assert hidden.float().mean().item() == pytest.approx(HIDDEN, abs=0.01)
    assert torch.equal(batch["input"][~hidden], tokens[~hidden])
    shown = batch["input"][hidden]
    assert (shown == text.tokens.mask).float().mean().item() == pytest.approx(0.8 + 0.1 / 11, abs=0.02)
    kept = shown == tokens[hidden]
    assert kept.float().mean().item() == pytest.approx(0.1 + 0.1 / 11, abs=0.02)
    again, elsewhere = examples.__getitems__(keys), examples.__getitems__([(p + 1, i) for p, i in keys])
    assert torch.equal(again["input"], batch["input"])
    assert not torch.equal(elsewhere["target"], batch["target"])
    fixed = HiddenTokens(text, seed=None)
    assert torch.equal(fixed.__getitems__(keys)["target"], fixed.__getitems__([(7, i) for _, i in keys])["target"])


@pytest.fixture
def bert(tmp_path):
    return lambda *overrides: composed(*TINY_BERT, f"output_dir={tmp_path / 'outputs'}", *overrides)


def test_the_loss_of_hidden_tokens_is_transformers_own_and_what_fills_a_window_is_not_seen(bert):
    made = protocol.make(bert("model.args.hidden_dropout_prob=0", "model.args.attention_probs_dropout_prob=0"))
    torch.manual_seed(0)
    model = made.model().eval()
    examples = HiddenTokens(windows(32 + 20, 32, 300), seed=None)
    batch = examples.__getitems__([(0, 0), (1, 1)])
    assert (batch["target"] == PADDING).sum() < 64 - 2, "both windows hide something"
    with torch.no_grad():
        theirs = model(input_ids=batch["input"], attention_mask=batch["attention_mask"], labels=batch["target"]).loss
        assert made.loss(model, batch)["loss"].item() == pytest.approx(theirs.item(), rel=1e-5)
        figures = made.evaluate(model, batch)
        for row, length in enumerate((32, 20)):
            alone = model(
                input_ids=batch["input"][row : row + 1, :length], labels=batch["target"][row : row + 1, :length]
            )
            mean = figures["nll"][row] / figures["tokens"][row]
            assert mean.item() == pytest.approx(alone.loss.item(), rel=1e-5)


def test_a_masked_model_learns_in_a_few_steps(bert):
    cfg = bert("optim=adamw", "optim.lr=1e-2", "log_every=1")
    assert experiment.run(cfg) == "completed"
    lines = record.read_metrics(record.folder_of(cfg) / "metrics.jsonl")
    losses = [line["value"] for line in lines if (line["split"], line["name"]) == ("train", "loss")]
    assert losses[0] == pytest.approx(math.log(300), abs=0.2)
    assert losses[-1] < losses[0] - 0.5
    names = {line["name"] for line in lines if line["split"] == "val"}
    assert names == {"perplexity", "loss", "unigram_perplexity"}  # pairs tell nothing of what is hidden


@pytest.mark.parametrize("task", ["gpt", "bert"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(task, request, tmp_path, monkeypatch):
    compose = request.getfixturevalue(task)
    dropout = {"gpt": "model.args.resid_pdrop=0.1", "bert": "model.args.hidden_dropout_prob=0.1"}[task]
    whole, cut = (compose("optim=lion", dropout, f"output_dir={tmp_path / name}") for name in ("whole", "cut"))
    assert experiment.run(whole) == "completed"
    run_killed_after_a_checkpoint(cut, monkeypatch)
    assert_same_result(record.folder_of(cut), record.folder_of(whole))


def test_a_run_records_perplexity_beside_models_that_count(gpt):
    whole = gpt("optim=lion", "precision=fp32")
    assert experiment.run(whole) == "completed"
    summary = record.read_summary(record.folder_of(whole))
    assert (summary["metric"], summary["goal"]) == ("perplexity", "min")
    lines = record.read_metrics(record.folder_of(whole) / "metrics.jsonl")
    names = {line["name"] for line in lines if line["split"] == "val"}
    assert {"perplexity", "loss", "unigram_perplexity", "bigram_perplexity"} <= names
    assert 1 < summary["final"] < 320


def test_tied_weights_start_another_run(gpt):
    first = gpt("steps=4", "eval_every=4")
    assert experiment.run(first) == "completed"
    folder = record.folder_of(first)
    second = gpt("steps=4", "eval_every=4", f"init_from={folder}", "optim.lr=0")
    assert experiment.run(second) == "completed"
    before, after = (record.read_summary(record.folder_of(cfg))["final"] for cfg in (first, second))
    assert after == pytest.approx(before, rel=1e-6)


def test_weights_of_a_run_that_read_other_tokens_are_refused(gpt):
    """Both vocabularies have 300 tokens, and the weights would fit."""
    first = gpt("steps=1", "eval_every=1")
    assert experiment.run(first) == "completed"
    start = f"init_from={record.folder_of(first)}"
    with pytest.raises(ConfigError, match=r"init_from=\S+ was trained with another tokenizer \(\w{16}\)") as error:
        experiment.run(gpt("steps=1", "eval_every=1", "++data.options.max_files=120", start))
    assert "\n" not in str(error.value)
    assert experiment.run(gpt("steps=1", "eval_every=1", "data.options.eval_documents=1", start)) == "completed"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["++data.options.context=64"], "context=64 is longer than the model's 32 positions"),
        (["++model.args.vocab_size=200"], "the tokenizer has 300 tokens, the model 200"),
        (["model.name=GPT2LMHeadModell"], "is not a language model of transformers; similar: GPT2LMHeadModel"),
        (["++model.args.n_heads=3"], "has no argument n_heads; similar: n_head"),
        (["++model.args.attn_implementation=eagr"], "does not take these model.args: .*eagr"),
        (["++data.options.max_files=1"], "leave none for"),
    ],
)
def test_mistakes_are_one_line(gpt, overrides, line):
    made = protocol.make(gpt(*overrides))
    with pytest.raises(ConfigError, match=line) as error:
        made.examples(), made.model()
    assert "\n" not in str(error.value)
    assert cli.user_message(error.value)


def test_a_model_that_counts_positions_by_padding_is_refused():
    with pytest.raises(ConfigError, match="RobertaForMaskedLM counts positions by its padding token"):
        protocol.make(composed("task=bert_small", "model.name=RobertaForMaskedLM")).model()


def test_a_causal_model_of_the_bert_kind_does_not_see_what_it_predicts():
    model = protocol.make(composed("task=bert_small", "model.name=BertLMHeadModel")).model().eval()
    tokens = torch.arange(8)[None]
    other = tokens.clone()
    other[0, -1] = 99
    first, second = (model(input_ids=given).logits[0] for given in (tokens, other))
    assert torch.equal(first[:-1], second[:-1])
    assert not torch.equal(first[-1], second[-1])


def test_every_matrix_decays_token_embeddings_too_and_position_embeddings_do_not(gpt):
    model = protocol.make(gpt()).model()
    decayed, _ = param_groups.parameter_groups(model, "weights", 0.1)
    expected = {n for n, p in model.named_parameters() if p.ndim >= 2 and n != "transformer.wpe.weight"}
    chosen = {id(p) for p in decayed["params"]}
    assert {name for name, p in model.named_parameters() if id(p) in chosen} == expected


@pytest.mark.parametrize("overrides", [["scale=embedded"], ["scale=paper"]])
def test_adafactors_second_moment_forgets_as_the_papers_language_runs_do(overrides):
    """Adam's family takes betas; Adafactor's beta2 rises to a cap of its own name."""
    made = {name: composed("task=gpt2_small", f"optim={name}", *overrides) for name in ("adamw", "adafactor")}
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2, 2))]}]
    adamw, adafactor = (build.optimizer_factory(made[name].optim)(groups) for name in ("adamw", "adafactor"))
    assert adafactor.param_groups[0]["beta2_cap"] == adamw.param_groups[0]["betas"][1] == 0.99


@pytest.mark.parametrize(
    ("task", "millions"),
    [("gpt2_small", 110), ("gpt2_medium", 336), ("gpt2_large", 731), ("bert_small", 110), ("bert_medium", 336)],
)
def test_the_papers_models_have_the_papers_size(task, millions):
    """Table 9 prints millions; BERT has segment embeddings and a head more than a causal model."""
    cfg = composed(f"task={task}", "scale=paper")
    with torch.device("meta"):
        model = protocol.make(cfg).model()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1)
    assert cfg.data.options.context * cfg.batch_size == 2**18


def test_a_causal_model_without_a_mask_of_its_own_has_the_bits_of_one_with() -> None:
    given = [text for text in TINY_GPT2 if text.startswith(("task=", "model.args", "data.options.context"))]
    losses = []
    for attention in ("~model.args.attn_implementation", "model.args.attn_implementation=sdpa"):
        the_recipe = protocol.make(composed(*given, attention))
        torch.manual_seed(0)
        model = the_recipe.model().train()
        if attention.endswith("sdpa"):
            model.config._attn_implementation = "sdpa"
        tokens = torch.randint(300, (4, 33), generator=torch.Generator().manual_seed(1))
        loss = the_recipe.loss(model, {"input": tokens[:, :-1], "target": tokens[:, 1:].contiguous()})["loss"]
        loss.backward()
        losses.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        losses[-1].append(torch.tensor(float(model.config._attn_implementation == "sdpa")))
    (*without, is_sdpa), (*masked, other_is_sdpa) = losses
    assert (is_sdpa, other_is_sdpa) == (0, 1)
    assert all(torch.equal(one, other) for one, other in zip(without, masked, strict=True))

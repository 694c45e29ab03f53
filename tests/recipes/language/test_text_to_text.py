"""Fine-tuning T5: the model, its loss and its answers."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from tokenizers import Tokenizer, models, pre_tokenizers

from recipes import protocol
from recipes.data.text import docpairs
from recipes.data.text.tasks.text_pairs import TextPairs, token_pairs
from recipes.data.text.tasks.text_tasks import TaskExamples, TextTask
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.dry_run import cost
from recipes.runs.record import folder_of, read_metrics, read_summary
from recipes.training import checkpoint, pretrained_weights
from tests.processes import end, start, train
from tests.recipes.conftest import composed
from tests.recipes.test_resume import assert_same_result, run_killed_after_a_checkpoint

# Transformers' names of T5 v1.1 base, large and xxl -> millions of parameters as published with the checkpoints.
PUBLISHED = {"t5_base": 247.6, "t5_large": 783.2, "t5_11b": 11135.3}
TINY = [
    "task=t5_glue",
    "tracker=none",
    "init_from=null",
    "optim=adamw",
    "steps=6",
    "eval_every=3",
    "checkpoint_every=2",
    "log_every=2",
    "batch_size=8",
    "model.args.d_model=16",
    "model.args.d_kv=4",
    "model.args.d_ff=16",
    "model.args.num_layers=1",
    "model.args.num_decoder_layers=1",
    "model.args.dropout_rate=0.1",
]
SHADES = TextTask("shade", ("dark", "dark red", "light"), ("f1", "accuracy"))
COUNTS = TextTask("count", ("0.0", "0.5", "1.0"), ("pearson", "spearman"), graded=True)


def tokenizer() -> Tokenizer:
    words = ["</s>", "<pad>", "dark", "red", "light", "0.0", "0.5", "1.0", *"abcdefgh"]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="h"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def parts(seed: int, count: int) -> list[TaskExamples]:
    rng = np.random.default_rng(seed)
    texts = tuple(" ".join(rng.choice(list("abcdefg"), rng.integers(1, 9))) for _ in range(count))
    shades = TaskExamples(SHADES, texts, rng.integers(0, 3, count).astype(np.float64))
    return [shades, TaskExamples(COUNTS, texts[::-1], rng.random(count))]


def load(task: Sequence[str] = (), length: int = 32) -> dict[str, TextPairs]:
    """In the place of docpairs: two tasks of random words, whatever is asked for."""
    splits = {"train": parts(0, 40), "val": parts(1, 11), "test": parts(2, 7)}
    return token_pairs(splits, tokenizer(), 32)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(docpairs, "load", load)
    return lambda *more: composed(*TINY, f"output_dir={tmp_path / 'outputs'}", *more)


def ready(cfg: DictConfig):
    """A recipe that knows its data, its model, and a batch of both tasks."""
    the_recipe = protocol.make(cfg)
    examples = the_recipe.examples()["val"]
    torch.manual_seed(0)
    batch = examples.__getitems__([(0, index) for index in (0, 5, 10, 11, 17, 21)])
    return the_recipe, the_recipe.model().eval(), batch


def test_the_output_layer_is_its_own_and_logits_begin_near_one(tiny) -> None:
    the_recipe, model, batch = ready(tiny("model.args.d_model=64"))
    assert model.lm_head.weight is not model.shared.weight
    assert model.encoder.embed_tokens is model.decoder.embed_tokens is model.shared
    logits = model(input_ids=batch["input"], labels=batch["target"]).logits
    assert 0.5 < logits.std().item() < 2
    assert abs(the_recipe.loss(model, batch)["loss"].item() - math.log(2048)) < 1


def test_the_loss_is_transformers_own(tiny) -> None:
    the_recipe, model, batch = ready(tiny())
    labels = batch["target"].masked_fill(batch["target"] == 1, -100)
    expected = model(input_ids=batch["input"], attention_mask=batch["input"] != 1, labels=labels).loss
    assert torch.allclose(the_recipe.loss(model, batch)["loss"], expected)


def test_accumulated_micro_batches_make_the_same_step(tiny, tmp_path: Path) -> None:
    """Their label words have different numbers of tokens."""
    curves = []
    for parts in (1, 4):
        place = f"output_dir={tmp_path / str(parts)}"  # micro-batches are no choice: both runs have one id
        cfg = tiny("model.args.dropout_rate=0", "log_every=1", f"accumulate={parts}", place)
        assert experiment.run(cfg) == "completed"
        lines = read_metrics(folder_of(cfg) / "metrics.jsonl")
        curves.append([line["value"] for line in lines if line["split"] == "train"])
    assert len(curves[0]) == 12  # losses and norms of the gradient
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)


def test_padding_never_counts(tiny) -> None:
    the_recipe, model, batch = ready(tiny())
    wider = {
        name: torch.nn.functional.pad(batch[name], (0, 5), value=1) if name in ("input", "target") else batch[name]
        for name in batch
    }
    assert torch.allclose(the_recipe.loss(model, wider)["loss"], the_recipe.loss(model, batch)["loss"], atol=1e-6)
    with torch.no_grad():
        figures, others = the_recipe.evaluate(model, batch), the_recipe.evaluate(model, wider)
    for name, value in figures.items():
        assert torch.allclose(value, others[name], atol=1e-5), name


def test_answers_are_what_greedy_decoding_among_the_words_gives(tiny) -> None:
    the_recipe, model, batch = ready(tiny())
    torch.nn.init.normal_(model.lm_head.weight, std=2.0)  # opinions
    with torch.no_grad():
        answers = the_recipe.evaluate(model, batch)["answer"].tolist()
        for row, task in enumerate(batch["task"].tolist()):
            open_words = [tuple(word.tolist()) for word in the_recipe.examples()["val"].answers[task]]
            all_words, said = list(open_words), [1]  # the decoder starts with padding
            while len(open_words) > 1 or tuple(said[1:]) not in open_words:
                source = batch["input"][row : row + 1]
                logits = model(
                    input_ids=source, attention_mask=source != 1, decoder_input_ids=torch.tensor([said])
                ).logits[0, -1]
                allowed = sorted({word[len(said) - 1] for word in open_words})
                said.append(max(allowed, key=lambda token: logits[token].item()))
                open_words = [word for word in open_words if word[: len(said) - 1] == tuple(said[1:])]
            values = (SHADES, COUNTS)[task].values()
            assert answers[row] == values[all_words.index(tuple(said[1:]))]


def test_a_model_that_has_diverged_answers_nothing(tiny) -> None:
    the_recipe, model, batch = ready(tiny())
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    with torch.no_grad():
        figures = the_recipe.evaluate(model, batch)
    assert figures["answer"].isnan().all()
    values = the_recipe.metrics(figures)
    assert len(values) == 6
    assert all(map(math.isnan, values.values())), values


def test_a_run_that_diverges_between_its_looks_counts_as_diverged(tiny) -> None:
    cfg = tiny("optim=sgd", "optim.lr=1e10", "clip_norm=null", "eval_every=1")
    assert experiment.run(cfg) == "diverged"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["status"], summary["cause"]) == ("diverged", "gradient norm is nan")


def test_metrics_are_those_of_each_task_and_their_average(tiny) -> None:
    the_recipe, _, _ = ready(tiny())
    figures = {
        "task": torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        "label": torch.tensor([1.0, 0.0, 1.0, 0.0, 0.1, 0.4, 0.9]),
        "answer": torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.5, 1.0]),
        "loss": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    }
    values = the_recipe.metrics(figures)
    pearson = float(np.corrcoef([0.1, 0.4, 0.9], [0.0, 0.5, 1.0])[0, 1])
    expected = {"shade_f1": 0.5, "shade_accuracy": 0.5, "count_pearson": pearson, "count_spearman": 1.0}
    assert values == pytest.approx({"average": (2 + pearson) / 4, **expected, "loss": 4.0})


def test_a_run_measures_every_task_and_goes_on_to_the_same_bits(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny(f"output_dir={tmp_path / 'whole'}")
    assert experiment.run(whole) == "completed"
    names = {line["name"] for line in read_metrics(folder_of(whole) / "metrics.jsonl") if line["split"] == "val"}
    assert names == {"average", "shade_f1", "shade_accuracy", "count_pearson", "count_spearman", "loss"}
    summary = read_summary(folder_of(whole))
    assert summary is not None
    assert (summary["metric"], summary["goal"]) == ("average", "max")
    assert summary["best"] >= summary["final"]
    assert summary["tokenizer"] == pretrained_weights.tokenizer_fingerprint(tokenizer())
    cut = tiny(f"output_dir={tmp_path / 'cut'}")
    run_killed_after_a_checkpoint(cut, monkeypatch)
    assert_same_result(folder_of(cut), folder_of(whole))


def test_another_run_s_weights_and_a_published_model_s_are_taken(tiny, tmp_path: Path) -> None:
    first = tiny("steps=2", "eval_every=2")
    experiment.run(first)
    start = tiny(f"init_from={folder_of(first)}")
    the_recipe = protocol.make(start)
    model = the_recipe.model()
    the_recipe.initialise(model, checkpoint.load_weights(start.init_from))
    weights = checkpoint.load_weights(folder_of(first))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    # What transformers writes names the embedding once, and reads back with an output layer of its own.
    model.save_pretrained(tmp_path / "saved")
    again = the_recipe.model()
    the_recipe.initialise(again, checkpoint.load_weights(tmp_path / "saved"))
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    assert experiment.run(tiny(f"init_from={tmp_path / 'saved'}", "steps=2")) == "completed"


def test_another_model_s_weights_are_refused_in_one_line(tiny) -> None:
    other = protocol.make(tiny("model.args.d_ff=8")).model().state_dict()
    the_recipe = protocol.make(tiny("init_from=elsewhere"))
    with pytest.raises(
        ConfigError, match=r"init_from=elsewhere is of another model than t5_v1_1: \d+ tensors"
    ) as error:
        the_recipe.initialise(the_recipe.model(), other)
    assert "\n" not in str(error.value)


def test_a_model_that_does_not_fit_the_tokenizer_is_refused(tiny) -> None:
    for override in ("model.args.vocab_size=12", "model.args.pad_token_id=3"):
        with pytest.raises(ConfigError, match="16 tokens and pads with token 1"):
            protocol.make(tiny(override)).examples()


@pytest.mark.parametrize("argument", ["feed_forward_proj=gated-gelu-more", "d_modle=16", "num_heads=two"])
def test_arguments_that_the_model_does_not_take_are_refused(tiny, argument: str) -> None:
    name = argument.split("=")[0]
    with pytest.raises(ConfigError, match=rf"t5_v1_1 does not take these model\.args: .*{name}") as error:
        protocol.make(tiny(f"++model.args.{argument}"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("task", "millions"), PUBLISHED.items())
def test_paper_models_have_the_published_parameter_counts(task: str, millions: float) -> None:
    with torch.device("meta"):
        model = protocol.make(composed(f"task={task}", "scale=paper")).model()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("task", PUBLISHED)
def test_paper_settings_are_those_of_table_12(task: str) -> None:
    for optim, lr, betas in (("adamw", 3e-5, [0.9, 0.99]), ("lion", 3e-6, [0.95, 0.98])):
        cfg = composed(f"task={task}", f"optim={optim}", "scale=paper")
        assert (cfg.optim.lr, list(cfg.optim.betas), cfg.optim.weight_decay) == (lr, betas, 0.0)
        assert (cfg.steps, cfg.batch_size, cfg.schedule.name) == (500_000, 128, "constant")
        assert cfg.model.args.dropout_rate == 0.1
        assert cfg.tuned.source == "Lion paper, Table 12, T5 on GLUE"


def test_a_dry_run_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    cost.run(composed("task=t5_glue", "optim=lion", "init_from=null"))
    assert "parameters" in capsys.readouterr().out


def glue(folder: Path) -> list[str]:
    """Overrides for a tiny model on a task of GLUE in a local folder, its label words of different lengths."""
    place = folder / "glue" / "RTE"
    place.mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{n}\ta b {n}\tc d\t{'entailment' if n % 2 else 'not_entailment'}" for n in range(12)]
        (place / f"{split}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *rows]))
    words = ["<pad>", "</s>", "?", "a", "entailment", "not", "_"]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "?"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.save(str(folder / "tokenizer.json"))
    small = ("d_model=16", "d_kv=4", "d_ff=16", "num_layers=1", "num_heads=2", "vocab_size=8")
    return [
        "task=t5_base",
        "scale=paper",
        "tracker=none",
        "init_from=null",
        f"data.path={folder / 'glue'}",
        "data.options.task=rte",
        f"data.options.tokenizer={folder / 'tokenizer.json'}",
        "data.workers=0",
        "steps=2",
        "batch_size=4",
        *(f"model.args.{argument}" for argument in small),
    ]


def test_glue_in_a_local_folder_trains(tmp_path: Path) -> None:
    """The paper's data and recipe at a size that a test can run."""
    cfg = composed(*glue(tmp_path), f"output_dir={tmp_path}")
    assert experiment.run(cfg) == "completed"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert summary["final"] in {count / 12 for count in range(13)}  # an accuracy over the 12 rows


def test_weights_beside_another_tokenizer_are_refused(tmp_path: Path) -> None:
    """As transformers saves them: a folder with the model's own tokenizer.json."""
    own = glue(tmp_path)
    cfg = composed(*own, f"output_dir={tmp_path}")
    assert experiment.run(cfg) == "completed"
    weights = next(folder_of(cfg).glob("checkpoint/*/model.safetensors"))
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "model.safetensors").write_bytes(weights.read_bytes())
    start = [each for each in own if not each.startswith("init_from")] + [
        f"output_dir={tmp_path}",
        f"init_from={saved}",
    ]
    (saved / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    assert experiment.run(composed(*start)) == "completed"
    swapped = (tmp_path / "tokenizer.json").read_text().replace('"a"', '"z"')
    (saved / "tokenizer.json").write_text(swapped)
    with pytest.raises(
        ConfigError, match=r"has 1 of the tokens of data=glue under other numbers or not at all, such as 'a'"
    ):
        experiment.run(composed(*start, "seed=1"))
    (tmp_path / "tokenizer.json").write_text(swapped)  # the file inside a run knows its run
    with pytest.raises(ConfigError, match="was trained with another tokenizer"):
        experiment.run(composed(*start[:-1], f"init_from={weights}"))


def test_shards_on_two_processes_train_and_answer_as_one_process(tmp_path: Path) -> None:
    overrides = [*glue(tmp_path), "precision=fp32", "model.args.dropout_rate=0", "log_every=1", "eval_every=1"]
    one = composed(*overrides, f"output_dir={tmp_path / 'one'}")
    assert experiment.run(one) == "completed"
    said = tmp_path / "said"
    assert end(start(train, [[*overrides, "shard=true", f"output_dir={tmp_path / 'two'}"]], said=said), said) == [0, 0]
    (folder,) = (tmp_path / "two").glob("*/*/*")

    def measured(place: Path) -> dict[tuple[int, str, str], float]:
        lines = read_metrics(place / "metrics.jsonl")
        return {(li["step"], li["split"], li["name"]): li["value"] for li in lines if li["split"] in ("train", "val")}

    figures, expected = measured(folder), measured(folder_of(one))
    assert ("val", "rte_accuracy") in {key[1:] for key in figures}
    assert figures == pytest.approx(expected, rel=1e-5)

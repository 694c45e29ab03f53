"""One-shot figures: lm-eval's on a task whose data are local, held against likelihoods worked out by hand."""

import json
import math
import sys

import pytest
import torch

from recipes.runs import experiment, record
from scripts import one_shot
from tests.recipes.conftest import ROOT, composed

GPT = "task=gpt2_small steps=3 eval_every=3 batch_size=4 tracker=none schedule.warmup_steps=0"
GPT += " ++model.args.vocab_size=300 ++model.args.n_positions=64 ++model.args.n_embd=16 ++model.args.n_layer=1"
GPT += " ++model.args.n_head=2 ++data.options.max_files=60 ++data.options.vocab_size=300 ++data.options.context=64"
CHOICES = [" def", " class", " import"]
QUESTIONS = [
    {"question": f"{word} comes after", "choices": CHOICES, "label": number % 3}
    for number, word in enumerate(["self", "return", "None", "else", "while", "for", "try", "with", "yield"])
]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{train: {folder}/train.jsonl, test: {folder}/test.jsonl}}
training_split: train
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
fewshot_config: {{sampler: first_n}}
metric_list:
  - metric: acc
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small GPT-2's run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LION_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        cfg = composed(*GPT.split(), f"output_dir={tmp_path_factory.mktemp('out')}")
        assert experiment.run(cfg) == "completed"
        yield record.folder_of(cfg)


@pytest.fixture
def tasks(tmp_path):
    """A folder with one task of three choices."""
    for split, rows in (("train", QUESTIONS[:1]), ("test", QUESTIONS[1:])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "after.yaml").write_text(TASK.format(name="after", folder=tmp_path))
    return tmp_path


def by_hand(model, tokenizer):
    """The share of questions whose likeliest choice is the right one, after one solved question."""
    encode = tokenizer.backend_tokenizer.encode
    solved = QUESTIONS[0]
    shown = solved["question"] + solved["choices"][solved["label"]] + "\n\n"
    right = 0
    for row in QUESTIONS[1:]:
        scores = []
        for choice in row["choices"]:
            before, whole = (encode(shown + row["question"] + end).ids for end in ("", choice))
            with torch.no_grad():
                logs = model(input_ids=torch.tensor([whole])).logits[0].double().log_softmax(-1)
            scores.append(sum(logs[at - 1, whole[at]].item() for at in range(len(before), len(whole))))
        right += max(range(3), key=scores.__getitem__) == row["label"]
    return right / len(QUESTIONS[1:])


def test_the_figure_is_that_of_likelihoods_worked_out_by_hand(run, tasks, capsys):
    pytest.importorskip("lm_eval")
    assert one_shot.main([str(run), "--tasks", "after", "--include", str(tasks), "--batch-size", "3"]) == 0
    _, model, tokenizer = one_shot.load(run)
    expected = by_hand(model, tokenizer)
    written = json.loads((run / "one_shot.json").read_text())
    assert written["tasks"]["after"]["acc"] == pytest.approx(expected)
    assert f"{100 * expected:.1f}" in capsys.readouterr().out


def test_a_run_gives_its_model_and_tokenizer(run):
    cfg, model, tokenizer = one_shot.load(run)
    text = "def add(a, b):\n    return a + b"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.vocab_size == cfg.model.args.vocab_size
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    summary = record.read_summary(run)
    split = {"val": summary["final"], "test": summary["test"]}
    from recipes import protocol

    made = protocol.make(cfg)
    examples = made.examples()
    for name, value in split.items():  # the weights are the run's last
        batch = examples[name].__getitems__([(i, i) for i in range(len(examples[name]))])
        with torch.no_grad():
            assert made.metrics(made.evaluate(model, batch))["perplexity"] == pytest.approx(value, rel=0.02)


def test_what_is_printed_stands_beside_the_papers():
    results = {"piqa": {"acc": 0.5, "acc_norm": 0.25}, "webqs": {"exact_match": 0.125}, "own": {"acc": 1.0}}
    lines = one_shot.table(results, "llm_7b").splitlines()
    assert lines[1].split() == ["piqa", "acc_norm", "25.0", "75.5", "74.5"]
    assert lines[2].split() == ["webqs", "exact_match", "12.5", "12.1", "13.3"]
    assert lines[3].split() == ["own", "acc", "100.0"]
    assert "average of 1 NLU: 25.0" in lines
    assert "adafactor" not in one_shot.table(results, "gpt2_small")


def test_the_papers_averages_follow_from_its_tasks():
    """Table 11's tasks give Table 5's averages, printed with one digit."""
    averages = (ROOT / "reports/paper/llm_one_shot.csv").read_text().splitlines()[2:]
    for line in averages:
        billions, optim, nlg, nlu = line.split(",")
        column = f"{math.floor(float(billions))}b_{optim.lower()}"
        for group, value in (("NLG", nlg), ("NLU", nlu)):
            figures = [float(row[column]) for row in one_shot.paper() if row["group"] == group]
            assert sum(figures) / len(figures) == pytest.approx(float(value), abs=0.08)


def test_lm_eval_knows_the_papers_tasks():
    pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    assert {row["lm_eval"] for row in one_shot.paper() if row["lm_eval"]} <= set(TaskManager().all_tasks)


def said(capsys, *arguments):
    assert one_shot.main([str(value) for value in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_mistakes_are_one_line(run, tasks, tmp_path, capsys, monkeypatch):
    assert "is not a run's folder" in said(capsys, tmp_path)
    assert "is not a folder" in said(capsys, run, "--include", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert "pip install '.[lm-eval]'" in said(capsys, run, "--tasks", "after", "--include", tasks)


def test_an_unknown_task_is_named(run, capsys):
    pytest.importorskip("lm_eval")
    assert "lm-eval has no task piqqa" in said(capsys, run, "--tasks", "piqqa")


def test_data_that_cannot_be_had_are_one_line(run, tasks, capsys):
    pytest.importorskip("lm_eval")
    (tasks / "test.jsonl").unlink()
    assert "lm-eval cannot get the data of its tasks" in said(capsys, run, "--tasks", "after", "--include", tasks)


@pytest.mark.parametrize("content", ["{", "[1, 2]", "", "task: {name: x}", "a: ${b}", "\x00"])
def test_a_bad_config_is_one_line(tmp_path, capsys, content):
    (tmp_path / "config.yaml").write_text(content)
    assert one_shot.main([str(tmp_path), "--tasks", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "config.yaml") in line

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from recipes.data.text.tasks.text_pairs import TextPairs, token_pairs
from recipes.data.text.tasks.text_tasks import TaskExamples, TextTask, selected_tasks
from recipes.errors import ConfigError

WORDS = ["<pad>", "</s>", "[UNK]", "a", "b", "c", "no", "yes", "0", "1", "2", "maybe"]
TASK = TextTask("answer", ("no", "yes", "maybe no"), ("accuracy",))
GRADED = TextTask("grade", ("0", "1", "2"), ("pearson",), graded=True)


def tokenizer(words: list[str] = WORDS) -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def parts() -> list[TaskExamples]:
    return [
        TaskExamples(TASK, ("a b c", "a", "b b"), np.array([2.0, 0.0, 1.0])),
        TaskExamples(GRADED, ("c c c c c c c c", "c"), np.array([0.4, 1.6])),
    ]


def test_a_batch_is_padded_and_closed() -> None:
    pairs = TextPairs(parts(), tokenizer(), 8)
    batch = pairs.__getitems__([(0, 0), (1, 3), (2, 1)])
    cut = [5, 5, 5, 5, 5, 5, 5, 1]  # of eight words, its end included
    assert batch["input"].tolist() == [[3, 4, 5, 1, 0, 0, 0, 0], cut, [3, 1, 0, 0, 0, 0, 0, 0]]
    assert batch["target"].tolist() == [[11, 6, 1], [8, 1, 0], [6, 1, 0]]
    assert batch["task"].tolist() == [0, 1, 0]
    assert torch.allclose(batch["label"], torch.tensor([2.0, 0.4, 0.0]))
    assert (pairs.pad, pairs.end, len(pairs)) == (0, 1, 5)


def test_sets_to_evaluate_on_come_by_length_within_their_task() -> None:
    made = token_pairs({"train": parts(), "val": parts()}, tokenizer(), 99)
    assert [len(row) for row in made["train"].inputs] == [4, 2, 3, 9, 2]
    assert [len(row) for row in made["val"].inputs] == [2, 3, 4, 2, 9]
    assert made["val"].label.tolist() == [0.0, 1.0, 2.0, 1.6, 0.4]
    assert made["val"].task.tolist() == [0, 0, 0, 1, 1]


def test_fingerprints_follow_texts_labels_length_and_tokenizer() -> None:
    other = parts()[:1]
    prints = {
        TextPairs(parts(), tokenizer(), 8).fingerprint(),
        TextPairs(parts(), tokenizer(), 9).fingerprint(),
        TextPairs(other, tokenizer(), 8).fingerprint(),
        TextPairs(parts(), tokenizer([*WORDS, "more"]), 8).fingerprint(),
    }
    assert len(prints) == 4
    assert TextPairs(parts(), tokenizer(), 8).fingerprint() in prints


def test_a_tokenizer_without_padding_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a padding token"):
        TextPairs(parts(), tokenizer(WORDS[1:]), 8)


def test_answers_that_a_tokenizer_does_not_tell_apart_are_refused() -> None:
    """It would be right half of the time, whatever the model says."""
    without = tokenizer([word for word in WORDS if word not in ("no", "yes")])
    with pytest.raises(
        ConfigError, match=r"same tokens \(\[UNK\] </s>\) of answer's answers no and yes; choose"
    ) as error:
        TextPairs(parts(), without, 8)
    assert "\n" not in str(error.value)


def test_answers_are_never_cut_and_inputs_not_to_nothing() -> None:
    words = ("no", " ".join(["maybe"] * 9), " ".join(["maybe"] * 10))
    task = TextTask("answer", words, ("accuracy",))
    pairs = TextPairs([TaskExamples(task, ("a b",), np.array([1.0]))], tokenizer(), 8)
    assert [len(answer) for answer in pairs.answers[0]] == [2, 10, 11]
    with pytest.raises(ConfigError, match=r"data\.options\.length=7 must be at least 8 tokens"):
        TextPairs(parts(), tokenizer(), 7)


def test_labels_that_a_task_does_not_have_are_refused() -> None:
    for task, label in ((TASK, 3.0), (TASK, 0.5), (GRADED, 2.5), (GRADED, float("nan"))):
        with pytest.raises(ValueError, match="is none of"):
            TaskExamples(task, ("a",), np.array([label]))
    with pytest.raises(ValueError, match="2 texts"):
        TaskExamples(TASK, ("a", "b"), np.array([1.0]))


def test_several_tasks_are_chosen_in_the_order_given() -> None:
    assert selected_tasks("all", {"x": 1, "y": 2}) == ("x", "y")
    assert selected_tasks("y", ["x", "y"]) == ("y",)
    assert selected_tasks(["y", "x"], ["x", "y"]) == ("y", "x")
    with pytest.raises(ConfigError, match="known: all, x, y"):
        selected_tasks(["x", "z"], ["x", "y"])
    with pytest.raises(ConfigError, match="known: all, x, y"):
        selected_tasks([], ["x", "y"])

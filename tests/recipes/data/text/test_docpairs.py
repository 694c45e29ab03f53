import ast
import re
from collections import Counter

import pytest

from recipes.data.text import docpairs, stdlib
from recipes.data.text.docpairs import documented_functions, first_sentence
from recipes.data.text.tasks.text_tasks import TaskExamples
from recipes.errors import ConfigError

MODULE = '''
@decorated
def grow(size):
    """Return twice the size. Nothing
    else."""
    # a remark
    if size > 1:
        return (size
                * 2)

class Holder:
    def close(self):
        """Release it

        and more
        """
        for part in self.parts:
            def inner():
                """Inner one!"""
                return part if part else None
            with inner():
                return None

    def bare(self):
        return 1

def only_documented():
    """It does nothing."""
'''


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, TaskExamples]]:
    return {split: {part.task.name: part for part in parts} for split, parts in docpairs.examples().items()}


@pytest.fixture(scope="module")
def functions() -> dict[str, list[docpairs.Function]]:
    return docpairs.functions()


def test_functions_are_read_as_a_person_reads_them() -> None:
    result = {function.sentence: function for function in documented_functions("a.py", MODULE)}
    assert set(result) == {"Return twice the size.", "Release it", "Inner one!"}
    grow, close, inner = result["Return twice the size."], result["Release it"], result["Inner one!"]
    assert grow.code == "def grow(size): if size > 1: return size * 2"
    assert (grow.returns, grow.branches) == (True, 1)
    assert (close.returns, close.branches) == (False, 2)  # `for` and `with`; what the inner one does is its own
    assert (inner.returns, inner.branches) == (True, 1)


def test_sentences_end_at_a_stop_or_a_blank_line() -> None:
    assert first_sentence("One e.g.this. Two.") == "One e.g.this."
    assert first_sentence("\n  No stop\n  here\n\n  Two. ") == "No stop here"


def test_files_that_are_wrong_on_purpose_are_passed_over() -> None:
    assert not list(documented_functions("bad.py", "def f(:\n"))


def test_no_function_lies_in_two_splits(functions: dict[str, list[docpairs.Function]]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for split, members in functions.items():
        assert members
        for function in members:
            assert stdlib.split_of(function.file) == split
            assert seen.setdefault((function.code, function.sentence), split) == split


def test_labels_agree_with_the_code_that_is_there(functions: dict[str, list[docpairs.Function]]) -> None:
    for function in functions["test"]:
        words = re.findall(r"\w+", function.code)
        assert not function.returns or "return" in words
        assert function.branches == 0 or {"if", "for", "while", "try", "with"} & set(words)


def test_sizes_and_balance(made: dict[str, dict[str, TaskExamples]]) -> None:
    for split in ("train", "val", "test"):
        counts = Counter(made[split]["match"].labels.tolist())
        assert counts[0.0] == counts[1.0]
        share = made[split]["returns"].labels.mean()
        assert 0.4 < share < 0.75
        assert made[split]["branches"].labels.std() > 1
    assert len(made["train"]["match"]) > 10_000
    assert len(made["test"]["match"]) > 900
    assert len(made["test"]["returns"]) == len(made["test"]["branches"]) > 400
    assert max(map(len, made["val"].values())) <= docpairs.VAL_EXAMPLES


def test_gaps_are_where_their_words_were(
    made: dict[str, dict[str, TaskExamples]], functions: dict[str, list[docpairs.Function]]
) -> None:
    codes = [f" {function.code} " for function in functions["test"]]
    part = made["test"]["fill"]
    assert len(part) > 900
    assert len(set(Counter(part.labels.tolist()).values())) == 1  # balanced
    for text, word in zip(part.texts[::20], part.words()[::20], strict=True):
        filled = text.removeprefix("fill: ").replace(docpairs.GAP, docpairs.WORDS[word])
        assert any(f" {filled} " in code for code in codes)
        assert text.count(docpairs.GAP) == 1


def test_neither_sentence_nor_code_alone_tells_whether_they_match(made: dict[str, dict[str, TaskExamples]]) -> None:
    part = made["test"]["match"]
    sentences: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for text, label in zip(part.texts, part.labels, strict=True):
        sentence, code = text.removeprefix(f"match: {docpairs.GAP} documentation: ").split(" code: ", 1)
        sign = 1 if label else -1
        sentences[sentence] += sign
        codes[code] += sign
    assert set(sentences.values()) == {0}
    assert set(codes.values()) == {0}


def test_right_pairs_are_real(
    made: dict[str, dict[str, TaskExamples]], functions: dict[str, list[docpairs.Function]]
) -> None:
    real = {f"match: {docpairs.GAP} documentation: {f.sentence} code: {f.code}" for f in functions["test"]}
    part = made["test"]["match"]
    for text, label in zip(part.texts, part.labels, strict=True):
        assert (text in real) == bool(label)


def test_code_still_parses_where_it_is_one_line() -> None:
    (function,) = documented_functions("a.py", 'def f(x):\n    "Double it."\n    return 2 * x\n')
    assert ast.dump(ast.parse(function.code)) == ast.dump(ast.parse("def f(x): return 2 * x"))


def test_the_same_pairs_every_time(made: dict[str, dict[str, TaskExamples]]) -> None:
    again = docpairs.examples("match")
    assert again["train"][0].fingerprint() == made["train"]["match"].fingerprint()
    assert made["train"]["match"].fingerprint() != made["val"]["match"].fingerprint()


def test_tasks_are_chosen_by_name() -> None:
    assert [part.task.name for part in docpairs.examples(["branches", "returns"])["val"]] == ["branches", "returns"]
    with pytest.raises(ConfigError, match=r"data\.options\.task=matches is unknown; known: all, fill, returns"):
        docpairs.examples("matches")

"""Fine-tuning data in GLUE's format from the functions of Python's standard library: real text without a download.

    fill       which of seven words is missing from this code?                               accuracy, as SST-2
    returns    does a function return something, judged by the sentence that documents it?   Matthews, as CoLA
    branches   how many branches, 0 to 5, has this code?                                     correlations, as STS-B
    match      does this sentence belong to this code?                                       F1, accuracy, as MRPC

T5's first sentinel in the input marks the place of the answer: the form of pre-training, which a briefly pre-trained
model needs (docs/t5.md). GLUE itself has the form that T5 published. Files are split by the rule of
`recipes.data.text.stdlib`, so pre-training on that has not seen the test files. The content, and so the fingerprint,
differs between versions of Python. docs/t5.md has the sizes.
"""

import ast
import hashlib
import json
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from recipes.data import cache
from recipes.data.text import stdlib
from recipes.data.text.spans import PAD, SENTINELS
from recipes.data.text.tasks.text_pairs import TextPairs, token_pairs
from recipes.data.text.tasks.text_tasks import TaskExamples, TextTask, selected_tasks
from recipes.files import write_text

HOLDS = "texts with answers"  # matched with `learns_from` of recipes

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.With, ast.AsyncWith)
FORM = 2  # of the result of `functions`: to be raised when that changes
SPLITS = ("train", "val", "test")
VAL_EXAMPLES = 1000  # of each task: they are evaluated many times
GAP = SENTINELS[0]
WORDS = ("if", "for", "return", "not", "in", "is", "=")  # that `fill` hides
AROUND = 6  # words on each side of a gap
PLACES = 3


def answers(*words: str) -> tuple[str, ...]:
    """Label words in T5's form: each after the sentinel that it replaces."""
    return tuple(f"{GAP} {word}" for word in words)


TASKS = {
    "fill": TextTask("fill", answers(*WORDS), ("accuracy",)),
    "returns": TextTask("returns", answers("no", "yes"), ("matthews",)),
    "branches": TextTask("branches", answers(*"012345"), ("pearson", "spearman"), graded=True),
    "match": TextTask("match", answers("no", "yes"), ("f1", "accuracy")),
}


@dataclass(frozen=True)
class Function:
    """A documented function or method of the library.

    Attributes:
        file: relative to the library's folder.
        code: without documentation and decorators, white space collapsed.
        sentence: the first of its documentation.
        returns: something other than None, somewhere.
        branches: its `if`, `for`, `while`, `try`, `with` and conditional expressions, those of inner functions not.
    """

    file: str
    code: str
    sentence: str
    returns: bool
    branches: int


def load(
    *, task: str | Sequence[str] = "all", length: int = 128, vocab_size: int = stdlib.VOCABULARY
) -> dict[str, TextPairs]:
    """`train`, `val` and `test` as tokens of the standard library's tokenizer.

    Args:
        task: one of TASKS, several, or `all`.
        length: maximum number of tokens of an input.
        vocab_size: of the tokenizer.

    Raises:
        ConfigError: the task is unknown.
    """
    return token_pairs(examples(task), stdlib.tokenizer(vocab_size, (PAD, *SENTINELS)), length)


def examples(task: str | Sequence[str] = "all") -> dict[str, list[TaskExamples]]:
    """The examples of these tasks as text; the validation sets are cut to the first VAL_EXAMPLES.

    Raises:
        ConfigError: a task is unknown.
    """
    names = selected_tasks(task, TASKS)
    builders = {"fill": fill, "returns": returns, "branches": branches, "match": match}
    splits = {}
    for split, split_functions in functions().items():
        splits[split] = [builders[name](split_functions) for name in names]
    splits["val"] = [part.subset(range(min(len(part), VAL_EXAMPLES))) for part in splits["val"]]
    return splits


def functions() -> dict[str, list[Function]]:
    """The documented functions of each split, in the order of their files; from the cache after the first time.

    A function that an earlier split also has, letter for letter, is left out of the later one.
    """
    name = cache.key(FORM, sys.version_info[:2], [stdlib.fingerprint(split) for split in SPLITS])
    path = cache.folder("docpairs") / f"{name}.json"
    with cache.locked(path):
        if not path.exists():
            by_split: dict[str, list[Function]] = {split: [] for split in SPLITS}
            known_functions: set[tuple[str, str]] = set()
            for split in SPLITS:
                for source in stdlib.sources()[0][split]:
                    for function in documented_functions(source.path, source.content):
                        if (function.code, function.sentence) not in known_functions:
                            known_functions.add((function.code, function.sentence))
                            by_split[split].append(function)
            rows = {split: [astuple(function) for function in members] for split, members in by_split.items()}
            write_text(path, json.dumps(rows))
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {split: [Function(*row) for row in rows[split]] for split in SPLITS}


def documented_functions(file: str, content: str) -> Iterator[Function]:
    """The documented functions and methods of a file that do anything, nested ones too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in strings
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):  # files with deliberate syntax errors
            return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
            continue
        if sentence := first_sentence(ast.get_docstring(node) or ""):
            node.body, node.decorator_list = node.body[1:], []
            nodes = list(own_nodes(node))
            returned = [part.value for part in nodes if isinstance(part, ast.Return) and part.value is not None]
            yield Function(
                file,
                " ".join(ast.unparse(node).split()),
                sentence,
                any(not (isinstance(value, ast.Constant) and value.value is None) for value in returned),
                sum(isinstance(part, BRANCHES) for part in nodes),
            )


def own_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions and classes that it defines."""
    remaining: list[ast.AST] = list(function.body)
    while remaining:
        node = remaining.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            remaining += ast.iter_child_nodes(node)


def first_sentence(documentation: str) -> str:
    """Up to the first full stop or blank line, in one line."""
    sentence = re.split(r"(?<=[.!?])\s|\n\s*\n", documentation.strip())[0]
    return " ".join(sentence.split())


def fill(functions_of_split: list[Function]) -> TaskExamples:
    """Replace a word of a function by a gap, at up to PLACES places for each word; all words equally often.

    Hashes choose places and functions, so the result does not depend on a library's random generator.
    """
    gaps: dict[str, list[tuple[int, str]]] = {word: [] for word in WORDS}
    for function in functions_of_split:
        tokens = function.code.split()
        for word in sorted(set(tokens) & set(WORDS)):
            hash_value = int.from_bytes(hashlib.sha256(f"{word} {function.code}".encode()).digest()[:8], "big")
            positions = [position for position, token in enumerate(tokens) if token == word]
            for offset in range(min(len(positions), PLACES)):
                position = positions[(hash_value + offset) % len(positions)]
                context = [
                    *tokens[max(position - AROUND, 0) : position],
                    GAP,
                    *tokens[position + 1 : position + 1 + AROUND],
                ]
                gaps[word].append((hash_value, "fill: " + " ".join(context)))
    count = min(map(len, gaps.values()))
    rows = [(*row, label) for label, word in enumerate(WORDS) for row in sorted(gaps[word])[:count]]
    rows.sort()
    return TaskExamples(
        TASKS["fill"], tuple(text for _, text, _ in rows), np.array([label for *_, label in rows], np.float64)
    )


def match(functions_of_split: list[Function]) -> TaskExamples:
    """Each sentence with its own code and with another function's of the same file.

    The functions of a file are sorted in a circle by the length of their code, and each sentence gets the next code for
    its wrong pair. Lengths are similar, and every sentence and code occurs once in a right and once in a wrong pair, so
    neither alone gives the answer away.
    """
    texts, labels = [], []
    for members in _by_file(functions_of_split).values():
        distinct = {function.code: function for function in {f.sentence: f for f in members}.values()}
        by_length = sorted(distinct.values(), key=lambda function: (len(function.code), function.code))
        if len(by_length) < 2:
            continue
        for function, other in zip(by_length, [*by_length[1:], by_length[0]], strict=True):
            for code in (function.code, other.code):
                texts.append(f"match: {GAP} documentation: {function.sentence} code: {code}")
            labels += [1, 0]
    return TaskExamples(TASKS["match"], tuple(texts), np.array(labels, np.float64))


def returns(functions_of_split: list[Function]) -> TaskExamples:
    """Each sentence alone."""
    texts = tuple(f"returns: {GAP} documentation: {function.sentence}" for function in functions_of_split)
    return TaskExamples(
        TASKS["returns"], texts, np.array([function.returns for function in functions_of_split], np.float64)
    )


def branches(functions_of_split: list[Function]) -> TaskExamples:
    """Each code alone; more than 5 branches count as 5."""
    texts = tuple(f"branches: {GAP} code: {function.code}" for function in functions_of_split)
    return TaskExamples(
        TASKS["branches"], texts, np.array([min(f.branches, 5) for f in functions_of_split], np.float64)
    )


def _by_file(functions_of_split: list[Function]) -> dict[str, list[Function]]:
    members: dict[str, list[Function]] = defaultdict(list)
    for function in functions_of_split:
        members[function.file].append(function)
    return members

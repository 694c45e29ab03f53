"""GLUE's tasks as text to text (Wang et al. 2019, arXiv:1804.07461), in the form of T5.

Prefixes, the order of the sentences and the label words are those of Raffel et al. 2020 (arXiv:1910.10683,
appendix D); STS-B's scores are rounded to 0.2 and spelled. The official development sets are used for validation, as in
the Lion paper (Table 6); the test sets' labels are not public, and WNLI is left out, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes.data.hub import first_line, from_hub, load_saved
from recipes.data.text import bpe
from recipes.data.text.tasks.text_pairs import TextPairs, token_pairs
from recipes.data.text.tasks.text_tasks import TaskExamples, TextTask, selected_tasks
from recipes.errors import ConfigError

HOLDS = "texts with answers"  # matched with `learns_from` of recipes

ENTAILMENT = ("entailment", "not_entailment")
SCORES = tuple(f"{number / 5:.1f}" for number in range(26))
SUFFIXES = (".parquet", ".jsonl", ".tsv")


@dataclass(frozen=True)
class Source:
    """A task's text form and where its columns are found.

    Attributes:
        columns: prefix of each sentence -> its column.
        dev: name of each development set in the metrics -> its split on the hub.
    """

    columns: dict[str, str]
    words: tuple[str, ...]
    metrics: tuple[str, ...]
    dev: dict[str, str]
    graded: bool = False

    def task(self, name: str) -> TextTask:
        """The task under one of its development sets' names."""
        return TextTask(name, self.words, self.metrics, self.graded)


SENTENCES = {"sentence1": "sentence1", "sentence2": "sentence2"}
TASKS = {
    "cola": Source({"sentence": "sentence"}, ("unacceptable", "acceptable"), ("matthews",), {"cola": "validation"}),
    "sst2": Source({"sentence": "sentence"}, ("negative", "positive"), ("accuracy",), {"sst2": "validation"}),
    "mrpc": Source(SENTENCES, ("not_equivalent", "equivalent"), ("f1", "accuracy"), {"mrpc": "validation"}),
    "stsb": Source(SENTENCES, SCORES, ("pearson", "spearman"), {"stsb": "validation"}, graded=True),
    "qqp": Source(
        {"question1": "question1", "question2": "question2"},
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        {"qqp": "validation"},
    ),
    "mnli": Source(
        {"hypothesis": "hypothesis", "premise": "premise"},
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        {"mnli_m": "validation_matched", "mnli_mm": "validation_mismatched"},
    ),
    "qnli": Source({"question": "question", "sentence": "sentence"}, ENTAILMENT, ("accuracy",), {"qnli": "validation"}),
    "rte": Source(SENTENCES, ENTAILMENT, ("accuracy",), {"rte": "validation"}),
}
# Names of the hub's columns in GLUE's .tsv files.
ALIASES = {
    "label": ("gold_label", "is_duplicate", "Quality", "score"),
    "sentence1": ("#1 String",),
    "sentence2": ("#2 String",),
    "premise": ("sentence1",),
    "hypothesis": ("sentence2",),
}
LAYOUT = (
    "a folder for each task (cola, SST-2, ...) saved by datasets, or with train and dev as .tsv, .parquet or .jsonl"
)


def load(
    path: str | None = None,
    hub: str | None = None,
    *,
    task: str | Sequence[str] = "all",
    length: int = 512,
    tokenizer: str = "google-t5/t5-base",
) -> dict[str, TextPairs]:
    """`train` and `val` as tokens.

    Args:
        path: a local folder; it has precedence over `hub`.
        hub: GLUE's name on the Hugging Face hub.
        task: one of TASKS, several, or `all`.
        length: maximum number of tokens of an input.
        tokenizer: a name on the hub or a local tokenizer.json.

    Raises:
        ConfigError: a task is unknown, its data are missing or lack a column, or there is no such tokenizer.
    """
    splits = texts(path, hub, task)
    return token_pairs(splits, bpe.published(tokenizer), length)


def texts(
    path: str | None = None, hub: str | None = None, task: str | Sequence[str] = "all"
) -> dict[str, list[TaskExamples]]:
    """`train` and `val` of these tasks as text.

    Raises:
        ConfigError: see `load`.
    """
    names = selected_tasks(task, TASKS)
    if path is None and hub is None:
        raise ConfigError(f"set data.path or data.hub to say where GLUE is; data.path holds {LAYOUT}")
    splits: dict[str, list[TaskExamples]] = {"train": [], "val": []}
    for name in names:
        source = TASKS[name]
        tables = _Tables(name, path, hub)
        splits["train"].append(examples(source.task(name), source, tables["train"], tables.location("train")))
        for figure, split in source.dev.items():
            splits["val"].append(examples(source.task(figure), source, tables[split], tables.location(split)))
    return splits


def examples(task: TextTask, source: Source, table: pd.DataFrame, location: str) -> TaskExamples:
    """A split's rows as texts and labels; rows without a label or a sentence are left out.

    Raises:
        ConfigError: a column is missing, a label is none of the task's, or no row is left.
    """
    sentences = {heading: _column(table, column, location) for heading, column in source.columns.items()}
    labels = _column(table, "label", location)
    complete = labels.notna() & (labels != "-")  # MNLI's label if annotators disagree
    for column in sentences.values():
        complete &= column.notna()
    if not complete.any():
        raise ConfigError(f"{location} has {len(table)} rows and none with a label and {', '.join(source.columns)}")
    rows = zip(*(column[complete].astype(str).str.strip() for column in sentences.values()), strict=True)
    prefix = "mnli" if task.name.startswith("mnli") else task.name
    texts = tuple(
        " ".join([prefix, *(f"{heading}: {text}" for heading, text in zip(sentences, row, strict=True))])
        for row in rows
    )
    index_of = {word: index for index, word in enumerate(source.words)}
    try:
        values = [index_of[v] if not source.graded and v in index_of else float(v) for v in labels[complete]]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{location}: {first_line(error)}; known labels: {', '.join(source.words)}") from None
    try:
        return TaskExamples(task, texts, np.array(values, np.float64))
    except ValueError as error:
        raise ConfigError(f"{location}: {first_line(error)}") from None


def _column(table: pd.DataFrame, name: str, location: str) -> pd.Series:
    for candidate in (name, *ALIASES.get(name, ())):
        if candidate in table:
            return table[candidate]
    raise ConfigError(f"{location} has no column {name}; it has {', '.join(map(str, table.columns))}")


class _Tables:
    """The splits of one task, from the hub or from a folder, as data frames."""

    def __init__(self, task: str, path: str | None, hub: str | None) -> None:
        self.task, self.hub = task, hub
        self.folder: Path | None = None
        self.saved: Any = None
        if path is None:
            self.saved = from_hub(str(hub), task, f"set data.path to a folder with {LAYOUT}")
            return
        root = Path(path).expanduser()
        if not root.is_dir():
            raise ConfigError(f"data.path={path} is not a folder; it has to hold {LAYOUT}")
        folders = [f for f in sorted(root.iterdir()) if f.is_dir() and f.name.lower().replace("-", "") == task]
        if not folders:
            raise ConfigError(f"data.path={path} holds no folder {task}; it has to hold {LAYOUT}")
        self.folder = folders[0]
        if (self.folder / "dataset_dict.json").exists():
            self.saved = load_saved(self.folder, str(self.folder))

    def location(self, split: str) -> str:
        """The location of a split, for messages."""
        return f"{self.folder or f'data.hub={self.hub}, {self.task}'}, {split}"

    def __getitem__(self, split: str) -> pd.DataFrame:
        if self.saved is not None:
            if split not in self.saved:
                raise ConfigError(f"{self.location(split)}: there is no such split; there are {', '.join(self.saved)}")
            try:
                return self.saved[split].to_pandas()
            except Exception as error:  # datasets has no common error
                raise ConfigError(f"{self.location(split)} cannot be read: {first_line(error)}") from None
        assert self.folder is not None
        for stem in (split, split.replace("validation", "dev")):
            for suffix in SUFFIXES:
                files = sorted(self.folder.glob(f"{stem}{suffix}")) or sorted(self.folder.glob(f"{stem}-*{suffix}"))
                if files:
                    return pd.concat([_read(file, self.task) for file in files], ignore_index=True)
        names = ", ".join(f"{split}{suffix}" for suffix in SUFFIXES)
        raise ConfigError(f"{self.folder} holds none of {names}")


def _read(file: Path, task: str) -> pd.DataFrame:
    """A file's rows.

    Raises:
        ConfigError: it cannot be read in the format of its suffix.
    """
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix == ".jsonl":
            return pd.read_json(file, lines=True)
        # Quotes are part of the sentences.
        table = pd.read_csv(file, sep="\t", quoting=3, na_values=[""], keep_default_na=False)
        if task == "cola" and "sentence" not in table:  # GLUE's own file of this task has no header
            names = ["source", "label", "mark", "sentence"]
            return pd.read_csv(file, sep="\t", quoting=3, names=names, keep_default_na=False)
        return table
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {first_line(error)}") from None

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from recipes.data.text import glue
from recipes.errors import ConfigError

# Rows as the hub has them, and what T5 makes of them (Raffel et al. 2020, appendix D).
ROWS = {
    "cola": ({"sentence": "He sat. ", "label": 1}, "cola sentence: He sat.", "acceptable"),
    "sst2": ({"sentence": "a delight", "label": 0}, "sst2 sentence: a delight", "negative"),
    "mrpc": (
        {"sentence1": "A.", "sentence2": "B.", "label": 0},
        "mrpc sentence1: A. sentence2: B.",
        "not_equivalent",
    ),
    "stsb": ({"sentence1": "A.", "sentence2": "B.", "label": 3.25}, "stsb sentence1: A. sentence2: B.", "3.2"),
    "qqp": (
        {"question1": "A?", "question2": "B?", "label": 1},
        "qqp question1: A? question2: B?",
        "duplicate",
    ),
    "mnli": (
        {"premise": "P.", "hypothesis": "H.", "label": 2},
        "mnli hypothesis: H. premise: P.",
        "contradiction",
    ),
    "qnli": (
        {"question": "Q?", "sentence": "S.", "label": 1},
        "qnli question: Q? sentence: S.",
        "not_entailment",
    ),
    "rte": ({"sentence1": "A.", "sentence2": "B.", "label": 0}, "rte sentence1: A. sentence2: B.", "entailment"),
}
# The same rows as GLUE's own .tsv files have them.
TSV = {
    "CoLA": "gj04\t1\t\tHe sat.\ngj04\t1\t\tHe sat.\n",
    "SST-2": "sentence\tlabel\na delight\t0\n",
    "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tA.\tB.\n",
    "STS-B": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    "0\tg\tf\ty\t1\tn\tn\tA.\tB.\t3.250\n",
    "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tA?\tB?\t1\n4\t5\t6\tA?\n",
    "MNLI": "index\tsentence1\tsentence2\tgold_label\n0\tP.\tH.\tcontradiction\n1\tP.\tH.\t-\n",
    "QNLI": "index\tquestion\tsentence\tlabel\n0\tQ?\tS.\tnot_entailment\n",
    "RTE": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n",
}


def splits(task: str) -> list[str]:
    return ["train", *glue.TASKS[task].dev.values()]


def write(root: Path, form: str) -> None:
    for task, (row, _, _) in ROWS.items():
        table = pd.DataFrame([row, row])
        folder = root / task
        if form == "saved":
            DatasetDict({split: Dataset.from_pandas(table) for split in splits(task)}).save_to_disk(folder)
            continue
        folder.mkdir(parents=True)
        for split in splits(task):
            if form == "parquet":
                table.iloc[:1].to_parquet(folder / f"{split}-00000-of-00002.parquet")
                table.iloc[1:].to_parquet(folder / f"{split}-00001-of-00002.parquet")
            elif form == "jsonl":
                table.to_json(folder / f"{split}.jsonl", orient="records", lines=True)


def write_tsv(root: Path) -> None:
    for name, text in TSV.items():
        (root / name).mkdir(parents=True)
        for split in splits(name.lower().replace("-", "")):
            (root / name / f"{split.replace('validation', 'dev')}.tsv").write_text(text)


@pytest.mark.parametrize("form", ["saved", "parquet", "jsonl", "tsv"])
def test_every_task_reads_as_t5_reads_it(tmp_path: Path, form: str) -> None:
    write_tsv(tmp_path) if form == "tsv" else write(tmp_path, form)
    result = glue.texts(str(tmp_path))
    names = [part.task.name for part in result["val"]]
    assert names == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli_m", "mnli_mm", "qnli", "rte"]
    assert len(result["train"]) == 8
    for part in (*result["train"], *result["val"]):
        _, text, word = ROWS[part.task.name.split("_")[0]]
        assert set(part.texts) == {text}
        assert {part.task.words[index] for index in part.words()} == {word}
        assert len(part) == (2 if form != "tsv" or part.task.name == "cola" else 1)


def test_the_figures_are_the_twelve_of_table_6() -> None:
    figures = [(name, m) for task in glue.TASKS.values() for name in task.dev for m in task.metrics]
    assert len(figures) == 12
    columns = (Path(__file__).resolve().parents[4] / "reports/paper/glue.csv").read_text().splitlines()[1].split(",")
    assert [name for name, _ in figures] == [
        column.removesuffix("_f1").removesuffix("_acc").removesuffix("_pearson").removesuffix("_spearman")
        for column in columns[2:-1]
    ]


def test_scores_are_rounded_as_t5_rounds_them() -> None:
    task = glue.TASKS["stsb"].task("stsb")
    labels = np.round(np.arange(0, 5.0001, 0.05), 2)
    part = glue.TaskExamples(task, ("text",) * len(labels), labels)
    expected = [f"{np.rint(float(label) * 5) / 5:.1f}" for label in labels]
    for label, word, wanted in zip(labels, part.words(), expected, strict=True):
        assert abs(float(task.words[word]) - label) <= 0.1 + 1e-9
        if round(label * 100) % 20 != 10:  # in the middle between two, either is right
            assert task.words[word] == wanted


def test_words_say_their_labels() -> None:
    for name, source in glue.TASKS.items():
        task = source.task(name)
        part = glue.TaskExamples(task, ("text",) * len(task.words), task.values())
        assert part.words().tolist() == [*range(len(task.words))]
        assert len(set(task.words)) == len(task.words)


def test_a_missing_column_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "rte").mkdir()
    (tmp_path / "rte" / "train.jsonl").write_text('{"sentence1": "A.", "text": "B.", "label": 0}\n')
    with pytest.raises(ConfigError, match="rte, train has no column sentence2; it has sentence1, text, label") as error:
        glue.texts(str(tmp_path), task="rte")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train.jsonl", '{"sentence1": "A.", "sentence2": "B.", "label": "maybe"}\n', "known labels: entailment"),
        ("train.jsonl", '{"sentence1": "A.", "sentence2": "B.", "label": 7}\n', "label 7 is none of entailment"),
        ("train.parquet", "no parquet", "train.parquet cannot be read"),
        ("dev.jsonl", "", "holds none of train.parquet, train.jsonl, train.tsv"),
        ("train.tsv", "index\tsentence1\tsentence2\tlabel\n", "RTE, train has 0 rows and none with a label and sent"),
        ("train.tsv", "index\tsentence1\tsentence2\tlabel\n1\tA.\tB.\t\n", "has 1 rows and none with a label"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / file).write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        glue.texts(str(tmp_path), task="rte")
    assert "\n" not in str(error.value)


def test_a_folder_without_a_task_and_an_unknown_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no folder cola"):
        glue.texts(str(tmp_path))
    with pytest.raises(ConfigError, match="is unknown; known: all, cola, sst2"):
        glue.texts(str(tmp_path), task="wnli")
    with pytest.raises(ConfigError, match="is not a folder"):
        glue.texts(str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"set data\.path or data\.hub"):
        glue.texts()


def test_a_development_set_without_rows_is_refused(tmp_path: Path) -> None:
    write_tsv(tmp_path)
    (tmp_path / "SST-2" / "dev.tsv").write_text("sentence\tlabel\n")
    with pytest.raises(ConfigError, match="SST-2, validation has 0 rows and none with a label and sentence"):
        glue.texts(str(tmp_path), task=["sst2", "rte"])
    assert glue.texts(str(tmp_path), task="rte")["val"]


def test_a_damaged_saved_set_is_named_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, "saved")
    arrow = next((tmp_path / "rte" / "validation").glob("*.arrow"))
    content = arrow.read_bytes()
    for damaged in (content[:100], content[: len(content) // 2], b""):
        arrow.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"rte.* cannot be read") as error:
            glue.texts(str(tmp_path), task="rte")
        assert "\n" not in str(error.value)
    arrow.unlink()
    with pytest.raises(ConfigError, match="rte cannot be read as a Hugging Face data set"):
        glue.texts(str(tmp_path), task="rte")


def test_saved_class_labels_and_missing_splits(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"sentence1": ["A."], "sentence2": ["B."], "label": [1]})
    rows = rows.cast_column("label", ClassLabel(names=["entailment", "not_entailment"]))
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "rte")
    with pytest.raises(ConfigError, match="validation: there is no such split; there are train"):
        glue.texts(str(tmp_path), task="rte")
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(tmp_path / "more" / "rte")
    assert glue.texts(str(tmp_path / "more"), task="rte")["val"][0].words().tolist() == [1]


@pytest.mark.parametrize("task", [None, 3])
def test_what_is_no_name_of_a_task_is_refused(task: object) -> None:
    with pytest.raises(ConfigError, match=rf"data\.options\.task={task} is unknown; known: all, cola"):
        glue.texts("anywhere", task=task)


def test_labels_that_are_no_labels_are_named_once(tmp_path: Path) -> None:
    source = glue.TASKS["stsb"]
    rows = pd.DataFrame({"sentence1": ["A."], "sentence2": ["B."], "label": [[1]]})
    with pytest.raises(ConfigError, match=r"here: .*list.*; known labels: "):
        glue.examples(source.task("stsb"), source, rows, "here")
    with pytest.raises(ConfigError, match=r"here: stsb: label 7 is none of 0\.0, .*5\.0$") as error:
        glue.examples(source.task("stsb"), source, rows.assign(label=7.0), "here")
    assert str(error.value).count("4.8") == 1

"""A small ledger of one study, written by hand."""

import csv

import pytest
import yaml

from reports.evidence import schema

STUDY = {
    "title": "A study",
    "source": "somewhere",
    "licence": "MIT",
    "chosen": "its authors",
    "independent": True,
    "tuned": ["lr", "weight_decay"],
    "caveats": "none",
}
ROW = {
    "study": "a",
    "source": "somewhere",
    "domain": "language",
    "task": "language model",
    "variant": "1x",
    "optimizer": "AdamW",
    "lr": "0.01",
    "weight_decay": "0.1",
    "beta1": "0.9",
    "beta2": "0.99",
    "batch": "64",
    "batch_unit": "examples",
    "steps": "1000",
    "role": "sweep",
    "metric": "loss",
    "goal": "min",
    "value": "3.0",
    "seeds": "1",
}


@pytest.fixture
def write_ledger(tmp_path):
    """Write a ledger of study `a` and return its folder; every row is given as what differs from ROW."""

    def write(rows=({}, {"optimizer": "Lion", "lr": "0.001", "weight_decay": "1", "value": "2.9"}), **entry):
        (tmp_path / "studies").mkdir(exist_ok=True)
        (tmp_path / "studies.yaml").write_text(yaml.safe_dump({"a": STUDY | entry}))
        (tmp_path / "claims.yaml").write_text("[]\n")
        tables = {"studies/a": (schema.RUNS, [ROW | row for row in rows])}
        tables |= {"speed_run": (schema.SPEED_RUN, []), "algoperf": (schema.ALGOPERF, [])}
        for name, (columns, content) in tables.items():
            with (tmp_path / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(columns), restval="")
                writer.writeheader()
                writer.writerows(content)
        return tmp_path

    return write

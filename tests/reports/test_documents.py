import pytest

from reports import documents
from reports.evidence.counts import Claim, Counts
from reports.records.reader import read_records
from reports.results import compared
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables import answer


@pytest.fixture
def results(tune, outputs):
    tune("adamw", (0.900, 0.910, 0.900))
    tune("lion", (0.970, 0.981, 0.970))
    text = {"task": "text", "metric": "perplexity", "goal": "min"}
    tune("adamw", (40.0, 41.0, 42.0), **text)
    tune("lion", (41.0, 40.0, 43.5), **text)
    return compared(read_records([outputs]).runs, read_speeds(outputs), "adamw")


def read_speeds(folder):
    from reports.records.speeds import read_speeds as read

    return read([folder])


def test_the_answer_counts_verdicts(results):
    assert [table.rows[1].verdict for table in results.main] == ["better", NO_DIFFERENCE]
    assert documents.answer(results.main) == (
        "On the two small models measured so far, Lion is better than AdamW on one, worse on none, and on one no "
        "difference is shown. Each interval is for its task alone; with intervals that hold for all of them at once, "
        "it is better on one and worse on none."
    )
    assert "have not been compared" in documents.answer([])


def test_the_table_has_points_and_the_digits_that_the_interval_warrants(results):
    lines = documents.task_table(results.main).splitlines()
    assert lines[2].startswith(
        "| digits, accuracy | 90.3 ± 1.4% | 97.4 ± 1.6% | +7.03 points [+6.82, +7.25] | 3 | better |"
    )
    assert lines[3].startswith("| text, perplexity | 41.0 ± 2.5 | 42 ± 4 | +0.5 [")


def test_the_papers_other_optimizers_are_columns(results, tune, outputs):
    assert documents.rival_table(results.main) == ""
    tune("nadam", (0.930, 0.941, 0.930))
    text = {"task": "text", "metric": "perplexity", "goal": "min"}
    tune("radam", (50.0, 51.0, 52.0), **text)
    tune("nadam", (40.0, 41.0, 42.0), **text)
    again = compared(read_records([outputs]).runs, read_speeds(outputs), "adamw")
    heading, _, *rows = documents.rival_table(again.main).splitlines()
    assert heading == "| task | nadam | radam | seeds |"
    digits, texts = ([cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows)
    assert digits[0] == "digits, accuracy"
    assert digits[1].startswith("+3.03 points [")
    assert digits[1].endswith("] better")
    assert digits[2:] == ["not measured", "3"]
    assert texts[1:] == ["+0.00 [+0.00, +0.00]", "+10.00 [+10.00, +10.00]", "3"]  # no spread: no verdict


def test_the_field_has_its_own_table_with_what_was_timed(results, tune, outputs):
    assert documents.field_table(results.field) == ""
    tune("muon", (0.970, 0.981, 0.970))
    for optim, values in (("adamw", (0.5, 0.6, 0.7)), ("soap", (0.5, 0.7, 0.6))):
        tune(optim, values, task="letters")
    again = compared(read_records([outputs]).runs, read_speeds(outputs), "adamw")
    heading, _, *rows = documents.field_table(again.field).splitlines()
    assert heading.startswith(
        "| task | optimizer | test | test minus adamw | seeds | val in the time of adamw's full run"
    )
    starts = [
        "| digits, accuracy | adamw | 90.3",
        "| | lion | 97.4",
        "| | muon | 97.4",
        "| letters, accuracy | adamw | 60",
    ]
    assert [row.startswith(start) for row, start in zip(rows, starts, strict=False)] == [True] * 4
    assert "| +7.03 points [" in rows[2]
    assert rows[2].count("not measured") == 2


def test_a_situation_shows_what_was_measured_and_what_others_found(results):
    tally = Counts(supports=4, contradicts=11, neither=4, unit="pairs", words="")
    claims = [Claim("lower_loss", "Lion ends lower.", None, tally, ()), Claim("cited", "Cited.", None, None, ({}, {}))]
    entries = [
        {"if": "training text", "then": "AdamW", "tasks": ["text", "absent"], "claims": ["lower_loss", "cited"]},
        {"if": "elsewhere", "then": "measure"},
    ]
    lines = documents.situation_table(results.main, entries, claims).splitlines()
    assert lines[2].startswith("| training text | AdamW | text, perplexity +0.5 [-4.4, +5.4]")
    assert lines[2].endswith(
        f"{NO_DIFFERENCE} | Lion ends lower. 4 of 19 pairs for it, 11 against. Cited. Cited, not counted. |"
    )
    assert lines[3].split(" | ")[:3] == ["| elsewhere", "measure", "not measured"]
    with pytest.raises(ValueError, match="claim other is unknown; known: lower_loss, cited"):
        documents.situation_table(results.main, [{"if": "a", "then": "b", "claims": ["other"]}], claims)


def test_blocks_are_filled_and_nothing_else_is_touched(results, tmp_path):
    (tmp_path / "docs").mkdir()
    block = "<!-- {0}: written by make reports -->\nstale\n<!-- end of {0} -->"
    (tmp_path / "README.md").write_text(f"before\n{block.format('answer')}\nafter\n")
    (tmp_path / "docs" / "guide.md").write_text(
        f"{block.format('answer')}\nmiddle\n{block.format('situations')}\n"
        f"{block.format('tasks')}\n{block.format('rivals')}\n{block.format('field')}\n"
    )
    filled = documents.fill(tmp_path, results)
    readme = filled[tmp_path / "README.md"]
    assert readme.startswith("before\n<!-- answer")
    assert readme.endswith("<!-- end of answer -->\nafter\n")
    assert documents.answer(results.main) in readme
    assert not any("stale" in text for text in filled.values())
    for path, text in filled.items():
        path.write_text(text)
    assert documents.fill(tmp_path, results) == filled  # a second time changes nothing


def test_a_document_without_its_block_is_named(results, tmp_path):
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match=r"README.md has no block 'answer'"):
        documents.fill(tmp_path, results)


def test_intervals_for_all_tasks_at_once_are_wider_and_may_decide_otherwise(tune, outputs):
    for task in ("one", "two", "three"):
        tune("adamw", (0.80, 0.81, 0.82), task=task)
        tune("lion", (0.84, 0.86, 0.85), task=task)
    results = compared(read_records([outputs]).runs, read_speeds(outputs), "adamw")
    assert answer.count(results.main).better == 3
    gaps = [table.rows[1].difference_low for table in results.main]
    assert min(gaps) > 0
    together = answer.count_together(results.main)
    assert (together.better, together.neither) == (0, 3)
    assert "for all of them at once, it is better on none" in documents.answer(results.main)

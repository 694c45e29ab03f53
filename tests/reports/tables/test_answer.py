import pytest

from reports.records.reader import read_records
from reports.tables.answer import count, headline, state_share
from reports.tables.comparison import build_tables

WORSE, SAME, BETTER = (0.80, 0.811, 0.80), (0.90, 0.91, 0.89), (0.97, 0.981, 0.97)


@pytest.fixture
def tables(tune, outputs):
    def make(*tasks, state=1_600_000):
        for number, values in enumerate(tasks):
            tune("adamw", (0.900, 0.910, 0.900), task=f"task{number}")
            tune("lion", values, task=f"task{number}", optimizer_state_bytes=state)
        return build_tables(read_records([outputs]).runs, "adamw")

    return make


def test_a_majority_of_wins_is_a_yes(tables):
    made = tables(BETTER, BETTER, WORSE)
    assert (count(made).better, count(made).worse, count(made).neither) == (2, 1, 0)
    assert headline(made) == (
        "Yes, on tasks like these: against a tuned AdamW on three small models, Lion is better on two, worse on one, "
        "and shows no difference on none; and it keeps half of AdamW's optimizer state."
    )


def test_without_one_it_is_for_memory(tables):
    assert headline(tables(BETTER, SAME, WORSE)).startswith(
        "To save memory, yes: it keeps half of AdamW's optimizer state. For better results, do not count on it: "
    )


def test_a_majority_of_losses_is_a_no(tables):
    assert "For better results, no: against a tuned AdamW on one small model" in headline(tables(WORSE))


def test_below_the_protocol_nothing_is_answered(write_run, outputs):
    write_run()
    write_run(optim="lion", final=0.99, test=0.99)
    made = build_tables(read_records([outputs]).runs, "adamw")
    assert headline(made).startswith("Not known yet: no task has 9 trials and 3 fresh seeds of both Lion and AdamW yet")


def test_another_reference_is_called_by_its_name(tune, outputs):
    tune("sgd", (0.900, 0.910, 0.900))
    tune("lion", BETTER)
    assert "against a tuned SGD on one small model" in headline(build_tables(read_records([outputs]).runs, "sgd"))


def test_shares_of_state_are_said_in_words_where_there_are_some(tables):
    assert state_share(tables(SAME, state=1_000_000)) == "0.31"
    assert state_share([]) == ""

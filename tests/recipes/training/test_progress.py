"""The progress line, on a terminal and in a file."""

import sys

import pytest

from recipes.training import progress
from recipes.training.progress import Progress, duration


class Clock:
    """Stands in for time: stands still until it is set."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(progress, "time", stopped)
    return stopped


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (123, "2:03"),
        (3599.5, "1:00:00"),
        (3723, "1:02:03"),
        (100 * 3600, "100:00:00"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1000, every=5.0) as shown:
        for step in range(1, 1001):
            clock.now += 0.012  # 12 seconds in all
            shown.update(step, 1 / step, 10.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("/1000")[0] for line in lines] == ["step  167", "step  584", "step 1000"]
    assert lines[0] == "step  167/1000  loss 0.0060    10.0 steps/s  1:23 left"
    assert lines[-1].endswith("0:00 left")


def test_a_slow_run_is_seen_to_move_before_it_has_a_loss(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(90, every=5.0) as shown:
        for step in range(1, 7):
            clock.now += 1.5
            shown.begin(step)
        shown.update(7, 0.25, 0.5)
        for step in range(8, 30):
            clock.now += 1.5
            shown.begin(step)  # the loss of the next window is worth waiting for
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["step  2/90      0.7 steps/s  2:12 left", "step  6/90      0.7 steps/s  2:06 left"]
    with Progress(10, shown=False) as hidden:
        clock.now += 9
        hidden.begin(1)
        hidden.begin(2)
    assert capsys.readouterr().out == ""


def test_the_last_evaluation_stands_in_the_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(10)
    shown.metric = "accuracy 0.75"
    shown.update(10, 0.5, 2.0)
    assert capsys.readouterr().out == "step 10/10  loss 0.5000  accuracy 0.75  2.0 steps/s  0:00 left\n"


@pytest.mark.parametrize(("loss", "text"), [(0.0, "loss 0.0000"), (None, "loss nan")])
def test_a_loss_of_zero_is_no_missing_loss(
    clock: Clock, capsys: pytest.CaptureFixture[str], loss: float | None, text: str
) -> None:
    Progress(10).update(10, loss, 2.0)
    assert text in capsys.readouterr().out


def test_a_terminal_has_one_line_rewritten_in_place(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(100) as shown:
        for step in range(1, 11):
            clock.now += 0.1
            shown.update(step, 1.0, 10.0)
    written = capsys.readouterr().out
    assert written.count("\r\x1b[2K") == written.count("step ") < 10
    assert written.count("\n") == 1
    assert written.endswith("left\n")


def test_nothing_is_shown_where_another_process_shows_it(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, shown=False) as hidden:
        hidden.update(10, 1.0, 1.0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("columns", [10, 20, 30, 40, 60, 80, 120])
def test_a_line_never_wraps_on_a_narrow_terminal(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = Progress(93835)
    shown.metric = "val accuracy 0.7544"
    clock.now += 9
    shown.update(12345, 2.5, 10.0)
    line = capsys.readouterr().out.removeprefix("\r\x1b[2K")
    assert len(line) < columns
    assert line.startswith("step 12345/93835"[: columns - 1])
    assert ("2:15:49 left" in line) == (columns >= 40)
    assert ("val accuracy" in line) == (columns >= 80)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_clear_a_line_is_told_as_a_file_is(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    with Progress(10) as shown:
        shown.update(10, 0.5, 2.0)
    assert capsys.readouterr().out == "step 10/10  loss 0.5000    2.0 steps/s  0:00 left\n"

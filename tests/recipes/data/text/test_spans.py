import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.text.spans import MEAN_SPAN, NOISE, SpanWindows, corrupt, lengths, segments, spans_in

SENTINELS = np.arange(1000, 1200)
END = 999


def restored(source: np.ndarray, target: np.ndarray) -> list[int]:
    """The window again: each sentinel of the input replaced by what follows it in the target."""
    spans: dict[int, list[int]] = {}
    for token in target[:-1].tolist():
        if token >= SENTINELS[0]:
            spans[token] = current = []
        else:
            current.append(token)
    assert list(spans) == SENTINELS[: len(spans)].tolist()  # each once, in order
    assert all(spans.values())
    window = []
    for token in source[:-1].tolist():
        window += spans.pop(token) if token >= SENTINELS[0] else [token]
    assert not spans
    return window


@given(st.integers(2, 600), st.integers(0, 2**32))
def test_substituting_the_spans_gives_the_window_back(length: int, seed: int) -> None:
    windows = np.random.default_rng(seed).integers(0, END, (2, length))
    sources, targets = corrupt(windows, SENTINELS, END, [np.random.default_rng(seed), np.random.default_rng(1)])
    window, source, target = windows[0], sources[0], targets[0]
    assert (len(source), len(target)) == lengths(length)
    assert source[-1] == target[-1] == END
    assert restored(source, target) == window.tolist()
    assert source[0] < END  # begins with a kept token,
    assert source[-2] >= SENTINELS[0]  # and ends with a span
    alone = corrupt(windows[:1], SENTINELS, END, [np.random.default_rng(seed)])
    assert [part[0].tolist() for part in alone] == [source.tolist(), target.tolist()]  # whatever else is in the batch


@given(st.integers(64, 2000))
def test_noise_is_15_percent_in_spans_of_3_on_average(length: int) -> None:
    noise, spans = spans_in(length)
    assert abs(noise - NOISE * length) <= 0.5
    assert abs(spans - noise / MEAN_SPAN) <= 0.5


def test_t5_s_published_shapes() -> None:
    # T5's own pre-training: 568 tokens become inputs of 512 and targets of 114 (Raffel et al. 2020, section 3.1.4).
    assert lengths(568) == (512, 114)


def test_every_segmentation_is_as_likely_as_every_other() -> None:
    rng = np.random.default_rng(0)
    drawn = [tuple(segments(5, 3, rng)) for _ in range(6000)]
    counts = {found: drawn.count(found) for found in set(drawn)}
    assert set(counts) == {(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)}
    assert all(850 < count < 1150 for count in counts.values())  # 1,000 expected, standard deviation 29


def test_windows_that_hold_no_span_are_refused() -> None:
    with pytest.raises(ValueError, match="1 tokens"):
        lengths(1)


def windows(seed: int | None) -> SpanWindows:
    return SpanWindows(np.arange(900, dtype=np.uint16), 64, SENTINELS, END, "corpus", seed)


def test_training_draws_by_position_and_evaluation_by_window() -> None:
    train, val = windows(3), windows(None)
    assert len(train) == 14  # 900 tokens hold 14 windows of 64
    first = train.__getitems__([(0, 5), (7, 2)])
    again = train.__getitems__([(7, 2)])
    assert torch.equal(first["input"][1:], again["input"])
    assert not torch.equal(first["input"], train.__getitems__([(100, 5), (107, 2)])["input"])
    assert not torch.equal(first["input"], windows(4).__getitems__([(0, 5), (7, 2)])["input"])
    assert torch.equal(val.__getitems__([(0, 5)])["input"], val.__getitems__([(100, 5)])["input"])


def test_a_batch_holds_the_windows_it_names() -> None:
    batch = windows(None).__getitems__([(0, 0), (0, 13)])
    for row, start in ((0, 0), (1, 13 * 64)):
        assert restored(batch["input"][row].numpy(), batch["target"][row].numpy()) == [*range(start, start + 64)]


def test_fingerprints_tell_corpora_and_lengths_apart() -> None:
    ids = np.arange(900, dtype=np.uint16)
    made = {
        SpanWindows(ids, context, SENTINELS, END, corpus).fingerprint() for context in (32, 64) for corpus in ("a", "b")
    }
    assert len(made) == 4
    assert windows(1).fingerprint() == windows(2).fingerprint()

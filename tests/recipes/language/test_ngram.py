import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.language import ngram

STREAM = np.array([0, 1, 0, 1, 1, 2], dtype=np.uint16)


def test_by_hand():
    # counts 2, 3, 1 of three tokens, one added to each: 3, 4, 2 of 9
    assert np.exp(ngram.unigram(STREAM, 3)).tolist() == pytest.approx([3 / 9, 4 / 9, 2 / 9])
    # after 0: 1 twice; after 1: 0, 1 and 2 once each; after 2: nothing
    table = np.exp(ngram.bigram(STREAM, 3, k=0.5))
    assert table[0].tolist() == pytest.approx([0.5 / 3.5, 2.5 / 3.5, 0.5 / 3.5])
    assert table[1].tolist() == pytest.approx([1.5 / 4.5] * 3)
    assert table[2].tolist() == pytest.approx([1 / 3] * 3)
    expected = math.exp(-(math.log(2.5 / 3.5) + math.log(1.5 / 4.5)) / 2)
    assert ngram.perplexity(ngram.bigram(STREAM, 3, k=0.5), np.array([0, 1, 1])) == pytest.approx(expected)


@given(st.lists(st.integers(0, 6), min_size=60, max_size=200))
def test_every_row_is_a_distribution(ids):
    stream = np.array(ids, dtype=np.uint16)
    assert np.exp(ngram.unigram(stream, 7)).sum() == pytest.approx(1, abs=1e-5)
    assert np.exp(ngram.bigram(stream, 7)).sum(1) == pytest.approx(np.ones(7), abs=1e-5)


def test_a_chain_is_learnt_and_k_is_chosen_on_training_data():
    chain = np.arange(4000, dtype=np.uint16) % 5
    assert ngram.perplexity(ngram.bigram(chain, 5), chain) == pytest.approx(1, abs=1e-3)
    assert ngram.perplexity(ngram.unigram(chain, 5), chain) == pytest.approx(5, abs=1e-2)
    noise = np.random.default_rng(0).integers(0, 50, 400).astype(np.uint16)
    assert ngram._best_k(noise, 50) == max(ngram.K_GRID)  # pairs that mean nothing: smooth as much as can be


def test_limits():
    with pytest.raises(ValueError, match="too large; at most"):
        ngram.bigram(STREAM, ngram.LARGEST + 1)
    with pytest.raises(ValueError, match="too short to choose k"):
        ngram.bigram(STREAM, 3)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 6, 7])
def test_a_stream_in_blocks_counts_as_a_whole(monkeypatch, block):
    whole = ngram.unigram(STREAM, 3), ngram.bigram(STREAM, 3, k=0.5)
    monkeypatch.setattr(ngram, "BLOCK", block)
    assert np.array_equal(ngram.unigram(STREAM, 3), whole[0])
    assert np.array_equal(ngram.bigram(STREAM, 3, k=0.5), whole[1])

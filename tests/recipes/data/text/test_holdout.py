"""Texts that are held out of training."""

import pytest

from recipes.data.text import holdout


@pytest.mark.parametrize("number", [*range(1, 31), 66])
@pytest.mark.parametrize("missing", [1, 2])
def test_small_texts_give_every_split_something(number: int, missing: int) -> None:
    texts = ["".join(f"{index} {line}\n" for line in range(40 + 7 * index)) for index in range(number)]
    parts, description = holdout.split_documents(texts, missing, 0.1)
    assert all(parts)
    assert sorted("".join(each for part in parts for each in part)) == sorted("".join(texts))
    if number < holdout.FEW_DOCUMENTS:
        assert description.endswith("held out")
        shares = [sum(map(len, part)) / len("".join(texts)) for part in parts]
        assert shares[1:] == pytest.approx([0.1 / missing] * missing, abs=0.03)
    else:
        assert sorted(each for part in parts for each in part) == sorted(texts)
        assert len(parts[0]) >= 0.7 * number


def test_texts_of_a_line_each_are_dealt_whole() -> None:
    parts, description = holdout.split_documents(["aaa", "bbb", "ccc"], 2, 0.1)
    assert sorted(map(len, parts)) == [1, 1, 1]
    assert description == "2 of its 3 documents are held out"
    assert holdout.split_documents(["aaa", "bbb"], 2, 0.1)[0][1:] == [[], []]  # two cannot make three


@pytest.mark.parametrize(("size", "share"), [(1000, 0.1), (4_000_000, 0.1), (20_000_000, 0.02), (10**9, 0.01)])
def test_of_a_small_text_more_is_held_out(size: int, share: float) -> None:
    assert holdout.holdout_share(None, size) == share
    assert holdout.holdout_share(0.3, size) == 0.3
    assert holdout.holdout_share(None, None) == 0.01

"""Zero-shot accuracy and recalls against loops over single rows, and what ties do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.contrastive import retrieval
from recipes.contrastive.retrieval import EXCLUDED, recalls, zero_shot


def unit(rng: np.random.Generator, rows: int, width: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((rows, width))), dim=1)


def coarse(rng: np.random.Generator, rows: int, width: int) -> torch.Tensor:
    """Few different rows of whole numbers, so that many similarities are equal and none is rounded."""
    return torch.from_numpy(rng.integers(-1, 2, (rows, width)).astype(np.float64))


def recalls_by_hand(queries, query_group, items, item_group, ranks):
    """Every query's list written out: nearest first, and of equally near items the wrong ones first."""
    shares = {}
    for k in ranks:
        result, asked = 0, 0
        for query, group in zip(queries.tolist(), query_group.tolist(), strict=True):
            if group == EXCLUDED:
                continue
            asked += 1
            listed = sorted(
                (-sum(a * b for a, b in zip(query, item, strict=True)), own == group)
                for item, own in zip(items.tolist(), item_group.tolist(), strict=True)
                if own != EXCLUDED
            )
            result += any(right for _, right in listed[:k])
        shares[k] = result / asked
    return shares


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 12),
    items=st.integers(1, 20),
    groups=st.integers(1, 6),
    equal=st.booleans(),
)
def test_recalls_are_those_of_lists_written_out(seed: int, queries: int, items: int, groups: int, equal: bool) -> None:
    """Several items of a group, groups without items, rows that take no part, and many ties."""
    rng = np.random.default_rng(seed)
    made = coarse if equal else unit
    rows, others = made(rng, queries, 3), made(rng, items, 3)
    own = torch.from_numpy(rng.integers(EXCLUDED, groups, queries))
    theirs = torch.from_numpy(rng.integers(EXCLUDED, groups, items))
    own[0], theirs[0] = 0, 0
    ranks = (1, 2, 5)
    expected = recalls_by_hand(rows, own, others, theirs, ranks)
    assert recalls(rows, own, others, theirs, ranks) == pytest.approx(expected)


def test_one_embedding_for_everything_finds_nothing() -> None:
    same = torch.ones(50, 4, dtype=torch.float64) / 2
    groups = torch.arange(50)
    assert recalls(same, groups, same, groups) == {1: 0.0, 5: 0.0, 10: 0.0}


def test_five_captions_an_image() -> None:
    """Two images; captions 0 to 4 belong to the first. One caption of the second lies nearest to the first image."""
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    captions = torch.tensor([[0.9, 0.1]] * 5 + [[0.95, 0.0]] + [[0.0, 0.8]] * 4)
    image_group, text_group = torch.arange(2), torch.arange(2).repeat_interleave(5)
    assert recalls(images, image_group, captions, text_group) == {1: 0.5, 5: 1.0, 10: 1.0}
    to_image = recalls(captions, text_group, images, image_group, (1, 2))
    assert to_image == {1: 0.9, 2: 1.0}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    queries, items = unit(rng, 23, 4), unit(rng, 31, 4)
    own, theirs = (torch.from_numpy(rng.integers(0, 9, rows)) for rows in (23, 31))
    whole = recalls(queries, own, items, theirs)
    label, prompt_class = torch.from_numpy(rng.integers(0, 5, 23)), torch.arange(31) % 5
    accuracy = zero_shot(queries, label, items, prompt_class)
    monkeypatch.setattr(retrieval, "CHUNK", 4)
    assert recalls(queries, own, items, theirs) == whole
    assert zero_shot(queries, label, items, prompt_class) == accuracy


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 15), classes=st.integers(1, 6), per_class=st.integers(1, 4))
def test_zero_shot_is_the_nearest_mean_of_prompts(seed: int, images: int, classes: int, per_class: int) -> None:
    rng = np.random.default_rng(seed)
    image, text = unit(rng, images, 5), unit(rng, classes * per_class + 3, 5)
    prompt_class = rng.permutation(np.concatenate([np.repeat(np.arange(classes), per_class), np.full(3, EXCLUDED)]))
    label = rng.integers(EXCLUDED, classes, images)
    label[0] = 0
    means = []
    for number in range(classes):
        mean = np.mean([text[i].numpy() for i in np.flatnonzero(prompt_class == number)], axis=0)
        means.append(mean / np.sqrt((mean**2).sum()))
    right = [
        int(np.argmax([float(np.dot(row, mean)) for mean in means])) == own
        for row, own in zip(image.numpy(), label, strict=True)
        if own != EXCLUDED
    ]
    result = zero_shot(image, torch.from_numpy(label), text, torch.from_numpy(prompt_class))
    assert result == pytest.approx(np.mean(right))


def test_prompts_count_alike_however_many_a_class_has() -> None:
    """The mean is brought to length 1 again: a class whose prompts disagree is not punished for it."""
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])
    prompt_class = torch.tensor([0, 1, 1])
    classes = retrieval.class_embeddings(text, prompt_class)
    torch.testing.assert_close(classes, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))

"""Metrics of a contrastive model: zero-shot classification and retrieval, computed from embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor

RANKS = (1, 5, 10)
CHUNK = 1024  # rows of the similarity matrix at a time
EXCLUDED = -1  # a row that takes no part


def class_embeddings(text: Tensor, prompt_class: Tensor) -> Tensor:
    """The mean embedding of each class's prompts, of length 1 again (Radford et al. 2021, section 3.1.4).

    Args:
        text: float [T, width], of length 1 each.
        prompt_class: int64 [T], the class of each text; -1 where a text is no prompt.

    Returns:
        [classes, width]
    """
    prompts = prompt_class >= 0
    sums = torch.zeros(int(prompt_class.max()) + 1, text.shape[1], dtype=text.dtype)
    sums.index_add_(0, prompt_class[prompts], text[prompts])
    return torch.nn.functional.normalize(sums, dim=1)


def zero_shot(image: Tensor, label: Tensor, text: Tensor, prompt_class: Tensor) -> float:
    """The share of images whose nearest class, by its prompts, is their own.

    Args:
        image: float [N, width], of length 1 each.
        label: int64 [N]; images with -1 are left out.
        text: float [T, width], of length 1 each.
        prompt_class: int64 [T], as in `class_embeddings`.
    """
    classes = class_embeddings(text, prompt_class)
    included = label != EXCLUDED
    nearest = torch.cat([(rows @ classes.T).argmax(1) for rows in image[included].split(CHUNK)])
    return (nearest == label[included]).double().mean().item()


def recalls(
    queries: Tensor, query_group: Tensor, items: Tensor, item_group: Tensor, ranks: Sequence[int] = RANKS
) -> dict[int, float]:
    """Recall at k: the share of queries with an item of the same group among the k nearest, for each k.

    An item counts as found at k where fewer than k items of other groups are as near as the nearest of the own
    group: with ties, the worst order is taken, so that a model with one embedding for everything finds nothing.

    Args:
        queries: float [Q, width], of length 1 each.
        query_group: int64 [Q]: an item is right for a query where their groups are equal; -1 takes no part.
        items: float [N, width], of length 1 each.
        item_group: int64 [N], likewise.
        ranks: the values of k.
    """
    is_query, is_item = query_group != EXCLUDED, item_group != EXCLUDED
    queries, query_group, items, item_group = (
        queries[is_query],
        query_group[is_query],
        items[is_item],
        item_group[is_item],
    )
    ranked_before = []
    for rows, groups in zip(queries.split(CHUNK), query_group.split(CHUNK), strict=True):
        similarity = rows @ items.T
        is_match = groups[:, None] == item_group
        nearest = similarity.masked_fill(~is_match, -torch.inf).max(1, keepdim=True).values
        mismatches = ((similarity >= nearest) & ~is_match).sum(1)
        ranked_before.append(torch.where(is_match.any(1), mismatches, max(ranks)))  # no right item: never found
    mismatches_before = torch.cat(ranked_before)
    return {k: (mismatches_before < k).double().mean().item() for k in ranks}

"""The Fréchet distance against closed forms and torch-fidelity's on the same features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from recipes.diffusion.frechet import between_gaussians, frechet_distance, statistics


def test_independent_gaussians_have_a_distance_that_can_be_written_down() -> None:
    """|μ - μ'|² + Σ (s_i - s'_i)² for diagonal covariances."""
    mean, other = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 1.0, 0.5]).double()
    deviation, its = torch.tensor([1.0, 2.0, 0.0]).double(), torch.tensor([3.0, 0.5, 1.0]).double()
    expected = 1 + 9 + 4 + 2.25 + 1
    got = between_gaussians(mean, torch.diag(deviation**2), other, torch.diag(its**2))
    assert got == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(1, 12))
def test_any_gaussians_by_the_general_root_of_a_matrix(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    (a, b), (mean, other) = rng.normal(size=(2, width, width + 2)), rng.normal(size=(2, width))
    covariance, its = a @ a.T, b @ b.T
    cross = np.trace(sqrtm(covariance @ its)).real
    expected = ((mean - other) ** 2).sum() + np.trace(covariance) + np.trace(its) - 2 * cross
    got = between_gaussians(*(torch.from_numpy(array) for array in (mean, covariance, other, its)))
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("rows", "width"), [(500, 20), (2000, 64), (40, 64)])  # the last has fewer rows than columns
def test_features_have_torch_fidelitys_distance(rows: int, width: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    features = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator)
    others = torch.randn(rows + 7, width, generator=generator) + 0.3
    both = [fid_features_to_statistics(each.double()) for each in (features, others)]
    expected = fid_statistics_to_metric(*both, verbose=False)[KEY_METRIC_FID]
    assert frechet_distance(features, others) == pytest.approx(expected, rel=1e-5)


def test_large_samples_of_two_gaussians_come_near_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(100_000, 4, generator=generator)
    others = 2 * torch.randn(100_000, 4, generator=generator) + 1
    assert frechet_distance(features, others) == pytest.approx(4 + 4, rel=0.02)


def test_a_set_has_no_distance_from_itself_and_none_from_its_shuffled_self() -> None:
    features = torch.randn(50, 80, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 columns"):
        frechet_distance(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="N of at least 2"):
        statistics(torch.zeros(1, 3))

"""The Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017, arXiv:1706.08500).

With features of the Inception network of 2015 it is the FID. With any other features, such as those of a classifier of
ours, it is not, and is never called so.
"""

import math
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from recipes.data.hub import first_line
from recipes.errors import ConfigError


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """|μ - μ'|² + tr(Σ + Σ' - 2 (Σ Σ')^½) of features [N, D] and [M, D], in float64; NaN where one is not finite.

    Raises:
        ValueError: the widths differ, or a set has fewer than two rows.
    """
    return between_gaussians(*statistics(features), *statistics(others))


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] (divided by N - 1) of features [N, D], float64.

    Raises:
        ValueError: there are fewer than two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features have the shape {tuple(features.shape)}, expected [N, D] with N of at least 2")
    rows = features.double()
    mean = rows.mean(0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def between_gaussians(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The squared 2-Wasserstein distance of two Gaussians (Dowson and Landau 1982).

    The trace of (Σ Σ')^½ is the sum of the singular values of Σ^½ Σ'^½: with symmetric roots, nothing complex comes
    up, and covariances of fewer rows than columns do no harm.

    Raises:
        ValueError: the widths differ.
    """
    if mean.shape != other_mean.shape:
        raise ValueError(f"features have {len(mean)} and {len(other_mean)} columns")
    if not all(part.isfinite().all() for part in (mean, covariance, other_mean, other_covariance)):
        return math.nan
    cross = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance)).sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * cross
    return max(distance.item(), 0.0)  # of equal sets, rounding may leave a little below


def _root(symmetric: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def reference_statistics(file: Path, width: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a reference set's features from a .npz file with `mu` and `sigma`, as ADM publishes them.

    Raises:
        ConfigError: there is no such file, or it holds something else than statistics of `width` features.
    """
    try:
        with np.load(file) as saved:
            mean, covariance = torch.from_numpy(saved["mu"]).double(), torch.from_numpy(saved["sigma"]).double()
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ConfigError(
            f"model.args.reference={file} cannot be read ({first_line(error)}); expected a .npz file with the mean mu "
            "and the covariance sigma of the feature extractor's features"
        ) from None
    if mean.shape != (width,) or covariance.shape != (width, width):
        raise ConfigError(
            f"model.args.reference={file} has mu of {tuple(mean.shape)} and sigma of {tuple(covariance.shape)}; the "
            f"feature extractor has {width} features"
        )
    return mean, covariance

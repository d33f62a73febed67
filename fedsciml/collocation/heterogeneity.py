"""How differently the points of the clients are distributed."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Generator, Tensor

ASSIGNED = 500
"""Largest number of points of a client in an optimal assignment."""


def heterogeneity(points: Sequence[Tensor]) -> float:
    """How differently the clients' points are distributed; 0 if alike.

    The 1-Wasserstein distance between two clients' points, as in arXiv 2410.13141,
    averaged over all pairs of clients: the mean length by which points must be moved.
    In one dimension all points count; in more, equally many of each client, at most
    ``ASSIGNED`` and drawn at random, by optimal assignment (H. W. Kuhn, 1955). So few
    random points of one distribution on [0, 1]^2 are 0.05 apart.

    Args:
        points: One tensor [n_m, d] per client.

    Returns:
        The distance, in units of the coordinates; 0 for a single client.

    Raises:
        ValueError: If a client has no points, or the clients' d differ.
    """
    shapes = [tuple(p.shape) for p in points]
    if any(len(s) != 2 or s[0] == 0 or s[1] != shapes[0][1] for s in shapes):
        raise ValueError(
            f"heterogeneity needs at least one point per client, tensors [n, d] of the "
            f"same d; got shapes {shapes}."
        )
    arrays = [p.detach().cpu().double() for p in points]
    if shapes[0][1] > 1:
        n = min(ASSIGNED, *(len(a) for a in arrays))
        arrays = [a[_permutation(len(a))[:n]] for a in arrays]
    distances = [_wasserstein(a, b) for a, b in combinations(arrays, 2)]
    return float(np.mean(distances)) if distances else 0.0


def _wasserstein(a: Tensor, b: Tensor) -> float:
    """1-Wasserstein distance of points [n, 1] and [m, 1], or [n, d] and [n, d]."""
    # scipy.stats takes half a second to import.
    if a.shape[1] == 1:
        from scipy.stats import wasserstein_distance

        return float(wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy()))
    from scipy.optimize import linear_sum_assignment

    lengths = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    return float(lengths[linear_sum_assignment(lengths)].mean())


def _permutation(n: int) -> Tensor:
    """A permutation of n numbers, the same in every call."""
    return torch.randperm(n, generator=Generator().manual_seed(0), device="cpu")

"""Random matrices, and norms, for the tests of linear algebra."""

import torch
from torch import Generator, Tensor

from fedsciml.linalg import Sketch, subspace_iteration


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def decaying(n: int, p: int, factor: float, seed: int = 0) -> Tensor:
    """J [n, p] with singular values 1, factor, factor^2, ..."""
    k = min(n, p)
    u, v = (torch.linalg.qr(random(m, k, seed=seed + m))[0] for m in (n, p))
    return u * factor ** torch.arange(k, dtype=torch.float64) @ v.mT


def gramian(sketch: Sketch) -> Tensor:
    return sketch.factor.mT @ sketch.factor


def spectral(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def by_products(jacobian: Tensor, residual: Tensor, rank: int) -> Sketch:
    """Subspace iteration that sees no J, only its products."""
    return subspace_iteration(
        lambda v: jacobian @ v,
        lambda w: jacobian.mT @ w,
        residual,
        jacobian.shape[1],
        rank,
        seeded(5),
    )

r"""Sketches: the leading part of a least-squares problem, in square-root form.

A client's rows ask for a step D with J D ~ -r. Its *sketch* is a smaller problem with
(nearly) the same normal equations,

    B D ~ c,    B = S V^T [k, p],  c = -U^T r [k],   J = U S V^T,

kept to its leading k singular values. J^T J and J J^T are never formed: squaring the
condition number would cost the last digits of the step. This module is linear algebra
alone; it knows no problem.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Sketch(NamedTuple):
    """A least-squares problem ``factor @ D ~ target``, rows sorted by importance.

    Attributes:
        factor: B = S V^T, shape [k, p]; its rows are orthogonal, the longest first.
        target: c, shape [k].
        error: Bound on ``|J^T J - B^T B|`` in the spectral norm.
    """

    factor: Tensor
    target: Tensor
    error: float = 0.0

    @property
    def rank(self) -> int:
        """Number of rows k."""
        return len(self.factor)

    @property
    def singular_values(self) -> Tensor:
        """Lengths of the factor's rows, shape [k], descending."""
        return torch.linalg.vector_norm(self.factor, dim=1)


def from_jacobian(jacobian: Tensor, residual: Tensor) -> Sketch:
    """The whole problem J D ~ -r by a full singular value decomposition.

    Args:
        jacobian: J, shape [n, p].
        residual: r, shape [n].

    Returns:
        Sketch of rank ``min(n, p)``.
    """
    return compress(Sketch(jacobian, -residual))


def compress(sketch: Sketch) -> Sketch:
    """The same problem with orthogonal rows, at most p of them.

    A thin QR of the longer side, then the SVD of the small triangle.
    """
    factor, target, error = sketch
    k, p = factor.shape
    if k > p:
        q, factor = torch.linalg.qr(factor)
        target = q.mT @ target
        u, s, vh = torch.linalg.svd(factor, full_matrices=False)
        return Sketch(s.unsqueeze(-1) * vh, u.mT @ target, error)
    q, r = torch.linalg.qr(factor.mT)
    u, s, vh = torch.linalg.svd(r.mT, full_matrices=False)
    return Sketch(s.unsqueeze(-1) * (vh @ q.mT), u.mT @ target, error)


def truncate(sketch: Sketch, rank: int) -> Sketch:
    """The leading ``rank`` rows (Eckart-Young), with the bound on what is lost.

    Raises:
        ValueError: If ``rank`` is negative.
    """
    if rank < 0:
        raise ValueError(f"A sketch needs a rank of at least 0, got {rank}.")
    if rank >= sketch.rank:
        return sketch
    dropped = float(sketch.factor[rank] @ sketch.factor[rank])
    return Sketch(sketch.factor[:rank], sketch.target[:rank], sketch.error + dropped)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """The sum of the problems: their rows stacked. Bounds add up."""
    parts = list(sketches)
    if not parts:
        raise ValueError("Nothing to merge: give at least one sketch.")
    return Sketch(
        torch.cat([s.factor for s in parts]),
        torch.cat([s.target for s in parts]),
        sum(s.error for s in parts),
    )


def range_finder(
    jacobian: Tensor,
    residual: Tensor,
    cutoff: float,
    start: int,
    generator: Generator,
    extra: int = 8,
) -> Sketch:
    """Sketch from an explicit J by a randomised range finder that grows.

    Q = orth(J Omega) with Gaussian Omega, B = Q^T J, c = -Q^T r, then the SVD of B
    (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithms 4.1 and 5.1). Columns
    are added, as many again each time, until the smallest singular value found is not
    above ``cutoff``: then those above it are all there.

    Args:
        jacobian: J, shape [n, p].
        residual: r, shape [n].
        cutoff: Absolute singular value down to which the problem is wanted.
        start: Columns to begin with, for example the rank of the round before.
        generator: Source of Omega.
        extra: Columns more than ``start``.

    Returns:
        Sketch with some rows below the cut-off left; truncate it as you wish.
    """
    n, p = jacobian.shape
    full = min(n, p)
    columns = min(max(start, 1) + extra, full)
    q = jacobian.new_zeros(n, 0)
    factor = jacobian.new_zeros(0, p)
    while True:
        if 2 * columns >= full:
            return from_jacobian(jacobian, residual)
        omega = torch.randn(
            p, columns - q.shape[1], generator=generator, dtype=torch.float64
        )
        y = jacobian @ omega.to(jacobian)
        for _ in range(2):  # Gram-Schmidt twice: once leaves what rounding mixed in
            y, _ = torch.linalg.qr(y - q @ (q.mT @ y))
        q = torch.cat([q, y], dim=1)
        factor = torch.cat([factor, y.mT @ jacobian])
        sketch = compress(Sketch(factor, -(q.mT @ residual)))
        if float(sketch.singular_values[-1]) <= cutoff:
            return sketch
        columns = min(2 * columns, full)

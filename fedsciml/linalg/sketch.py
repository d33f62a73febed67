r"""Sketches: the leading part of a least-squares problem, in square-root form.

A client's rows ask for a step D with J D ~ -r. Its *sketch* is a smaller problem with
(nearly) the same normal equations,

    B D ~ c,    B = S V^T [k, p],  c = -U^T r [k],   J = U S V^T,

kept to its leading k singular values. J^T J and J J^T are never formed: squaring the
condition number would cost the last digits of the step. This module is linear algebra
alone; it knows no problem.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

AT_ONCE = 2**25
"""Bytes of a matrix that are worked on at once."""

MANY = 256
"""Columns from which on a QR factorisation by its triangle alone is faster."""

ALIKE = 0.1
"""Least ratio of the diagonal of a gramian's Cholesky factor that is taken for that of
columns which are orthonormal but for rounding."""

BATCH = 64
"""Number of sketches above which ``gather`` compresses the sum in between."""


class Sketch(NamedTuple):
    """A least-squares problem ``factor @ D ~ target``; equal to itself alone.

    Attributes:
        factor: B = S V^T, shape [k, p]; from the functions that decompose, its rows are
            orthogonal, the longest first.
        target: c, shape [k].
        left: U, shape [n, k], with orthonormal columns; ``-left.T @ r`` is the target
            of another residual r [n]. Stays with the client; None if not needed.
        error: Bound on ``|J^T J - B^T B|`` in the spectral norm due to truncation. What
            a randomised method misses, below its cut-off squared, is not counted.
    """

    factor: Tensor
    target: Tensor
    left: Tensor | None = None
    error: float = 0.0

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    @property
    def rank(self) -> int:
        """Number of rows k."""
        return len(self.factor)

    @property
    def singular_values(self) -> Tensor:
        """Lengths of the factor's rows, shape [k]."""
        return torch.linalg.vector_norm(self.factor, dim=1)

    @property
    def gradient(self) -> Tensor:
        """Gradient J^T r of 1/2 |r|^2 as the sketch knows it, -B^T c, shape [p]."""
        return -(self.target @ self.factor)


def from_jacobian(jacobian: Tensor, residual: Tensor) -> Sketch:
    """The whole problem J D ~ -r by a full singular value decomposition.

    Args:
        jacobian: J, shape [n, p].
        residual: r, shape [n].

    Returns:
        Sketch of rank ``min(n, p)``, without error.
    """
    if len(jacobian) <= jacobian.shape[1]:
        return compress(Sketch(jacobian, -residual))
    q, r, lower = factorised(jacobian)
    u, s, vh = torch.linalg.svd(lower.mT @ r, full_matrices=False)
    left = q @ torch.linalg.solve_triangular(lower.mT, u, upper=True)
    return Sketch(s.unsqueeze(-1) * vh, -(left.mT @ residual), left)


def factorised(
    matrix: Tensor, many: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Q_1 [n, k], R [k, k] and L [k, k] of a tall A = Q_1 R with Q_1 L^-T orthonormal.

    Of ``many`` columns, ``MANY`` if not given, Householder's method finds R alone, in a
    third of the time; Q_1 = A R^-1 is orthonormal to rounding times the condition of A,
    its gramian L L^T near one. Where rounding hides columns it finds Q as well, and L
    is one.
    """
    if matrix.shape[1] >= (MANY if many is None else many):
        _, r = torch.linalg.qr(matrix, mode="r")
        q = torch.linalg.solve_triangular(r, matrix, upper=True, left=False)
        lower, alike = root(q.mT @ q)
        if alike:
            return q, r, lower
    q, r = torch.linalg.qr(matrix)
    return q, r, torch.eye(len(r), dtype=r.dtype, device=r.device)


def root(gram: Tensor) -> tuple[Tensor, bool]:
    """Lower Cholesky factor of a gramian, and whether it is near that of a basis."""
    lower, info = torch.linalg.cholesky_ex(gram)
    d = lower.diagonal()
    return lower, int(info) == 0 and bool(d.min() >= ALIKE * d.max())


def compress(sketch: Sketch) -> Sketch:
    """The same problem with orthogonal rows, the longest first.

    ``left`` is carried along, and is the rotation of the rows itself where there was
    none.
    """
    turn, s, basis = decomposed(sketch.factor)
    left = turn if sketch.left is None else sketch.left @ turn
    factor = basis.mul_(s.unsqueeze(-1))
    return Sketch(factor, turn.mT @ sketch.target, left, sketch.error)


def decomposed(factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The SVD W diag(s) V^T of a B [rows, p] with few rows: W, s [k] and V^T [k, p].

    A thin QR of B^T, then the SVD of the small triangle; a B with more rows than
    columns is first brought to square shape by its own QR. Beside B as much memory is
    taken as V^T has.
    """
    if factor.shape[0] > factor.shape[1]:
        q, square = torch.linalg.qr(factor)
        turn, s, basis = decomposed(square)
        return q @ turn, s, basis
    if factor.shape[0] == factor.shape[1]:
        return torch.linalg.svd(factor)
    q, r = torch.linalg.qr(factor.mT)
    u, s, vh = torch.linalg.svd(r.mT, full_matrices=False)
    return u, s, turned(vh, q.mT)


def turned(rotation: Tensor, rows: Tensor) -> Tensor:
    """A square matrix [k, k] times rows [k, p], in their memory."""
    for part in rows.split(max(1, AT_ONCE // (8 * max(1, len(rows)))), dim=1):
        part.copy_(rotation @ part)
    return rows


def truncate(sketch: Sketch, rank: int) -> Sketch:
    """The leading ``rank`` rows of a sketch with orthogonal rows (Eckart-Young).

    The bound on the error grows by the first dropped eigenvalue, s_{rank+1}^2.

    Raises:
        ValueError: If ``rank`` is negative.
    """
    if rank < 0:
        raise ValueError(f"A sketch needs a rank of at least 0, got {rank}.")
    if rank >= sketch.rank:
        return sketch
    dropped = float(sketch.factor[rank] @ sketch.factor[rank])
    left = None if sketch.left is None else sketch.left[:, :rank]
    return Sketch(
        sketch.factor[:rank], sketch.target[:rank], left, sketch.error + dropped
    )


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """The sum of the problems: their rows stacked in the given order, errors added.

    If every part has its ``left``, the result has the block-diagonal one.

    Raises:
        ValueError: If there is nothing to merge, or the parts differ in p.
    """
    parts = list(sketches)
    if not parts:
        raise ValueError("Nothing to merge: give at least one sketch.")
    sizes = sorted({s.factor.shape[1] for s in parts})
    if len(sizes) > 1:
        raise ValueError(
            f"Sketches for p = {', '.join(map(str, sizes))} parameters cannot be "
            "merged. Did the clients build the same network?"
        )
    lefts = [s.left for s in parts if s.left is not None]
    return Sketch(
        torch.cat([s.factor for s in parts]),
        torch.cat([s.target for s in parts]),
        torch.block_diag(*lefts) if len(lefts) == len(parts) else None,
        sum(s.error for s in parts),
    )


def gather(sketches: Sequence[Sketch]) -> Sketch:
    """The sum of many problems, at a cost that grows linearly with their number.

    Up to ``BATCH`` sketches are stacked as by ``merge``. Of more, one batch after the
    other is added to the sum of those before, without the singular values that are
    rounding errors of the largest: as the sum has far fewer directions than there are
    rows, no decomposition grows with the number of sketches.

    Args:
        sketches: Without ``left``.

    Returns:
        Sketch of the sum. ``left`` is None if all rows are stacked, else W [rows of all
        sketches, k] with orthonormal columns: the target of stacked targets c is W^T c.

    Raises:
        ValueError: As ``merge``.
    """
    batches = [
        merge(sketches[k : k + BATCH]) for k in range(0, len(sketches), BATCH)
    ] or [merge(sketches)]
    if len(batches) == 1:
        return batches[0]
    whole, *rest = map(_resolved, batches)
    for batch in rest:
        whole = _resolved(merge([whole, batch]))
    return whole


def _resolved(sketch: Sketch) -> Sketch:
    """Compressed, without singular values that are rounding errors of the largest."""
    found = compress(sketch)
    s = found.singular_values
    return truncate(found, int((s > torch.finfo(s.dtype).eps * s[:1]).sum()))

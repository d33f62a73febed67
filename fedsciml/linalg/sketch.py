r"""Sketches: the leading part of a least-squares problem, in square-root form.

A client's rows ask for a step D with J D ~ -r. Its *sketch* is a smaller problem with
(nearly) the same normal equations,

    B D ~ c,    B = S V^T [k, p],  c = -U^T r [k],   J = U S V^T,

kept to its leading k singular values. J^T J and J J^T are never formed: squaring the
condition number would cost the last digits of the step. This module is linear algebra
alone; it knows no problem.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

OVERSAMPLE = 8
"""Columns a randomised method draws beyond the rank it is asked for (Halko et al.)."""

BATCH = 64
"""Sketches that are stacked at once; of more, the sum is compressed in between."""


class Sketch(NamedTuple):
    """A least-squares problem ``factor @ D ~ target``.

    Attributes:
        factor: B = S V^T, shape [k, p]; from the functions that decompose, its rows are
            orthogonal, the longest first.
        target: c, shape [k].
        left: U, shape [n, k], orthonormal columns; projects a residual [n] to a target
            by ``-left.T @ r``. Stays with the client; None where nobody needs it.
        error: Bound on ``|J^T J - B^T B|`` in the spectral norm that truncation adds. A
            randomised method's own miss, below its cut-off squared, is not in it.
    """

    factor: Tensor
    target: Tensor
    left: Tensor | None = None
    error: float = 0.0

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
        return compress(Sketch(jacobian, -residual))._replace(error=0.0)
    q, r = torch.linalg.qr(jacobian)
    return compress(Sketch(r, -(q.mT @ residual), q))


def compress(sketch: Sketch) -> Sketch:
    """The same problem with orthogonal rows, the longest first.

    A thin QR of B^T, then the SVD of the small triangle; a B with more rows than
    columns is first brought to square shape by its own QR. ``left`` is carried along,
    and is the rotation of the rows itself where there was none.
    """
    factor, target, left, error = sketch
    if factor.shape[0] > factor.shape[1]:
        q, factor = torch.linalg.qr(factor)
        target = q.mT @ target
        left = q if left is None else left @ q
    q, r = torch.linalg.qr(factor.mT)
    u, s, vh = torch.linalg.svd(r.mT, full_matrices=False)
    factor = s.unsqueeze(-1) * (vh @ q.mT)
    left = u if left is None else left @ u
    return Sketch(factor, u.mT @ target, left, error)


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
    """The sum of the problems: their rows stacked, in the given order. Bounds add up.

    Where every part has its ``left``, the result has the block-diagonal one.

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
    """Compressed, without what is rounding error of the largest singular value."""
    found = compress(sketch)
    s = found.singular_values
    return truncate(found, int((s > torch.finfo(s.dtype).eps * s[:1]).sum()))


def range_finder(
    jacobian: Tensor,
    residual: Tensor,
    cutoff: float,
    columns: int,
    generator: Generator,
) -> Sketch:
    """Sketch from an explicit J by a randomised range finder that grows.

    Q = orth(J Omega) with Gaussian Omega, B = Q^T J, c = -Q^T r, then the SVD of B
    (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithms 4.1 and 5.1). Columns
    are added, as many again at most, until the smallest singular value found is not
    above ``cutoff``: then those above it are all there. When three quarters of
    min(n, p) would not do, the full SVD is cheaper.

    Args:
        jacobian: J, shape [n, p].
        residual: r, shape [n].
        cutoff: Absolute singular value down to which the problem is wanted.
        columns: To begin with, for example the rank of the round before plus
            ``OVERSAMPLE``.
        generator: Source of Omega.

    Returns:
        Sketch with some rows below the cut-off left; truncate it as you wish. ``error``
        counts only what is truncated later.
    """
    n, p = jacobian.shape
    q = jacobian.new_zeros(n, 0)
    factor = jacobian.new_zeros(0, p)
    columns = max(columns, 1)
    while 4 * columns < 3 * min(n, p):
        omega = _gaussian(p, columns - q.shape[1], generator, jacobian)
        y = jacobian @ omega
        if q.shape[1]:
            y -= q @ (q.mT @ y)
            y, _ = torch.linalg.qr(y)
            y -= q @ (q.mT @ y)  # twice is enough: once leaves what rounding mixed in
        y, _ = torch.linalg.qr(y)
        q = torch.cat([q, y], dim=1)
        factor = torch.cat([factor, y.mT @ jacobian])
        sketch = compress(Sketch(factor, -(q.mT @ residual)))
        assert sketch.left is not None
        values = sketch.singular_values
        if float(values[-1]) <= cutoff:
            return sketch._replace(left=q @ sketch.left)
        columns += _missing(values, cutoff)
    return from_jacobian(jacobian, residual)


def _missing(values: Tensor, cutoff: float) -> int:
    """How many more columns a range finder should draw to reach the cut-off.

    Judged by how fast the singular values [k] fall from the middle to three quarters,
    with half as much again to spare: a range finder underestimates the last values,
    and the decay slows down. At most k columns, as many as there are.
    """
    k = len(values)
    middle, late = k // 2, 3 * k // 4
    high, low = float(values[middle]), float(values[late])
    if not (cutoff > 0 and low < high):
        return k
    beyond = math.log(low / cutoff) / math.log(high / low) * (late - middle)
    return min(k, max(0, late - k + math.ceil(1.5 * beyond)) + OVERSAMPLE)


def subspace_iteration(
    jvp: Callable[[Tensor], Tensor],
    vjp: Callable[[Tensor], Tensor],
    residual: Tensor,
    size: int,
    rank: int,
    generator: Generator,
    power_steps: int = 5,
) -> Sketch:
    """Sketch from J v and J^T w alone: randomised subspace iteration, Rayleigh-Ritz.

    The published algorithm (arXiv 2601.13608; Halko et al., algorithm 4.4): Gaussian
    start, ``power_steps`` times V = orth(J^T J V). The Ritz values of J^T J on V are
    the squared singular values of J V, so the small problem is solved by the SVD of J V
    and stays in square-root form.

    Args:
        jvp: v [p] to J v [n].
        vjp: w [n] to J^T w [p].
        residual: r, shape [n].
        size: Number of parameters p.
        rank: Rank wanted.
        generator: Source of the start.
        power_steps: Number of power steps.

    Returns:
        Sketch of rank ``min(rank, n, p)``. Its error bound is the last Ritz value that
        was dropped, an estimate.
    """
    columns = min(rank + OVERSAMPLE, len(residual), size)
    if not columns:  # a client without rows
        return from_jacobian(residual.new_zeros(0, size), residual)
    v, _ = torch.linalg.qr(_gaussian(size, columns, generator, residual))
    for _ in range(power_steps):
        w = torch.stack([vjp(jvp(column)) for column in v.unbind(1)], dim=1)
        v, _ = torch.linalg.qr(w)
    image = torch.stack([jvp(column) for column in v.unbind(1)], dim=1)
    u, s, vh = torch.linalg.svd(image, full_matrices=False)
    found = Sketch(s.unsqueeze(-1) * (vh @ v.mT), -(u.mT @ residual), u)
    return truncate(found, rank)


def _gaussian(rows: int, columns: int, generator: Generator, like: Tensor) -> Tensor:
    """Standard normal [rows, columns], drawn in float64 on the generator's device."""
    draw = torch.randn(
        rows, columns, generator=generator, dtype=torch.float64, device=generator.device
    )
    return draw.to(like)

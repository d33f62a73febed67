"""Sketches by randomised methods: a range finder and subspace iteration."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from fedsciml.linalg.sketch import Sketch, compress, from_jacobian, truncate

OVERSAMPLE = 8
"""Columns that a randomised method draws beyond the rank wanted (Halko et al.)."""

POWER = 2
"""Power steps where the leading singular values alone are wanted: each squares twice
how much they stand out (Halko et al., section 4.5)."""

POWER_STEPS = 5
"""Of a subspace iteration, if nothing is said."""

MISSED = 0.01
"""Largest part of the gradient J^T r that a range finder may miss. Where a large
residual lies in directions below the cut-off, as on the plateau before an oscillating
solution, it misses more than there is, and no damped step descends. Elsewhere it was
seen to miss 1e-3 at most."""


def range_finder(
    jacobian: Tensor,
    residual: Tensor,
    cutoff: float,
    columns: int,
    generator: Generator,
    gradient: float = math.inf,
    most: int | None = None,
) -> Sketch:
    """Sketch from an explicit J by a randomised range finder that grows.

    Q = orth(J Omega) with Gaussian Omega, B = Q^T J, c = -Q^T r, then the SVD of B
    (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithms 4.1 and 5.1). Columns
    are added, as many again at most, until the smallest singular value found is not
    above ``cutoff``: then those above it are all there. When three quarters of
    min(n, p) would not do, the full SVD is cheaper.

    Q Q^T J differs from J by about the cut-off, so the gradient J^T Q Q^T r may be off
    by the cut-off times |r|. If that is more than ``MISSED``, r is added to Q. Then the
    gradient is exact, and every damped step of the truncated problem descends: with
    c = -U^T r and r = Q Q^T r, D^T J^T r = -sum s^2 c^2 / (s^2 + mu).

    Args:
        jacobian: J, shape [n, p].
        residual: r, shape [n].
        cutoff: Absolute singular value down to which the problem is wanted.
        columns: Number of columns to begin with, for example the rank of the round
            before plus ``OVERSAMPLE``.
        generator: Source of Omega.
        gradient: Norm of the whole gradient, of which this is a part; the error is
            small only if it is small against this one as well.
        most: Rank beyond which nothing is wanted: then the leading ones alone are
            found, by ``POWER`` power steps; None for no bound.

    Returns:
        Sketch that may have rows below the cut-off, to be truncated. Its ``error`` is
        zero: it counts only truncation.
    """
    n, p = jacobian.shape
    if most is not None and 4 * (most + OVERSAMPLE) < 3 * min(n, p):
        y = jacobian @ gaussian(p, most + OVERSAMPLE, generator, jacobian)
        for _ in range(POWER):
            y = jacobian @ torch.linalg.qr(jacobian.mT @ torch.linalg.qr(y)[0])[0]
        q, _ = torch.linalg.qr(y)
        few = compress(Sketch(q.mT @ jacobian, -(q.mT @ residual)))
        assert few.left is not None
        return truncate(few._replace(left=q @ few.left), most)
    q = jacobian.new_zeros(n, 0)
    factor = jacobian.new_zeros(0, p)
    columns = max(columns, 1)
    while 4 * columns < 3 * min(n, p):
        omega = gaussian(p, columns - q.shape[1], generator, jacobian)
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
            sketch = sketch._replace(left=q @ sketch.left)
            return _with_gradient(sketch, jacobian, residual, gradient)
        columns += _missing(values, cutoff)
    return from_jacobian(jacobian, residual)


def _with_gradient(
    sketch: Sketch, jacobian: Tensor, residual: Tensor, whole: float
) -> Sketch:
    """The sketch, with r in the span of ``left`` if it misses too much of J^T r."""
    gradient = residual @ jacobian
    least = MISSED * min(float(gradient.norm()), whole)
    if not float((gradient - sketch.gradient).norm()) > least:
        return sketch
    assert sketch.left is not None
    rest = residual
    for _ in range(2):  # twice is enough
        rest = rest - sketch.left @ (sketch.left.mT @ rest)
    if not float(rest.norm()) > torch.finfo(rest.dtype).eps * float(residual.norm()):
        return sketch  # nothing but rounding is missed
    rest = (rest / rest.norm()).unsqueeze(1)
    factor = torch.cat([sketch.factor, rest.mT @ jacobian])
    target = torch.cat([sketch.target, -(rest.mT @ residual)])
    return compress(Sketch(factor, target, torch.cat([sketch.left, rest], dim=1)))


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
    power_steps: int = POWER_STEPS,
    oversample: int = OVERSAMPLE,
) -> Sketch:
    """Sketch from J v and J^T w alone: randomised subspace iteration, Rayleigh-Ritz.

    The published algorithm (arXiv 2601.13608; Halko et al., algorithm 4.4): Gaussian
    start, ``power_steps`` times V = orth(J^T J V). The Ritz values of J^T J on V are
    the squared singular values of J V, so the small problem is solved by the SVD of J V
    and stays in square-root form.

    Args:
        jvp: Columns V [p, k] to J V [n, k].
        vjp: Columns W [n, k] to J^T W [p, k].
        residual: r, shape [n].
        size: Number of parameters p.
        rank: Rank wanted.
        generator: Source of the start.
        power_steps: Number of power steps.
        oversample: Columns drawn beyond the rank.

    Returns:
        Sketch of rank ``min(rank, n, p)``. Its error bound is the last Ritz value that
        was dropped, an estimate.
    """
    columns = min(rank + oversample, len(residual), size)
    if not columns:  # a client without rows
        return from_jacobian(residual.new_zeros(0, size), residual)
    v, _ = torch.linalg.qr(gaussian(size, columns, generator, residual))
    for _ in range(power_steps):
        v, _ = torch.linalg.qr(vjp(jvp(v)))
    u, s, vh = torch.linalg.svd(jvp(v), full_matrices=False)
    found = Sketch(s.unsqueeze(-1) * (vh @ v.mT), -(u.mT @ residual), u)
    return truncate(found, rank)


def gaussian(rows: int, columns: int, generator: Generator, like: Tensor) -> Tensor:
    """Standard normal [rows, columns], drawn in float64 on the generator's device."""
    draw = torch.randn(
        rows, columns, generator=generator, dtype=torch.float64, device=generator.device
    )
    return draw.to(like)

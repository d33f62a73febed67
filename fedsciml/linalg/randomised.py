"""Sketches by randomised methods: a range finder and subspace iteration."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from fedsciml.linalg.rows import Piece, Rows, TestMatrix, whole
from fedsciml.linalg.sketch import (
    AT_ONCE,
    Sketch,
    compress,
    factorised,
    from_jacobian,
    root,
    truncate,
    turned,
)

OVERSAMPLE = 8
"""Columns that a randomised method draws beyond the rank wanted (Halko et al.)."""

POWER = 2
"""Power steps where the leading singular values alone are wanted: each squares twice
how much they stand out (Halko et al., section 4.5)."""

POWER_STEPS = 5
"""Of a subspace iteration, if nothing is said."""

HELD = 2**27
"""Bytes of (r, J Omega) that are held; of more rows it is made again, piece by piece,
whenever it is needed."""

RESOLVED = 4500
"""Rounding units of a column's length, 1e-12 of it in float64, that must be new beside
the columns before it: then columns that are not held can still be orthonormalised."""


@dataclass(frozen=True, eq=False)
class Again:
    """Makes U [n, k] of a sketch again, where there are too many rows to hold it.

    U = Q_1 M with Q_1 = (r / |r|, J Omega) R^-1, see ``ranged``.

    Attributes:
        drawn: Numbers of columns of Omega, as they were drawn, int64.
        triangle: R, shape [l, l].
        mixing: M, shape [l, k].
    """

    drawn: Tensor
    triangle: Tensor
    mixing: Tensor

    def targets(self, rows: Rows, generator: Generator, residuals: Tensor) -> Tensor:
        """-U^T r' of other residuals r' [C, n], shape [C, k].

        Args:
            rows: Those that were sketched, linearised where they were.
            generator: As it was before the sketch.
            residuals: One for each r'.
        """
        span = _Span(rows)
        for columns in self.drawn.tolist():
            span.omegas.append(rows.draw(columns, generator))
        span.triangle = self.triangle
        found = residuals.new_zeros(len(residuals), len(self.triangle))
        for place, _, q in span.columns():
            found.addmm_(residuals[:, place], q)
        return -(found @ self.mixing)


class Ranged(NamedTuple):
    """What the range finder found.

    Attributes:
        sketch: Without ``left`` where that was too large to hold.
        again: What makes it again there; else None.
    """

    sketch: Sketch
    again: Again | None = None


def range_finder(
    jacobian: Tensor,
    residual: Tensor,
    cutoff: float,
    columns: int,
    generator: Generator,
    most: int | None = None,
) -> Sketch:
    """The sketch of ``ranged`` for an explicit J [n, p] and r [n]."""
    return ranged(whole(jacobian, residual), cutoff, columns, generator, most).sketch


def ranged(
    rows: Rows,
    cutoff: float,
    columns: int,
    generator: Generator,
    most: int | None = None,
) -> Ranged:
    """Sketch of J D ~ -r by a randomised range finder that grows.

    Q = orth(r, J Omega) with a random Omega, B = Q^T J, c = -Q^T r, then the SVD of B
    (Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithms 4.1 and 5.1). Columns
    are added, as many again at most, until the smallest singular value found is not
    above ``cutoff``: then those above it are all there. When three quarters of
    min(n, p) would not do and J is in memory, its full SVD is cheaper.

    As r is in the span of Q, the gradient J^T Q Q^T r is exact whatever Q misses of J,
    and every damped step of the truncated problem descends: with c = -U^T r and
    r = Q Q^T r, D^T J^T r = -sum s^2 c^2 / (s^2 + mu).

    Householder's method finds R of Y = (r / |r|, J Omega) = Q R; Q itself would take it
    twice as long. Q_1 = Y R^-1 is orthonormal to rounding times the condition of Y, its
    gramian L L^T near one, and Q = Q_1 L^-T to rounding. R, the gramian, B and c are
    sums over the rows, so neither J nor Q need ever be in memory.

    Args:
        rows: J [n, p] and r [n].
        cutoff: Absolute singular value down to which the problem is wanted.
        columns: Number of columns of Omega to begin with, for example the rank of the
            round before plus ``OVERSAMPLE``.
        generator: Source of Omega.
        most: Rank beyond which nothing is wanted: then the leading ones alone are
            found, by ``POWER`` power steps; None for no bound.

    Returns:
        Sketch that may have rows below the cut-off, to be truncated. Its ``error`` is
        zero: it counts only truncation.
    """
    n, p = len(rows.residual), rows.size
    if most is not None and 4 * (most + OVERSAMPLE) < 3 * min(n, p):
        return Ranged(_leading(rows, most, generator))
    span, columns, largest = _Span(rows), max(columns, 1), min(n - 1, p)
    while 4 * columns < 3 * min(n, p) or not rows.whole:
        more = min(columns, largest) - sum(span.drawn)
        sketch, mixing = span.sketch(rows.draw(more, generator))
        # One value may be small because J hardly sees r; Omega knows of the others.
        values = sketch.singular_values[: sketch.rank - span.first]
        if span.short or columns >= largest or float(values[-1]) <= cutoff:
            if span.q is not None:
                return Ranged(sketch._replace(left=span.q @ mixing))
            drawn = torch.tensor(span.drawn, device="cpu")
            return Ranged(sketch, Again(drawn, span.triangle, mixing))
        columns += _missing(values, cutoff)
    (piece,) = rows.pieces()
    return Ranged(from_jacobian(piece.jacobian().contiguous(), rows.residual))


def _leading(rows: Rows, rank: int, generator: Generator) -> Sketch:
    y = rows.mixed(rows.draw(rank + OVERSAMPLE, generator))
    for _ in range(POWER):
        y = rows.mixed(torch.linalg.qr(rows.projected(torch.linalg.qr(y)[0]).mT)[0])
    q, _ = torch.linalg.qr(y)
    few = compress(Sketch(rows.projected(q), -(q.mT @ rows.residual)))
    assert few.left is not None
    return truncate(few._replace(left=q @ few.left), rank)


class _Span:
    """Q_1 = Y R^-1 of Y = (r / |r|, J Omega), whole or piece by piece.

    Attributes:
        omegas: Omega, side by side.
        y: Y, shape [n, l]; None where it is too large to hold.
        q: Q_1 or Q, shape [n, l], where Y is held, else None.
        triangle: R, shape [l, l], where it is not.
        first: 1 where r is the first column; it is not where r = 0.
        short: Whether columns had to be left out that rounding hides.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        norm = float(rows.residual.norm())
        self._scale = 1 / norm if norm > 0 else 0.0
        self.first = int(norm > 0)
        self.omegas: list[TestMatrix] = []
        self.y: Tensor | None = None
        self.q: Tensor | None = None
        self.triangle = rows.residual.new_zeros(0, 0)
        self.short = False

    @property
    def drawn(self) -> list[int]:
        """Numbers of columns of Omega."""
        return [int(omega.shape[1]) for omega in self.omegas]

    def sketch(self, omega: TestMatrix) -> tuple[Sketch, Tensor]:
        """B and c with more columns, and M of U = Q_1 M; orthogonal rows."""
        rows = self.rows
        self.omegas.append(omega)
        width = self.first + sum(self.drawn)
        if rows.residual.element_size() * len(rows.residual) * width > HELD:
            self.y = self.q = None
            lower, b, c = self._summed()
        else:
            if self.y is None:
                self.y = torch.cat([self._of(piece) for piece in rows.pieces()])
            else:
                self.y = torch.cat([self.y, rows.mixed(omega)], dim=1)
            self.q, _, lower = factorised(self.y, many=0)
            b, c = rows.projected(self.q), -(self.q.mT @ rows.residual)
        core = torch.linalg.solve_triangular(lower, triangular([b.mT]).mT, upper=False)
        u, _, _ = torch.linalg.svd(core)
        mixing = torch.linalg.solve_triangular(lower.mT, u, upper=True)
        return Sketch(turned(mixing.mT, b), mixing.mT @ c), mixing

    def columns(self) -> Iterator[tuple[slice, Piece, Tensor]]:
        """Places of the pieces, the pieces, and their rows of Q_1 [m, l]."""
        r = self.triangle
        for place, piece in self.rows.placed():
            y = self._of(piece)[:, : len(r)]
            yield (
                place,
                piece,
                torch.linalg.solve_triangular(r, y, upper=True, left=False),
            )

    def _of(self, piece: Piece) -> Tensor:
        """Rows of Y [m, l]."""
        first = [self._scale * piece.residual[:, None]] if self.first else []
        return torch.cat([*first, *map(piece.mixed, self.omegas)], dim=1)

    def _summed(self) -> tuple[Tensor, Tensor, Tensor]:
        """L, Q_1^T J and -Q_1^T r of a Y that is not held."""
        self.triangle = triangular(self._of(piece) for piece in self.rows.pieces())
        gram, b, c = self._sums()
        lower, well = root(gram)
        if not well:
            r = self.triangle
            least = RESOLVED * torch.finfo(r.dtype).eps * r.norm(dim=0)
            keep = int((r.diagonal().abs() > least).long().cumprod(0).sum())
            self.triangle, self.short = r[:keep, :keep], True
            gram, b, c = self._sums()
            lower = torch.linalg.cholesky(gram)
        return lower, b, c

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Q_1^T Q_1, Q_1^T J and -Q_1^T r."""
        width, zeros = len(self.triangle), self.rows.residual.new_zeros
        gram, b, c = zeros(width, width), zeros(width, self.rows.size), zeros(width)
        for _, piece, q in self.columns():
            gram.addmm_(q.mT, q)
            b.addmm_(q.mT, piece.jacobian())
            c.addmv_(q.mT, piece.residual, alpha=-1)
        return gram, b, c


def triangular(parts: Iterable[Tensor]) -> Tensor:
    """R of the QR factorisation of parts [m, l], one below the other."""
    found: Tensor | None = None
    for part in parts:
        width = max(1, part.shape[1])
        step = max(AT_ONCE // (8 * width), 2 * width)
        for rows in part.split(step):
            above = rows if found is None else torch.cat([found, rows])
            found = torch.linalg.qr(above, mode="r")[1]
    assert found is not None
    return found


def decay(values: Tensor) -> float:
    """In how many directions singular values [k] fall by a factor e; 0 if not known.

    Judged by the part from the middle to three quarters.
    """
    middle, late = len(values) // 2, 3 * len(values) // 4
    if middle == late or not 0 < float(values[late]) < float(values[middle]):
        return 0.0
    return (late - middle) / math.log(float(values[middle] / values[late]))


def _missing(values: Tensor, cutoff: float) -> int:
    """How many more columns a range finder should draw to reach the cut-off.

    Judged by how fast the singular values [k] fall, with half as much again to spare: a
    range finder underestimates the last values, and the decay slows down. At most k
    columns, as many as there are.
    """
    k, fall, late = len(values), decay(values), 3 * len(values) // 4
    if not (cutoff > 0 and fall > 0):
        return k
    beyond = math.log(float(values[late]) / cutoff) * fall
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

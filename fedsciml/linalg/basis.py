r"""A basis of the step's space that every party computes alike.

Whoever knows theta, the network, the equation and the domain can form the Jacobian at
points of its own choice. Parties that choose the same points, the *anchors*, all have
the same J_a [n, p], and where the anchors lie as densely as the residual asks, its row
space holds that of every party's J_m. A party then tells its part of J_m D ~ -r_m in k
coordinates instead of p numbers.

**The same at every party.** Singular vectors are not: under another rounding their
signs, and their order within clusters, change. But rows of J_a are the same everywhere
to rounding, so one party chooses k *pivots* among them (``pivots``), and all form

    J_a[pivots]^T = Q R,     J_a Q = U R_w,

two QR factorisations with positive diagonals, which are unique. Pivots come in the
order of a pivoted QR, so diag(R) falls from s_1 to about the cut-off. An error e of J_a
turns column j of Q by about e / R_jj, and away from the columns before it: what it
mixes in is what J maps to R_jj at most, an error of e in J D.

**Whitening.** With W = Q R_w^-1 the columns of J_a W are orthonormal, so those of
A_m = J_m W are well conditioned together, sum_m A_m^T A_m = A^T A about 1, wherever the
parties' rows look like the anchors. There a gramian loses no digits, and

    G = sum_m A_m^T A_m,    t = -sum_m A_m^T r_m

is all that the whole problem J D ~ -r within the span of Q consists of. With G = X
diag(w) X^T, eigenvalues below ``SEEN`` of the largest left out,

    B = diag(sqrt w) X^T R_w Q^T,    c = diag(1 / sqrt w) X^T t,

is B D ~ c in square-root form again: B^T B = Q Q^T J^T J Q Q^T, B^T c = -Q Q^T J^T r.
As R_w carries the scales of the directions, |D|^2 and every damping are as ever.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from fedsciml.linalg.randomised import OVERSAMPLE, gaussian
from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import Spectrum, spectrum

SEEN = 1e-14
"""Eigenvalue of a summed gramian, relative to the largest, that still tells anything:
where no party has rows it is rounding."""

MANY = 100
"""Rows of a sketch from which on few of its columns are looked at one by one."""

CHECKS = 4
"""Numbers by which parties compare their bases."""


class Basis(NamedTuple):
    """k directions of the step's space; equal to itself alone.

    Attributes:
        directions: Q, shape [p, k], orthonormal.
        triangle: R of the pivots, shape [k, k], upper triangular.
        whitening: R_w, shape [k, k], upper triangular; None where nothing is summed.
    """

    directions: Tensor
    triangle: Tensor
    whitening: Tensor | None = None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    @property
    def size(self) -> int:
        """Number of directions k."""
        return self.directions.shape[1]

    def restricted(self, jacobian: Tensor) -> Tensor:
        """J Q, shape [n, k]: the Jacobian in the coordinates z of D = Q z."""
        return jacobian @ self.directions

    def whitened(self, restricted: Tensor) -> Tensor:
        """A = J W from J Q, shape [n, k]."""
        return torch.linalg.solve_triangular(
            self.scales, restricted, upper=True, left=False
        )

    @property
    def scales(self) -> Tensor:
        """R_w.

        Raises:
            ValueError: If the basis was made without.
        """
        if self.whitening is None:
            raise ValueError("This basis was made without a whitening; make it with.")
        return self.whitening

    def coordinates(self, steps: Tensor) -> Tensor:
        """z = Q^T D of steps [..., p], shape [..., k]."""
        return steps @ self.directions

    def steps(self, coordinates: Tensor) -> Tensor:
        """D = Q z of coordinates [..., k], shape [..., p]."""
        return coordinates @ self.directions.mT

    def outside(self, vector: Tensor) -> Tensor:
        """What of a vector [p] the span does not hold, shape [p]."""
        for _ in range(2):  # twice is enough: once leaves what rounding mixed in
            vector = vector - self.steps(self.coordinates(vector))
        return vector

    def lifted(self, problem: Spectrum) -> Spectrum:
        """A problem in the coordinates z, basis [., k], as one for D, basis [., p]."""
        return problem._replace(basis=self.steps(problem.basis))

    def check(self, generator: Generator) -> Tensor:
        """Random products of R^T Q^T and R_w, by which bases are compared [CHECKS].

        A wrong row of J_a changes them as much as it changes J_a, a rounding of the
        last columns of Q no more than rounding.
        """
        p, k = self.directions.shape
        left = gaussian(CHECKS, p, generator, self.directions)
        right = gaussian(k, CHECKS, generator, self.directions)
        rows = (left @ self.directions) @ (self.triangle @ right)
        if self.whitening is None:
            return rows.diagonal()
        return rows.diagonal() + (self.whitening @ right).norm(dim=0)


def pivots(
    jacobian: Tensor,
    cutoff: float,
    generator: Generator,
    rank: int = 24,
    more: int = 0,
    least: float = 0.0,
) -> Tensor:
    """Rows of J that span its row space down to a singular value, the longest first.

    Pivoted QR of (Omega J^T), Omega Gaussian with some more rows than there will be
    pivots: the columns' lengths beyond those chosen stay as they are to a factor near
    one (Duersch, Gu, SIAM J. Sci. Comput. 39, 2017, arXiv 1509.06820). Where these are
    ``MANY`` it sees as many columns as rows, those that an LU decomposition with
    partial pivoting takes first: they span the others as well (Dong, Martinsson, Adv.
    Comput. Math. 49, 2023, arXiv 2104.05877). Row j is chosen while what the rows
    before it leave of it is longer than the cut-off.

    Args:
        jacobian: J, shape [n, p].
        cutoff: Absolute length, positive.
        generator: Source of Omega.
        rank: About how many pivots there will be.
        more: How many beyond the cut-off are chosen too.
        least: Absolute length down to which these are.

    Returns:
        Numbers of rows [k], int64, on the CPU; k >= 1 unless J is zero or has no rows.

    Raises:
        FloatingPointError: If J is not finite.
    """
    from scipy.linalg import qr  # a tenth of a second to import

    n, p = jacobian.shape
    most = min(n, p)
    while True:
        rows = min(5 * rank // 4 + OVERSAMPLE, most)
        exact = rows >= most
        if exact:
            small = jacobian.mT
        else:
            small = gaussian(rows, p, generator, jacobian) @ jacobian.mT
        if not small.sum().isfinite() and not small.isfinite().all():
            raise FloatingPointError(
                "The Jacobian at the anchors is not finite: a derivative does not "
                "exist there, as of a root or a logarithm at 0. Mend the residual, or "
                "the sample of its term"
            )
        few = None if exact or rows < MANY else _spanning(small)
        small = small if few is None else small[:, few]
        triangle, order = qr(small.cpu().numpy(), mode="r", pivoting=True)
        lengths = torch.from_numpy(triangle).diagonal().abs()
        if not exact:  # of the rows of Omega, as many are left for column j
            lengths = lengths / torch.arange(rows, 0, -1, device="cpu") ** 0.5
        found = int((lengths > cutoff).long().cumprod(0).sum())
        found += int((lengths[found : found + more] > least).long().cumprod(0).sum())
        found = max(found, int((lengths[:1] > 0).sum()))
        if exact or found <= rows - OVERSAMPLE:
            chosen = torch.from_numpy(order[:found].astype("int64"))
            return chosen if few is None else few[chosen]
        rank = 2 * rank


def _spanning(matrix: Tensor) -> Tensor:
    """Numbers of m columns that span those of a matrix [m, n], [m] on the CPU."""
    m, n = matrix.shape
    order = list(range(n))
    _, swaps, _ = torch.linalg.lu_factor_ex(matrix.mT)
    for i, j in enumerate(swaps.tolist()):
        order[i], order[j - 1] = order[j - 1], order[i]
    return torch.tensor(order[:m], device="cpu")


def basis(jacobian: Tensor, pivots: Tensor, whiten: bool = True) -> Basis:
    """The basis that some rows of J span, and the whitening of all of them.

    Args:
        jacobian: J_a, shape [n, p].
        pivots: Numbers of rows [k], int64, k <= min(n, p).
        whiten: Whether that is wanted: it costs as much again.
    """
    q, r = torch.linalg.qr(jacobian[pivots.to(jacobian.device)].mT)
    sign = _signs(r)
    q *= sign
    whitening = None
    if whiten:
        _, whitening = torch.linalg.qr(jacobian @ q, mode="r")
        whitening = _signs(whitening)[:, None] * whitening
    return Basis(q, sign[:, None] * r, whitening)


def extended(basis: Basis, direction: Tensor, scale: float) -> Basis:
    """The basis with one more direction, of which the anchors know nothing.

    Args:
        basis: To which it is added.
        direction: Shape [p]; its part outside of the span is meant.
        scale: About |J d| of the unit vector d there, positive.
    """
    rest = basis.outside(direction)
    q = torch.cat([basis.directions, (rest / rest.norm())[:, None]], dim=1)
    last = q.new_tensor([[scale]])
    whitening = basis.whitening
    if whitening is not None:
        whitening = torch.block_diag(whitening, last)
    return Basis(q, torch.block_diag(basis.triangle, last), whitening)


def gramian(whitened: Tensor) -> Tensor:
    """The upper triangle of A^T A row by row, [k (k + 1) / 2], of A [n, k]."""
    rows, columns = torch.triu_indices(*[whitened.shape[1]] * 2, device=whitened.device)
    return (whitened.mT @ whitened)[rows, columns]


def symmetric(triangle: Tensor, k: int) -> Tensor:
    """The matrix [k, k] whose upper triangle ``gramian`` gives."""
    rows, columns = torch.triu_indices(k, k, device=triangle.device)
    found = triangle.new_zeros(k, k)
    found[rows, columns] = triangle
    found[columns, rows] = triangle
    return found


def root(gram: Tensor, seen: float = SEEN) -> tuple[Tensor, Tensor]:
    """A factor of a gramian G = X diag(w) X^T, and its pseudo-inverse.

    Args:
        gram: G, shape [k, k].
        seen: Least eigenvalue, relative to the largest, that tells anything.

    Returns:
        diag(sqrt w) X^T, shape [k', k], the longest row first, and X diag(1 / sqrt w),
        shape [k, k'].
    """
    w, x = torch.linalg.eigh(gram)
    some = w > seen * w[-1:].clamp(min=0)
    w, x = w[some].flip(0).sqrt(), x[:, some].flip(1)
    return w[:, None] * x.mT, x / w


def summed(basis: Basis, gram: Tensor, target: Tensor) -> Spectrum:
    """The problem in the coordinates z from the sums of whitened gramians and targets.

    Args:
        basis: That they were made in.
        gram: G = A^T A, shape [k, k].
        target: t = -A^T r, shape [k].

    Returns:
        Spectrum with basis [k', k]; ``left`` [k, k'] maps another t to its c, so that
        t(theta + D) @ left is the target there.
    """
    factor, inverse = root(gram)
    found = spectrum(Sketch(factor @ basis.scales, target @ inverse))
    return found._replace(left=inverse @ found.left)


def trapezoid(sketch: Sketch) -> Sketch:
    """The same problem with B upper trapezoidal: fewer numbers to send, by a QR."""
    q, r = torch.linalg.qr(sketch.factor)
    left = None if sketch.left is None else sketch.left @ q
    return Sketch(r, q.mT @ sketch.target, left, sketch.error)


def packed(factor: Tensor) -> Tensor:
    """The numbers of an upper trapezoidal B [r, k], r <= k, row by row."""
    rows, columns = torch.triu_indices(*factor.shape, device=factor.device)
    return factor[rows, columns]


def unpacked(numbers: Tensor, r: int, k: int) -> Tensor:
    """B [r, k] from ``packed``."""
    rows, columns = torch.triu_indices(r, k, device=numbers.device)
    found = numbers.new_zeros(r, k)
    found[rows, columns] = numbers
    return found


def _signs(r: Tensor) -> Tensor:
    """Of the rows of R, with which its diagonal is positive: a QR then is unique."""
    return torch.where(r.diagonal() < 0, -1.0, 1.0).to(r)

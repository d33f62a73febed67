r"""Differential privacy of sums: what a point may weigh, and what noise hides it.

**Who is hidden.** Two sets of data are neighbours if one has, in the place of a point
of the other, a point that weighs nothing (*zero-out*): one point of one term of one
client, with all its residuals, its position and its targets. Numbers of points n_t, and
with them the row weights sqrt(alpha_t / n_t), are agreed and public, and the same for
both. A run is (epsilon, delta)-differentially private: whatever follows from it, theta,
history and messages, is at most exp(epsilon) times as probable with the point as
without, but for delta. Data in which a point is *replaced* by any other are two such
steps apart: hidden as by a multiplier z / 2, at delta 1e-5 epsilon 2.15 where 1 is
stated, 6.7 where 3 is, 24 where 10 is.

**What a point may weigh.** In whitened coordinates a point is a block of rows A [q, k]
with residuals r [q], and |A|_F^2 is its leverage; those of all N points add up to about
k. A point that is longer than it may be is made lighter as a whole, which leaves its
own solution where it is, and then its residual is cut:

    f = min(1, C_a / |A|_F),  A <- f A,  r <- f r,   then   r <- min(1, C_r / |r|) r.

    C_a = clip sqrt(k / N),   C_r = residual / sqrt(N) in the first round

both in units that need nobody's data: ``clip`` is 1 for the average leverage, and with
all points at C_r the loss is residual^2 / 2. Later C_r follows the loss that was
released, ``follow`` times the root mean square residual: noise falls with the residual.

**Sensitivity.** A release is the sum over all points of

    v = (G / g, t / h, l / s),  G = A^T A,  t = -A^T r,  l = |r|^2 / 2,

G as its upper triangle with off-diagonal entries times sqrt 2, so that its length is
|G|_F. With or without a point the sum differs by its v, and

    |G|_F <= |A|_F^2 <= C_a^2,   |t| <= |A| |r| <= C_a C_r,   l <= C_r^2 / 2

hold with equality for one row of |a| = C_a, r = +-C_r. With g = C_a^2 / sqrt(p_G),
h = C_a C_r / sqrt(p_t), s = C_r^2 / 2 / sqrt(p_l), p_G + p_t + p_l = 1, it moves by 1
at most: noise of standard deviation z in every entry of v is *one* Gaussian mechanism
with noise multiplier z, and p are the parts of the budget. Of G itself an entry of the
diagonal has standard deviation z g then, one off it z g / sqrt 2.

The parts. t has k entries, and its noise is what moves a step; l is one number, for
which a hundredth is enough: its error is then 5 z C_r^2, a part 10 z follow^2 / N of
the loss. G has k^2 / 2 entries whose noise, sqrt(2 k) z g in the spectral norm, must be
small beside 1, and the anchors' own gramian in whitened coordinates is 1 and public. So
it is not released (p_G = 0) unless that is asked for: where clients' points are far
denser in some places than the anchors. (sine4 with 1e4 points at epsilon 1: errors of
5e-4 to 2e-1 without it, 5e-3 in the median of ten starts; of 3e-3 to 2e-1, and 2e-2
in the median, with p_G = 0.3.)

**The budget.** Gaussian mechanisms one after the other, each of which may depend on
what came before, compose exactly: k of multiplier z are one of z / sqrt k (Dong, Roth,
Su, J. R. Stat. Soc. B 84, 2022, arXiv 1905.02383). Its curve of (epsilon, delta) is
that of Balle and Wang (ICML 2018, arXiv 1805.06530); ``dp_accounting`` has it.

**What is assumed.** Who has j points is hidden as by a multiplier z / j. Each of M
clients adds its share of the noise, and knows it: c of them who tell theirs leave the
others what sqrt(1 - c / M) z hides. Not counted are what rounding does (numbers in the
ring are rounded to 2^-20 of a standard deviation, normal ones are floating-point),
time, and what is told of a study in one process: errors at test points, and the hash of
the data in its record.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsciml.extras import needed
from fedsciml.problem import SiteError


@dataclass(frozen=True)
class Privacy:
    """What a run may tell of a point, and how that is spent.

    Args:
        epsilon: Of the whole run, positive.
        delta: Of the whole run, in (0, 1); far below 1 / number of points.
        clip: Longest whitened rows of a point, where 1 is the average.
        releases: Rounds among which the budget is divided.
        residual: Largest residual of a point in the first round, weighted, in units of
            1 / sqrt(points): with one term of weight 1, in the unit of the residual.
        follow: Later, times the root mean square residual of the round before.
        gramian: Part of the budget for the gramian, in [0, 1); 0 for the anchors' own
            in its stead.
        told: Part for the loss, in (0, 1).
        points: Of all clients and terms, where they are not counted in one place; None
            to count them.

    Raises:
        ValueError: If a number is out of range.
    """

    epsilon: float
    delta: float
    clip: float = 1.5
    releases: int = 40
    residual: float = 1.0
    follow: float = 2.5
    gramian: float = 0.0
    told: float = 0.01
    points: int | None = None

    def __post_init__(self) -> None:
        for name in ("epsilon", "clip", "residual"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"Privacy's {name} must be positive, got {value}.")
        if not 0 < self.delta < 1:
            raise ValueError(
                f"Privacy's delta must be in (0, 1), got {self.delta}; take one far "
                "below 1 / number of points, such as 1e-5."
            )
        if self.releases < 1 or (self.points is not None and self.points < 1):
            raise ValueError(
                "Privacy's releases and points must be at least 1, got "
                f"{self.releases} and {self.points}."
            )
        if not 1 < self.follow < math.inf:
            raise ValueError(
                f"Privacy's follow must be above 1, got {self.follow}: a bound that "
                "cut too much could never grow again."
            )
        parts = self.gramian, self.told
        if not (0 <= self.gramian < 1 and 0 < self.told < 1 and sum(parts) < 1):
            raise ValueError(
                "Privacy's parts of the budget, gramian at least 0 and told above 0, "
                f"must leave something for the target; got {parts[0]} and {parts[1]}."
            )

    @cached_property
    def multiplier(self) -> float:
        """Noise multiplier z of each release."""
        return self.releases**0.5 * _accounting().get_sigma_gaussian(
            self.epsilon, self.delta
        )

    @property
    def needed(self) -> float:
        """Points of which the loss is as large as its noise, from the second round on.

        With C_r^2 = follow^2 2 loss / N the noise z s is the loss for this N.
        """
        return self.multiplier * self.follow**2 / self.told**0.5

    def spent(self, releases: int) -> float:
        """Epsilon, at this delta, of so many releases."""
        if not releases:
            return 0.0
        sigma = self.multiplier / releases**0.5
        return float(_accounting().get_epsilon_gaussian(sigma, self.delta))


class Bounds(NamedTuple):
    """What a point may weigh.

    Attributes:
        row: C_a.
        residual: C_r.
    """

    row: float
    residual: float


LEAST, MOST = 1e-60, 1e60
"""Bounds whose products and squares are numbers that noise can be added to."""


def check_bounds(bounds: Bounds) -> None:
    """Refuse bounds that no noise hides.

    Raises:
        SiteError: If one is not in a range far inside that of the numbers.
    """
    if not all(LEAST <= bound <= MOST for bound in bounds):
        raise SiteError(
            f"A point's bounds must be from {LEAST:g} to {MOST:g}, the server asks for "
            f"{bounds.row:g} and {bounds.residual:g}: no noise would hide it."
        )


class Scales(NamedTuple):
    """g, h and s: what a release is divided by to have sensitivity 1."""

    gramian: float
    target: float
    loss: float


def scales(privacy: Privacy, bounds: Bounds) -> Scales:
    """Of a release; infinite for the gramian where it is not released."""
    row, residual = bounds
    target = 1 - privacy.gramian - privacy.told
    return Scales(
        row * row / privacy.gramian**0.5 if privacy.gramian else math.inf,
        row * residual / target**0.5,
        residual * residual / 2 / privacy.told**0.5,
    )


def longest(privacy: Privacy, k: int, points: int) -> float:
    """C_a in k directions."""
    return privacy.clip * (k / points) ** 0.5


def clipped(
    rows: Tensor, residual: Tensor, points: Tensor, bounds: Bounds
) -> tuple[Tensor, Tensor]:
    """Rows and residuals, every point within the bounds.

    A point whose numbers are not finite counts nothing, and is not told of.

    Args:
        rows: A, shape [n, k].
        residual: r, shape [n].
        points: Number of each row's point, shape [n], int64.
        bounds: C_a and C_r.
    """
    count = int(points.max()) + 1 if len(points) else 0

    def factors(relative: Tensor) -> Tensor:
        """Of each row, to bring its point to 1, the bound; squares do not underflow."""
        squares = relative.square().sum(1)
        lengths = squares.new_zeros(count).index_add(0, points, squares).sqrt()
        # A hair shorter, so that rounding takes nothing beyond the bound.
        hair = 1 + 16 * torch.finfo(squares.dtype).eps
        return 1 / (hair * lengths).clamp(min=1)[points]

    wrong = ~(rows.isfinite().all(1) & residual.isfinite())
    if wrong.any():
        kept = torch.ones(count, dtype=torch.bool, device=rows.device)
        kept = kept.index_fill(0, points[wrong], False)[points]
        rows = torch.where(kept[:, None], rows, 0.0)
        residual = torch.where(kept, residual, 0.0)
    lighter = factors(rows / bounds.row)
    rows, residual = lighter[:, None] * rows, lighter * residual
    return rows, factors(residual[:, None] / bounds.residual) * residual


def _accounting() -> Any:  # noqa: ANN401
    """The accountant's library, which takes a second to import.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    with needed("Differential privacy needs", "dp", "secure"):
        import dp_accounting
    return dp_accounting

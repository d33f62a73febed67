r"""The rows that every party can compute: at anchors, points of no one's own.

The parties agree on a ``Span``, a few numbers; each of them finds the same basis of the
step's space from it (``fedsciml.linalg.basis``), at a theta that all of them know.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from fedsciml.linalg.basis import Basis, basis, extended, pivots
from fedsciml.problem import Problem, Shard
from fedsciml.residual.system import System

FIRST = 256
"""Anchors of each term in a first round, when nothing is known."""

DENSE, SPARSE = 10, 3
"""Anchors of a term for each of its pivots, up to ``FIRST`` and beyond; of an anchor
with several rows these count as one. Three leave nothing out of the span. But near a
boundary, and in 1-D the most, the weak directions grow, and points beyond the last
anchor weigh the more: with 32 anchors for 22 pivots the whitened gramian of 800 points
had the condition 1e7, with 256 it was 40."""

FEWEST = 32
"""Anchors of a term at least."""

MOST = 8192
"""Anchors of a term at most."""

LARGEST_JACOBIAN = 2**28
"""Bytes of the anchors' Jacobian at most, however many would be wanted."""

ENOUGH = 1024
"""Anchors of a term up to which more are taken where they miss what clients have."""

BELOW = 0.03
"""Part of the cut-off down to which pivots are chosen: rows of a pivoted QR fall behind
the singular values. In 1-D that takes two or three directions more, and the errors end
at 1e-15 to 1e-14; with 0.1 they end 10 to 100 times as high, at as many bytes."""

MORE = 2
"""Pivots beyond those, down to ``NOISE`` rounding units: with few rows and hardly any
damping the last directions decide. Without them a model of 27 rows took twice the
rounds."""

NOISE = 5
"""Rounding units of |J_a|_F that are noise."""

KNOWN = 500
"""Rounding units of |J_a|_F below which the cut-off is not lowered: what a row adds at
``BELOW`` of it is hardly more than noise."""


@dataclass(frozen=True, eq=False)
class Span:
    """What determines a basis, beside theta; equal to itself alone.

    Attributes:
        counts: Anchors of each term, shape [T], int32.
        pivots: Numbers of the rows chosen, shape [k], int32.
        beyond: A direction more, shape [p]; None for none.
        scale: About |J d| of it.
    """

    counts: Tensor
    pivots: Tensor
    beyond: Tensor | None = None
    scale: float = 0.0

    @property
    def size(self) -> int:
        """Number of directions k."""
        return len(self.pivots) + (self.beyond is not None)


@dataclass(eq=False)
class Anchors:
    """The anchors of a problem, and the last basis that was found by them.

    One such object serves all parties of a process: they ask for the same basis.

    Args:
        problem: Whose terms say where they hold.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.
        factors: Of the terms' losses, as in ``System.scaled``; None for 1.
        whiten: Whether gramians are summed in the basis.
        seed: Of the points.
    """

    problem: Problem
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float64
    factors: tuple[float, ...] | None = None
    whiten: bool = True
    seed: int = 0
    _drawn: tuple[tuple[int, ...], System] | None = field(default=None, repr=False)
    _found: tuple[Tensor, Span, Basis] | None = field(default=None, repr=False)
    _scaled: "Anchors | None" = field(default=None, repr=False)

    def scaled(self, factors: Sequence[float]) -> "Anchors":
        """The anchors with the loss of term t times ``factors[t]``; kept."""
        wanted, scaled = tuple(factors), self._scaled
        if scaled is None or scaled.factors != wanted:
            scaled = self._scaled = replace(
                self, factors=wanted, _drawn=None, _found=None, _scaled=None
            )
        return scaled

    def system(self, counts: Sequence[int]) -> System:
        """Their residual, with so many of each term.

        Raises:
            ValueError: As ``Problem.anchors``.
        """
        wanted, drawn = tuple(counts), self._drawn
        if drawn is None or drawn[0] != wanted:
            rows = self.problem.anchors(wanted, self.seed)
            shard = Shard(0, rows, 1.0)
            system = System(self.problem, shard, self.device, self.dtype)
            if self.factors is not None:
                system = system.scaled(self.factors)
            drawn = self._drawn = wanted, system
        return drawn[1]

    def rows(self, theta: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """J_a at theta, shape [n, p], and the number of each row's term, shape [n]."""
        system = self.system(counts)
        linear = system.normalised(theta).linearise(theta)
        terms = [
            torch.full((len(part.residual),), block.rows.term, device="cpu")
            for block, part in zip(system.blocks, linear.blocks, strict=True)
        ]
        return linear.jacobian(), torch.cat(terms)

    def chosen(
        self,
        theta: Tensor,
        reach: float,
        top: float,
        counts: Sequence[int] = (),
        rank: int = FEWEST,
        seed: int = 0,
    ) -> tuple[Span, tuple[int, ...]]:
        """A basis down to a singular value, with as many anchors as that takes.

        Args:
            theta: Shape [p].
            reach: Relative singular value.
            top: What it is relative to; 0 if not known: then to |J_a|_F.
            counts: Anchors of each term to begin with, as of the round before.
            rank: About how many directions there will be.
            seed: Of what is random in the choice.

        Returns:
            The basis, and with how many anchors of each term to begin the next round.

        Raises:
            ValueError: As ``Problem.anchors``.
            FloatingPointError: If J_a is not finite.
        """
        terms = len(self.problem.terms)
        wanted = list(counts) or [min(FIRST, self.most)] * terms
        eps = torch.finfo(self.dtype).eps
        while True:
            jacobian, owners = self.rows(theta, wanted)
            largest = float(torch.linalg.matrix_norm(jacobian))
            cutoff = max(reach * (top or largest), KNOWN * eps * largest)
            random = Generator().manual_seed(seed)
            noise = NOISE * eps * largest
            rows = pivots(jacobian, BELOW * cutoff, random, rank, MORE, noise)
            chosen = owners[rows].bincount(minlength=terms)
            points = (
                chosen
                * torch.tensor(wanted, device="cpu")
                / owners.bincount(minlength=terms)
            )
            needed = [min(_needed(math.ceil(n)), self.most) for n in points.tolist()]
            more = [max(n, m) for n, m in zip(wanted, needed, strict=True)]
            if more == wanted:
                break
            wanted, rank = more, max(rank, len(rows))
        span = Span(
            torch.tensor(wanted, dtype=torch.int32, device="cpu"), rows.to(torch.int32)
        )
        self._found = theta.clone(), span, basis(jacobian, rows, self.whiten)
        return span, tuple(wanted if counts else needed)

    @property
    def most(self) -> int:
        """Anchors of a term that fit into the memory."""
        size = self.problem.network.size * len(self.problem.terms)
        width = torch.finfo(self.dtype).bits // 8
        return max(FEWEST, LARGEST_JACOBIAN // (width * size))

    def more(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Anchors to begin a round with where those of the last one missed much."""
        return tuple(max(n, min(2 * n, ENOUGH, self.most)) for n in counts)

    def basis(self, theta: Tensor, span: Span) -> Basis:
        """The basis of a span at theta [p].

        Raises:
            ValueError: As ``Problem.anchors``; or if the span has other rows than the
                anchors.
        """
        known = self._found
        if known is not None and _same(known, theta, span):
            return known[2]
        jacobian, _ = self.rows(theta, span.counts.tolist())
        rows = span.pivots.long().cpu()
        n, most = len(jacobian), min(jacobian.shape)
        if len(rows) > most or bool(((rows < 0) | (rows >= n)).any()):
            raise ValueError(
                f"A basis of {len(rows)} directions was asked for, rows of {n} anchors "
                "up to number "
                f"{int(rows.max())}. Do server and client have the same problem?"
            )
        found = basis(jacobian, rows, self.whiten)
        if span.beyond is not None:
            found = extended(found, span.beyond, span.scale)
        self._found = theta.clone(), span, found
        return found


def unusable(problem: Problem) -> str | None:
    """Why a problem's anchors are of no use; None if they are.

    A sample is a user's function: it may fail, or draw other points at every party. And
    where targets are data those at anchors are 1, which a residual may not bear.
    """
    n = min(FIRST, Anchors(problem).most)
    try:
        rows, again = problem.anchors(n), problem.anchors(n)
    except ValueError as error:
        return str(error)
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    for one, other in zip(rows, again, strict=True):
        name = problem.terms[one.term].name
        if not torch.equal(one.points, other.points):
            return (
                f"The sample of term '{name}' draws other points each time. Give it "
                "no randomness but that of its generator."
            )
        try:
            system = System(problem, Shard(0, (one,), 1.0))
            known = bool(system.linearise(theta).jacobian().isfinite().all())
        except Exception as error:
            return (
                f"At its anchors term '{name}' raises {type(error).__name__}: {error}"
            )
        if not known:
            return (
                f"At its anchors the Jacobian of term '{name}' is not finite, with "
                "targets of 1 where these are data. Give Term(sample=...) other "
                "points, or Drawn(points, target=...) with targets that it bears."
            )
    return None


def _needed(pivots: int) -> int:
    """Anchors of a term for so many pivots, those of one anchor counted as one.

    2^i or 3 2^i, so that it seldom changes.
    """
    wanted = max(SPARSE * pivots, min(DENSE * pivots, FIRST), FEWEST)
    power = 1 << (wanted - 1).bit_length()
    return min(power if 4 * wanted > 3 * power else 3 * power // 4, MOST)


def _same(found: tuple[Tensor, Span, Basis], theta: Tensor, span: Span) -> bool:
    at, known, _ = found
    if not torch.equal(at, theta):
        return False
    if known is span:
        return True
    if (known.beyond is None) != (span.beyond is None) or known.scale != span.scale:
        return False
    pairs = [(known.counts, span.counts), (known.pivots, span.pivots)]
    if known.beyond is not None and span.beyond is not None:
        pairs.append((known.beyond, span.beyond))
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)

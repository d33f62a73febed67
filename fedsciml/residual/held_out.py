r"""The residual at points that are not trained on.

A network can fit its points and not the equation between them: the loss is then 1e-27,
and the answer wrong. So each party also takes the residual at fresh points: those that
the term's ``sample`` draws, or, of an equation without one, points of the region that
its own points fill. It tells sums, which add up over the parties as losses do.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from fedsciml.problem import Problem, Rows
from fedsciml.problem.checks import joined
from fedsciml.problem.probes import probes
from fedsciml.residual.smoothness import orders
from fedsciml.residual.system import System
from fedsciml.residual.taylor import DRAWS

FRESH = 200
"""Fresh points of a term at a party, however few its own are: between them a network
can hide a step that is a thirtieth as wide as they are apart."""

NEAREST = 1000
"""Own points, at most, of which a fresh one has to be near."""

SEED = 7_919_000_003
"""Of the fresh points: no seed that one trains on, or they could be the same points."""

DISTURBED = 1.1
"""Factor of theta that tells how large a residual can be."""

FAR = 100.0
"""Held-out over trained loss that is far above: residuals ten times larger."""

LARGE = 0.01
"""Held-out loss over that of the disturbed theta that is large: as if theta were wrong
by a hundredth."""


class HeldOut(NamedTuple):
    """Losses of one party's terms that have fresh points, or their sums over parties.

    Attributes:
        trained: At the party's own points.
        fresh: At fresh ones, with the weight of the own.
        disturbed: The same where theta is 10 % larger: what is large, in these units.
    """

    trained: float
    fresh: float
    disturbed: float

    @property
    def known(self) -> float | None:
        """The loss at fresh points; None if no term has any."""
        return self.fresh if self.disturbed > 0 else None

    @property
    def warning(self) -> str | None:
        """What to do about a loss that says nothing of the points between; or None."""
        if not self.fresh > max(FAR * self.trained, LARGE * self.disturbed):
            return None
        return (
            f"The network fits its points, not the equation between them: the loss is "
            f"{self.trained:.1e}, at points that are not trained on {self.fresh:.1e}. "
            "Take more points, draw them again (Resampled, --resample), or give the "
            "network its units (MLP(inputs=...))."
        )


class Breakdown(NamedTuple):
    """A model's loss in parts, of one party, or the sums over parties.

    Attributes:
        held_out: Of the terms that have fresh points, there and at the own ones.
        terms: Of each term of the problem, at the own points.
    """

    held_out: HeldOut
    terms: tuple[float, ...]

    def told(self, terms: int) -> bool:
        """Whether it can be: of so many terms, each a sum of squares."""
        numbers = (*self.held_out, *self.terms)
        return len(self.terms) == terms and all(0 <= x < inf for x in numbers)

    @classmethod
    def total(cls, parts: Sequence["Breakdown"]) -> "Breakdown":
        """The sums over parties, one at least."""
        terms = map(sum, zip(*(part.terms for part in parts), strict=True))
        held_out = map(sum, zip(*(part.held_out for part in parts), strict=True))
        return cls(HeldOut(*held_out), tuple(terms))


class Fresh:
    """One party's rows, and rows of the same terms at fresh points.

    Args:
        system: The party's rows.
        known: Gives the ``equations`` of the problem, where several parties share them.
    """

    def __init__(
        self, system: System, known: Callable[[], Sequence[int]] | None = None
    ) -> None:
        self.system = system
        self._known = known or partial(equations, system.problem)
        self._terms: dict[int, System] | None = None

    def __call__(self, theta: Tensor) -> HeldOut:
        """The losses at theta [p]; 0 if no term has fresh points."""
        return self.breakdown(theta).held_out

    def breakdown(self, theta: Tensor) -> Breakdown:
        """The same, and the loss of each term."""
        if self._terms is None:
            self._terms = _drawn(self.system, theta, self._known)
        thetas = torch.stack([theta, DISTURBED * theta])
        fresh = {t: system.losses(thetas) for t, system in self._terms.items()}
        fresh = {t: losses for t, losses in fresh.items() if losses.isfinite().all()}
        terms = [0.0] * len(self.system.problem.terms)
        for block in self.system.blocks:
            terms[block.rows.term] += float(block.losses(theta[None])[0])
        held_out = HeldOut(
            sum((terms[t] for t in fresh), 0.0),
            sum((float(losses[0]) for losses in fresh.values()), 0.0),
            sum((float(losses[1]) for losses in fresh.values()), 0.0),
        )
        return Breakdown(held_out, tuple(terms))


def _drawn(
    system: System, like: Tensor, known: Callable[[], Sequence[int]]
) -> dict[int, System]:
    """A party's rows at fresh points, by terms; without terms that have none."""
    problem, party = system.problem, system.shard.rows
    unsaid = any(problem.terms[rows.term].sample is None for rows in party)
    highest = known() if unsaid else []
    generator = Generator().manual_seed(SEED + system.shard.client)
    start = problem.network.init(Generator().manual_seed(0), like.dtype)
    start, found = start.to(like.device), {}
    for rows in party:
        # A residual may be known at its own points alone, as with a table in it.
        with suppress(Exception):
            points = _points(problem, rows, rows.term in highest, generator)
            if len(points):
                weight = rows.weight * (len(rows.points) / len(points)) ** 0.5
                fresh = replace(problem.moved(rows, points), weight=weight)
                moved = system.on([fresh])
                moved.residual(start)  # raises where it is not known there
                found[rows.term] = moved
    return found


def _points(
    problem: Problem, rows: Rows, equation: bool, generator: Generator
) -> Tensor:
    """Fresh points of a party's rows, shape [n, d]; none where they are not known."""
    term = problem.terms[rows.term]
    if len(rows.points) and term.sample is not None:
        return term.drawn(FRESH, generator).points
    if not equation:
        return rows.points[:0]
    if problem.domain is not None:
        corners = torch.tensor(problem.domain, dtype=torch.float64, device="cpu")
    else:
        corners = torch.cat([joined(term.points) for term in problem.terms])
    return among(rows.points, corners, FRESH, generator)


def equations(problem: Problem) -> list[int]:
    """Numbers of the terms that read derivatives of the highest order."""
    drawn = probes(problem, Generator().manual_seed(0), DRAWS)
    highest = {rows.term: max(orders(problem, rows), default=-1) for rows in drawn}
    return [t for t, order in highest.items() if order == max(highest.values())]


def among(points: Tensor, corners: Tensor, n: int, generator: Generator) -> Tensor:
    """About n points of the region that some points fill, shape [m, d].

    They are drawn in a box and kept if they are no farther from one of the points than
    these are from each other, each coordinate in units of the box: not in a hole, and
    not beyond the domain, but also between the points and a boundary.

    Args:
        points: Shape [N, d].
        corners: Points of which the box is, [m, d].
        n: At most so many.
        generator: Draws them.

    Returns:
        Points [m, d], m <= n; none if the given ones lie on the faces of their box, as
        those of conditions do, or are fewer than three.
    """
    lower, upper = points.amin(0), points.amax(0)
    wide = upper > lower
    on_faces = ((points == lower) | (points == upper))[:, wide].any(1)
    if len(points) < 3 or not wide.any() or on_faces.all():
        return points[:0]
    lower = torch.where(wide, corners.amin(0), lower)
    width = corners.amax(0) - lower
    some = points[torch.randperm(len(points), generator=generator)[:NEAREST]]
    unit = ((some - lower) / width)[:, wide]
    apart = torch.cdist(unit, unit).fill_diagonal_(torch.inf).amin(1).max()
    drawn = torch.rand(10 * n, unit.shape[1], generator=generator, dtype=unit.dtype)
    near = drawn[torch.cdist(drawn, unit).amin(1) <= apart][:n]
    found = lower.repeat(len(near), 1)
    found[:, wide] += near * width[wide]
    return found

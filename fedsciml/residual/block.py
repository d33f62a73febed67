"""What rows by jets and rows by torch.autograd share."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from fedsciml.likelihoods import Gaussian, Likelihood
from fedsciml.network.jet import Jet, Nested
from fedsciml.problem import Problem, Row, Rows
from fedsciml.problem.evaluation import evaluated
from fedsciml.residual.taylor import Read

CHUNK = 1024
"""Points per sweep: bounds its memory whatever the size of the shard; fits a cache."""


SEVERAL = 3072
"""Points per sweep of several thetas, of which nothing but the output is kept."""


class Block:
    """Rows of one term that are computed together.

    A subclass gives their ``predictors``; what the rows are, the term's likelihood
    says. Where that is squares, predictors are residuals.
    """

    _problem: Problem
    rows: Rows

    @property
    def likelihood(self) -> Likelihood:
        """The term's."""
        return self._problem.terms[self.rows.term].likelihood

    @property
    def squares(self) -> bool:
        """Whether the loss is half the sum of squares of the residual."""
        return isinstance(self.likelihood, Gaussian)

    def predictors(self, thetas: Tensor) -> Tensor:
        """What the residual function returns, [C, q, n] at thetas [C, p]."""
        raise NotImplementedError

    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, q' n] at thetas [C, p]."""
        return self.judged(thetas)[1]

    def losses(self, thetas: Tensor) -> Tensor:
        """Half the weighted deviance at thetas [C, p], shape [C]."""
        if self.squares:
            return self.judged(thetas)[0]
        return self._deviances(self.predictors(thetas))

    @torch.no_grad()
    def _deviances(self, z: Tensor) -> Tensor:
        """The same from predictors [C, q, n]."""
        told, y = self.likelihood, self.rows.target
        losses = torch.stack([told.half_deviance(one, y).sum() for one in z])
        return losses * self.rows.weight**2

    @torch.no_grad()
    def judged(self, thetas: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses [C] and weighted residuals [C, q' n] at thetas [C, p].

        Args:
            thetas: Where.
            at: Where the root S of the information is taken, shape [p]; None for each
                of thetas itself, as it is of squares.
        """
        z, rows, told = self.predictors(thetas), self.rows, self.likelihood
        if self.squares:
            r = (z * rows.weights).flatten(1)
            return r.square().sum(1) / 2, r
        y, fixed = rows.target, None if at is None else self.predictors(at[None])[0]
        several = [
            told.inverse_root(one if fixed is None else fixed, y, told.score(one, y))
            for one in z
        ]
        r = torch.stack(several).flatten(1) * rows.weight
        return self._deviances(z), r

    def slope(self, theta: Tensor) -> Tensor:
        """Gradient [p] of the loss at theta [p]."""
        raise NotImplementedError

    def score(self, z: Tensor) -> Tensor:
        """Derivative of the loss by predictors z, both [q, n]."""
        return self.likelihood.score(z, self.rows.target) * self.rows.weights**2

    def mixed(self, z: Tensor, v: Tensor) -> Tensor:
        """S^T v, on the graph of v; S is taken at z, both [q, n]."""
        return self.likelihood.transposed_root(z, self.rows.target, v)

    def linear(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weighted residual [q' n] and loss at predictors z [q, n].

        The loss is None where it is half the sum of squares.
        """
        rows, told = self.rows, self.likelihood
        r = (told.pearson(z, rows.target) * rows.weights).flatten()
        if self.squares:
            return r, None
        return r, told.half_deviance(z, rows.target).sum() * rows.weight**2


def by_autograd(
    problem: Problem, rows: Rows, values: Callable[[Tensor], Tensor]
) -> Tensor:
    """Residuals [q, n] by torch.autograd.

    Args:
        problem: Gives the term.
        rows: The n rows.
        values: Maps points, and partners below them, to the values of the solution and
            the unknown numbers there, on the autograd graph of the points.
    """
    points, partner = (
        None if x is None else x.detach().clone().requires_grad_()
        for x in (rows.points, rows.partner)
    )
    assert points is not None
    x = with_partners(points, partner)
    u = jet(problem, Nested(values(x), x), len(points), partner)
    row = Row(points, rows.target, problem.coordinates, partner)
    return evaluated(problem, rows.term, u, row)


def with_partners(points: Tensor, partner: Tensor | None) -> Tensor:
    """The points [n, d], or points and partners [2 n, d]."""
    return points if partner is None else torch.cat([points, partner])


def jet(problem: Problem, read: Read, n: int, partner: Tensor | None) -> Jet:
    """The jet at n points, whose partners' channels stand below their own."""
    names = problem.coordinates, problem.outputs, problem.unknowns
    if partner is None:
        return Jet(read, *names)
    return Jet(lambda c: read(c)[:n], *names, Jet(lambda c: read(c)[n:], *names))


@cache
def keep_freed() -> None:
    """Have the C library keep memory that is freed for the next tensor, from now on.

    glibc gives pieces of more than 128 KiB back to the system, whose next touch of them
    takes longer than what is computed there. It raises that bound to the largest piece
    freed so far, up to 32 MiB: mallopt(3), M_MMAP_THRESHOLD.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


def empty(rows: int, columns: int, like: Tensor) -> Tensor:
    """Uninitialised memory [rows, columns] for a Jacobian.

    On the CPU from NumPy, which asks Linux for huge pages: the first touch of ordinary
    pages takes longer than computing what goes there.
    """
    if not like.is_cpu:
        return like.new_empty(rows, columns)
    return torch.from_numpy(np.empty((rows, columns), like[:0].numpy().dtype))

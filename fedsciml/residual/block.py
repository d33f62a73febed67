"""What rows by jets and rows by torch.autograd share."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedsciml.network.jet import Jet, Nested
from fedsciml.problem import Problem, Row, Rows
from fedsciml.problem.evaluation import evaluated
from fedsciml.residual.taylor import Read

CHUNK = 1024
"""Points per sweep: bounds its memory whatever the size of the shard; fits a cache."""


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


def empty(rows: int, columns: int, like: Tensor) -> Tensor:
    """Uninitialised memory [rows, columns] for a Jacobian.

    On the CPU from NumPy, which asks Linux for huge pages: the first touch of ordinary
    pages takes longer than computing what goes there.
    """
    if not like.is_cpu:
        return like.new_empty(rows, columns)
    return torch.from_numpy(np.empty((rows, columns), like[:0].numpy().dtype))

"""Rows of a problem that need no data: at points drawn in its domain."""

from typing import TYPE_CHECKING

import torch
from torch import Generator

from fedsciml.problem.rows import Rows

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem


def probes(problem: "Problem", generator: Generator, n: int) -> tuple[Rows, ...]:
    """n rows of each term, of weight 1, with targets of 1 where those are data.

    In the unit box where the problem states no domain.
    """
    d = len(problem.coordinates)
    points = torch.rand(n, d, generator=generator, dtype=torch.float64, device="cpu")
    if problem.domain is not None:
        lower, upper = (
            torch.as_tensor(c, device="cpu").to(points) for c in problem.domain
        )
        points = lower + points * (upper - lower)
    return tuple(
        Rows(
            t,
            points,
            problem.target(t, points),
            1.0,
            None if term.partner is None else points.flip(0),
        )
        for t, term in enumerate(problem.terms)
    )

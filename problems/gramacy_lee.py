"""Regression of u = (x + 1/2)^4 - sin(10 pi x) / (2 x + 3) on [-1, 1]; 2 pieces.

A variant of a function of Gramacy and Lee (2012). 200 equispaced points, 1-64-64-64-1.
Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from typing import Unpack

from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.problem import Problem, Term
from fedsciml.problems._fedpinn import Options, setting
from fedsciml.problems._suite import given, grid, sinpi


def solution(points: Tensor) -> Tensor:
    """(x + 1/2)^4 - sin(10 pi x) / (2 x + 3), shape [n]."""
    x = points[:, 0]
    return (x + 0.5) ** 4 - sinpi(10 * x) / (2 * x + 3)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._fedpinn.Options``."""
    made = setting(clients, options)
    domain = [-1.0], [1.0]
    return Problem(
        "gramacy_lee",
        made.network(1, 3, 64),
        [
            Term(
                "data",
                given,
                grid(made.count(200), *domain),
                target=solution,
                sample=in_box(*domain),
            )
        ],
        made.deal(*domain),
        exact=solution,
        test_points=grid(1000, *domain),
        domain=domain,
        parameters=made.parameters(),
    )

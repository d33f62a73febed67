"""Poisson equation -Lap u = f on (0, 1)^2, u = 0 on the boundary; 2 halves, p = 257.

Exact solution u = sin(pi x) sin(pi y), so f = 2 pi^2 u. Network 2-64-1, 900 points of a
grid inside and 120 on the boundary, both terms of weight 1: the usual anchor of
centralised natural-gradient methods. Source: Mueller and Zeinhofer, Achieving High
Accuracy with PINNs via Energy Natural Gradient Descent (2023), arXiv 2302.13163.
"""

import math
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box, on_faces, uniform
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, given, setting


def poisson(u: Jet, row: Row) -> Tensor:
    """-u_xx - u_yy - f."""
    return -u.laplacian - row.target


def solution(points: Tensor) -> Tensor:
    """sin(pi x) sin(pi y), shape [n]."""
    return torch.sin(math.pi * points).prod(1)


def source(points: Tensor) -> Tensor:
    """f = 2 pi^2 u, shape [n]."""
    return 2 * math.pi**2 * solution(points)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``. ``points`` scales grid lines."""
    made = setting(clients, options)
    domain = [0.0, 0.0], [1.0, 1.0]
    side = made.count(30)
    inner = torch.linspace(0, 1, side + 2, dtype=torch.float64)[1:-1]
    edge = torch.stack([inner, torch.zeros_like(inner)], 1)
    around = torch.cat([edge, 1 - edge, edge.flip(1), 1 - edge.flip(1)])
    return Problem(
        "poisson_square",
        made.network(2, 1, 64),
        [
            Term(
                "pde",
                poisson,
                torch.cartesian_prod(inner, inner),
                target=source,
                sample=in_box(*domain),
            ),
            Term("boundary", given, around, target=0.0, sample=on_faces(*domain)),
        ],
        made.divide(*domain),
        coordinates="xy",
        exact=solution,
        test_points=uniform(4096, *domain, made.generator()),
        domain=domain,
        parameters=made.parameters(),
    )

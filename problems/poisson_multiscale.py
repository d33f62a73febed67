"""Poisson equation -u'' = f on (0, pi) with frequencies 1 to 8; 2 pieces.

u(0) = 0 and u(pi) = pi, as a hard constraint. Exact solution
u = x + sum_{k <= 4} sin(k x) / k + sin(8 x) / 8. 32 equispaced points, 1-20-20-20-1.
Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._fedpinn import Options, setting
from fedsciml.problems._suite import grid

FREQUENCIES = (1, 2, 3, 4, 8)


def poisson(u: Jet, row: Row) -> Tensor:
    """-u'' - f."""
    return -u.xx - row.target


def solution(points: Tensor) -> Tensor:
    """x + sum of sin(k x) / k, shape [n]."""
    x = points[:, 0]
    return sum((torch.sin(k * x) / k for k in FREQUENCIES), x)


def source(points: Tensor) -> Tensor:
    """f = sum of k sin(k x), shape [n]."""
    x = points[:, 0]
    return sum((k * torch.sin(k * x) for k in FREQUENCIES), torch.zeros_like(x))


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._fedpinn.Options``."""
    made = setting(clients, options)
    domain = [0.0], [pi]
    network = made.network(
        1,
        3,
        20,
        distance=lambda x: torch.tanh(x) * torch.tanh(pi - x),
        lift=lambda x: x,
    )
    return Problem(
        "poisson_multiscale",
        network,
        [
            Term(
                "pde",
                poisson,
                grid(made.count(32), *domain),
                target=source,
                sample=in_box(*domain),
            )
        ],
        made.deal(*domain),
        exact=solution,
        test_points=grid(100, *domain),
        domain=domain,
        parameters=made.parameters(),
    )

"""Helmholtz equation -Lap u - k^2 u = f on (0, 1)^2, k = 4 pi; 2 clients.

u = 0 on the boundary, as a hard constraint. Exact solution u = sin(k x) sin(k y), so
f = k^2 u. 24^2 Hammersley points inside and 24 on each side, 2-64-64-64-1 with the
activation sin. Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._fedpinn import Options, hammersley, setting
from fedsciml.problems._suite import grid, sinpi

K = 4 * pi


def helmholtz(u: Jet, row: Row) -> Tensor:
    """-u_xx - u_yy - k^2 u - f."""
    return -u.laplacian - K**2 * u.value - row.target


def solution(points: Tensor) -> Tensor:
    """sin(k x) sin(k y), shape [n]."""
    return sinpi(4 * points).prod(1)


def source(points: Tensor) -> Tensor:
    """f = k^2 u, shape [n]."""
    return K**2 * solution(points)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._fedpinn.Options``."""
    made = setting(clients, options, activation="sin")
    domain = [0.0, 0.0], [1.0, 1.0]
    inside = hammersley(made.count(24**2))
    inner = grid(round(len(inside) ** 0.5) + 2, [0.0], [1.0])[1:-1]
    side = torch.cat([inner, torch.zeros_like(inner)], dim=1)
    around = torch.cat([side, 1 - side, side.flip(1), 1 - side.flip(1)])
    network = made.network(
        2, 3, 64, distance=lambda points: (points * (1 - points)).prod(1)
    )
    return Problem(
        "helmholtz",
        network,
        [
            Term(
                "pde",
                helmholtz,
                torch.cat([inside, around]),
                target=source,
                sample=in_box(*domain),
            )
        ],
        made.deal(*domain),
        coordinates="xy",
        exact=solution,
        test_points=grid(60**2, *domain),
        domain=domain,
        parameters=made.parameters(),
    )

"""Regression of Schaffer's function of s = 4 x^2 + 4 y^2 on [0, 1]^2; 3 clients.

    u = 1/2 + (sin^2 s - 1/2) / (1 + s / 1000)^2

75^2 Hammersley points, 2-64-64-64-1 with the activation relu.
Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.problem import Problem, Term
from fedsciml.problems._fedpinn import Options, hammersley, setting
from fedsciml.problems._suite import given, grid


def solution(points: Tensor) -> Tensor:
    """1/2 + (sin^2 s - 1/2) / (1 + s / 1000)^2, shape [n]."""
    s = 4 * points.square().sum(1)
    return 0.5 + (torch.sin(s) ** 2 - 0.5) / (1 + 0.001 * s) ** 2


def make(clients: int = 3, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._fedpinn.Options``."""
    made = setting(clients, options, activation="relu")
    domain = [0.0, 0.0], [1.0, 1.0]
    return Problem(
        "schaffer",
        made.network(2, 3, 64),
        [
            Term(
                "data",
                given,
                hammersley(made.count(75**2)),
                target=solution,
                sample=in_box(*domain),
            )
        ],
        made.deal(*domain),
        coordinates="xy",
        exact=solution,
        test_points=grid(50**2, *domain),
        domain=domain,
        parameters=made.parameters(),
    )

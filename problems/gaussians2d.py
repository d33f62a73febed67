"""Regression of six anisotropic Gaussians on [0, 1]^2; 3 x 3 boxes.

u = sum A exp(-((x - mx) / sx)^2 / 2 - ((y - my) / sy)^2 / 2), 1000 uniform points in
each box, 2-20-20-20-20-1. Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608, which
does not settle whether the exponent has the factor 1/2; here it has.
"""

from typing import Unpack

import torch
from torch import Tensor

from fedsciml.problem import Problem
from fedsciml.problems._suite import Options, square

BUMPS = (
    (1.40, 0.18, 0.28, 0.06, 0.05),
    (0.90, 0.50, 0.28, 0.10, 0.06),
    (0.95, 0.82, 0.28, 0.11, 0.07),
    (0.75, 0.18, 0.72, 0.07, 0.06),
    (0.70, 0.50, 0.82, 0.07, 0.07),
    (0.80, 0.82, 0.74, 0.10, 0.07),
)
"""A, mx, my, sx, sy of each."""


def solution(points: Tensor) -> Tensor:
    """The sum of the Gaussians, shape [n]."""
    x, y = points.unbind(1)
    total = torch.zeros_like(x)
    for a, mx, my, sx, sy in BUMPS:
        exponent = ((x - mx) / sx) ** 2 / 2 + ((y - my) / sy) ** 2 / 2
        total = total + a * torch.exp(-exponent)
    return total


def make(clients: int = 9, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return square("gaussians2d", solution, 3, clients, options)

"""Poisson equation -Lap u = f on (0, 1)^2, u given on all faces; 2 halves.

Exact solution u = sum_i sin(pi x_i), so f = pi^2 u.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from typing import Unpack

from fedsciml.problem import Problem
from fedsciml.problems._suite import Options, poisson


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return poisson(2, clients, options, interior=2000, boundary=200, weight=100.0)

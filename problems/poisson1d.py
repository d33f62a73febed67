"""Poisson equation -u'' = f on (0, 1), u given at both ends; 2 halves.

Exact solution u = sin(pi x), so f = pi^2 u.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from typing import Unpack

from fedsciml.problem import Problem
from fedsciml.problems._suite import Options, poisson


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return poisson(1, clients, options, interior=400, boundary=20, weight=10.0)

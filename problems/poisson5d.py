"""Poisson equation -Lap u = f on (0, 1)^5, u given on all faces; 2 halves.

Exact solution u = sum_i sin(pi x_i), so f = pi^2 u.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.

A wide and shallow network has a fifth of the parameters and learns it faster. With
``depth=1, width=64, initialisation="glorot", points=0.25`` and FIPA's policy
``natural:begin=1e-5``, three starts had errors of 2e-7 and less after 50 rounds of
half a second, and of 6e-9 and less after 70.
"""

from typing import Unpack

from fedsciml.problem import Problem
from fedsciml.problems._suite import Options, poisson


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return poisson(
        5, clients, options, interior=4000, boundary=1000, weight=100.0, test=20000
    )

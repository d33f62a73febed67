"""Poisson equation -Lap u = f on (0, 1)^10, u given on all faces; 2 halves.

Exact solution u = sum_i sin(pi x_i), so f = pi^2 u: that of ``poisson5d`` in twice as
many dimensions. The network is wide and shallow, 10-64-1.
"""

from typing import Unpack

from fedsciml.problem import Problem
from fedsciml.problems._suite import Options, poisson


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return poisson(
        10,
        clients,
        options,
        interior=2000,
        boundary=100,
        weight=100.0,
        test=20000,
        layers=1,
        width=64,
    )

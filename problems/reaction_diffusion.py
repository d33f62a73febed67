"""Reaction-diffusion equation -u'' + u^2 = f on (0, 1); 2 halves.

u is given at both ends. Exact solution u = sin(2 pi x), which gives f.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from math import pi
from typing import Unpack

from torch import Tensor

from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row
from fedsciml.problems._suite import Options, dirichlet, sinpi


def pde(u: Jet, row: Row) -> Tensor:
    """-u'' + u^2 - f."""
    return -u.xx + u.value**2 - row.target


def solution(x: Tensor) -> Tensor:
    """u = sin(2 pi x)."""
    return sinpi(2 * x[:, 0])


def source(x: Tensor) -> Tensor:
    """f = -s'' + s^2 for s = sin(2 pi x)."""
    s = solution(x)
    return 4 * pi**2 * s + s**2


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return dirichlet(
        "reaction_diffusion",
        pde,
        solution,
        source,
        clients,
        options,
        interior=800,
        weight=100.0,
    )

"""Allen-Cahn equation -u'' + u^3 - u = f on (0, 1); 2 halves.

u is given at both ends. Exact solution u = sin(pi x), which gives f.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row
from fedsciml.problems._suite import Options, dirichlet


def pde(u: Jet, row: Row) -> Tensor:
    """-u'' + u^3 - u - f."""
    return -u.xx + u.value**3 - u.value - row.target


def solution(x: Tensor) -> Tensor:
    """u = sin(pi x)."""
    return torch.sin(pi * x[:, 0])


def source(x: Tensor) -> Tensor:
    """f = -s'' + s^3 - s for s = sin(pi x)."""
    s = solution(x)
    return pi**2 * s + s**3 - s


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return dirichlet("allen_cahn", pde, solution, source, clients, options)

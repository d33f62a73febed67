"""Fisher-KPP equation -u'' + u (1 - u) = f on (0, 1); 2 halves.

u is given at both ends. Exact solution u = x^2 (1 - x), which gives f.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from typing import Unpack

from torch import Tensor

from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row
from fedsciml.problems._suite import Options, dirichlet


def pde(u: Jet, row: Row) -> Tensor:
    """-u'' + u (1 - u) - f."""
    return -u.xx + u.value * (1 - u.value) - row.target


def solution(x: Tensor) -> Tensor:
    """u = x^2 (1 - x)."""
    return x[:, 0] ** 2 * (1 - x[:, 0])


def source(x: Tensor) -> Tensor:
    """f = -s'' + s (1 - s) for s = x^2 (1 - x)."""
    s = solution(x)
    return 6 * x[:, 0] - 2 + s * (1 - s)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return dirichlet("fisher_kpp", pde, solution, source, clients, options)

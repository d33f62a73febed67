"""Bratu equation -u'' - exp(u) = f on (0, 1); 2 halves.

u is given at both ends. Exact solution u = x (1 - x), which gives f.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from typing import Unpack

import torch
from torch import Tensor

from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row
from fedsciml.problems._suite import Options, dirichlet


def pde(u: Jet, row: Row) -> Tensor:
    """-u'' - exp(u) - f."""
    return -u.xx - torch.exp(u.value) - row.target


def solution(x: Tensor) -> Tensor:
    """u = x (1 - x)."""
    return x[:, 0] * (1 - x[:, 0])


def source(x: Tensor) -> Tensor:
    """f = -s'' - exp(s) for s = x (1 - x)."""
    return 2 - torch.exp(solution(x))


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return dirichlet("bratu", pde, solution, source, clients, options)

"""Regression of u = sin(2 pi x) on [0, 1]; 2 strips.

400 uniform points in each strip, 1-20-20-20-1.
Source: Chang, He, Hao, FIPA (2026), arXiv 2601.13608.
"""

from typing import Unpack

from fedsciml.problem import Problem
from fedsciml.problems._suite import Options, sine

EDGES = (0.0, 0.5, 1.0)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._suite.Options``."""
    return sine(2, EDGES, clients, options)

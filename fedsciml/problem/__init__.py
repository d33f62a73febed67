"""What is trained, and who holds what."""

from fedsciml.problem.datafiles import Points, load_points
from fedsciml.problem.problem import Problem
from fedsciml.problem.rows import Rows, Shard
from fedsciml.problem.term import Residual, Row, Sampler, Term

__all__ = [
    "Points",
    "Problem",
    "Residual",
    "Row",
    "Rows",
    "Sampler",
    "Shard",
    "Term",
    "load_points",
]

"""What is trained, and who holds what."""

from fedsciml.problem.datafiles import (
    Points,
    load_points,
)
from fedsciml.problem.problem import (
    RESERVED,
    Problem,
    Residual,
    Row,
    Rows,
    Sampler,
    Shard,
    Term,
)

__all__ = [
    "RESERVED",
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

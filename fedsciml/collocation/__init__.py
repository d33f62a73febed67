"""Collocation points and who owns them: sampling, partitions, heterogeneity."""

from fedsciml.collocation.heterogeneity import heterogeneity
from fedsciml.collocation.partition import (
    SLACK,
    Partition,
    boxes,
    equal,
    explicit,
    pieces,
    sectors,
    strips,
)
from fedsciml.collocation.sampling import (
    boundary,
    decimals,
    face,
    initial,
    interior,
    uniform,
)

__all__ = [
    "SLACK",
    "Partition",
    "boundary",
    "boxes",
    "decimals",
    "equal",
    "explicit",
    "face",
    "heterogeneity",
    "initial",
    "interior",
    "pieces",
    "sectors",
    "strips",
    "uniform",
]

"""Collocation points and who owns them: sampling, partitions, heterogeneity."""

from fedsciml.collocation.heterogeneity import heterogeneity
from fedsciml.collocation.labels import dirichlet, split, unevenness
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
from fedsciml.collocation.samplers import in_box, on_faces, on_polygon
from fedsciml.collocation.sampling import (
    boundary,
    decimals,
    face,
    initial,
    interior,
    numpy_seeded,
    uniform,
)

__all__ = [
    "SLACK",
    "Partition",
    "boundary",
    "boxes",
    "decimals",
    "dirichlet",
    "equal",
    "explicit",
    "face",
    "heterogeneity",
    "in_box",
    "initial",
    "interior",
    "numpy_seeded",
    "on_faces",
    "on_polygon",
    "pieces",
    "sectors",
    "split",
    "strips",
    "unevenness",
    "uniform",
]

"""Small dense least squares: sketch, merge, truncate, solve. Knows no problem."""

from fedsciml.linalg.ranks import (
    FORMS,
    AboveCutoff,
    Budget,
    Context,
    Energy,
    Fixed,
    Predictive,
    Published,
    Schedule,
    changes,
    parse,
    share,
)
from fedsciml.linalg.sketch import (
    BATCH,
    OVERSAMPLE,
    Sketch,
    compress,
    from_jacobian,
    gather,
    merge,
    range_finder,
    subspace_iteration,
    truncate,
)
from fedsciml.linalg.solve import (
    Spectrum,
    spectrum,
)

__all__ = [
    "BATCH",
    "FORMS",
    "OVERSAMPLE",
    "AboveCutoff",
    "Budget",
    "Context",
    "Energy",
    "Fixed",
    "Predictive",
    "Published",
    "Schedule",
    "Sketch",
    "Spectrum",
    "changes",
    "compress",
    "from_jacobian",
    "gather",
    "merge",
    "parse",
    "range_finder",
    "share",
    "spectrum",
    "subspace_iteration",
    "truncate",
]

"""Small dense least squares: sketch, merge, truncate, solve. Knows no problem."""

from fedsciml.linalg.basis import Basis, pivots, summed
from fedsciml.linalg.randomised import (
    OVERSAMPLE,
    POWER_STEPS,
    range_finder,
    subspace_iteration,
)
from fedsciml.linalg.ranks import (
    FORMS,
    SCHEDULES,
    AboveCutoff,
    Budget,
    Context,
    Energy,
    Fixed,
    Predictive,
    Published,
    Schedule,
    parse,
    share,
)
from fedsciml.linalg.sketch import (
    Sketch,
    compress,
    from_jacobian,
    gather,
    merge,
    truncate,
)
from fedsciml.linalg.solve import Spectrum, spectrum

__all__ = [
    "FORMS",
    "OVERSAMPLE",
    "POWER_STEPS",
    "SCHEDULES",
    "AboveCutoff",
    "Basis",
    "Budget",
    "Context",
    "Energy",
    "Fixed",
    "Predictive",
    "Published",
    "Schedule",
    "Sketch",
    "Spectrum",
    "compress",
    "from_jacobian",
    "gather",
    "merge",
    "parse",
    "pivots",
    "range_finder",
    "share",
    "spectrum",
    "subspace_iteration",
    "summed",
    "truncate",
]

"""Methods around a method: warm-up, row scaling, compression, adaptive points."""

from fedsciml.wrappers.balance import (
    Balance,
    Balanced,
    balanced,
    factors,
    traces,
)
from fedsciml.wrappers.compress import (
    Compressed,
    Precision,
    compressed,
)
from fedsciml.wrappers.resample import (
    CANDIDATES,
    TINY,
    TRIES,
    Resampled,
    chosen,
    redrawn,
)
from fedsciml.wrappers.warmup import (
    Warmup,
)

__all__ = [
    "CANDIDATES",
    "TINY",
    "TRIES",
    "Balance",
    "Balanced",
    "Compressed",
    "Precision",
    "Resampled",
    "Warmup",
    "balanced",
    "chosen",
    "compressed",
    "factors",
    "redrawn",
    "traces",
]

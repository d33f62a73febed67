"""Rounds with clients that fail: ask, admit, merge, record, resume."""

from fedsciml.federation.backend import (
    Backend,
    Traffic,
    payload,
)
from fedsciml.federation.loop import (
    CHECKPOINT_SECONDS,
    Result,
    advance,
    describe,
    run,
)
from fedsciml.federation.participation import (
    LONGEST,
    RETRY,
    Federation,
    Found,
    Roll,
    Rules,
    TooFewClients,
)
from fedsciml.federation.record import (
    Checkpoint,
    Record,
    Round,
    environment,
    pack,
    replace_file,
    unpack,
)

__all__ = [
    "CHECKPOINT_SECONDS",
    "LONGEST",
    "RETRY",
    "Backend",
    "Checkpoint",
    "Federation",
    "Found",
    "Record",
    "Result",
    "Roll",
    "Round",
    "Rules",
    "TooFewClients",
    "Traffic",
    "advance",
    "describe",
    "environment",
    "pack",
    "payload",
    "replace_file",
    "run",
    "unpack",
]

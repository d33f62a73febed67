"""Weighted residual of a shard; J, J v, J^T w."""

from fedsciml.residual.fingerprint import (
    PROBES,
    agreement,
    contents,
    fingerprint,
)
from fedsciml.residual.system import (
    Linearisation,
    System,
)

__all__ = ["PROBES", "Linearisation", "System", "agreement", "contents", "fingerprint"]

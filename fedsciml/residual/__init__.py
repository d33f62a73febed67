"""Weighted residual of a shard, its Jacobian J, and the products J v and J^T w."""

from fedsciml.residual.autograd_rows import AutogradBlock, AutogradLinear
from fedsciml.residual.fingerprint import agreement, contents, fingerprint
from fedsciml.residual.jet_rows import JetBlock, TaylorBlock
from fedsciml.residual.personal import Eliminated, Together
from fedsciml.residual.steep import STEEP, gentle
from fedsciml.residual.system import Linearisation, System

__all__ = [
    "STEEP",
    "AutogradBlock",
    "AutogradLinear",
    "Eliminated",
    "JetBlock",
    "Linearisation",
    "System",
    "TaylorBlock",
    "Together",
    "agreement",
    "contents",
    "fingerprint",
    "gentle",
]

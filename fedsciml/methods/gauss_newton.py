"""Centralised Gauss-Newton: FIPA's steps on the pooled rows, by the full SVD of J.

The yardstick of every federated method. With one client FIPA *is* that client's
Gauss-Newton method, so this is FIPA with all rows in one place; by default the
decomposition is LAPACK's, without anything random or truncated.
"""

from typing import Literal

from fedsciml.methods._sketching import Sketcher
from fedsciml.methods.fipa import Fipa
from fedsciml.methods.fipa import make as fipa


def make(
    sketch: Sketcher = "svd",
    policy: Literal["natural", "line_search", "fixed"] = "natural",
    damping: float = 0.0,
    cutoff: float = 1e-10,
    step: float = 0.5,
) -> Fipa:
    """Centralised Gauss-Newton from plain options.

    Args:
        sketch: Full SVD; or range finder, faster and with the same digits.
        policy: As for fipa.
        damping: mu of the policies line_search and fixed, absolute.
        cutoff: Relative cut-off of singular values of line_search and fixed.
        step: Length of the step of the policy fixed.
    """
    made = fipa("cutoff", sketch, policy, damping, cutoff, step)
    return Fipa(made.policy, made.rank, sketch, None, "gauss_newton", pooled=True)

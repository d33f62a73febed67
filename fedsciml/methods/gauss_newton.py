"""Centralised Gauss-Newton: FIPA's steps on the pooled rows, by the full SVD of J.

The yardstick of every federated method. With one client FIPA *is* that client's
Gauss-Newton method, so this is FIPA with all rows in one place; by default the
decomposition is LAPACK's, without anything random or truncated.
"""

from typing import Literal

from fedsciml.methods._sketching import Sketcher
from fedsciml.methods.fipa import Fipa, step_policy


def make(
    sketch: Sketcher = "svd",
    policy: Literal["natural", "line_search", "fixed"] = "natural",
    damping: float | None = None,
    cutoff: float | None = None,
    step: float | None = None,
) -> Fipa:
    """Centralised Gauss-Newton from plain options.

    Args:
        sketch: Full SVD; or range finder, faster and with the same digits.
        policy: How far to step, as for fipa.
        damping: mu of the policies line_search and fixed, absolute; 0 if not given.
        cutoff: Relative cut-off of singular values of line_search and fixed; 1e-10 if
            not given.
        step: Length of the step of the policy fixed; 0.5 if not given.
    """
    policy_made = step_policy(policy, damping, cutoff, step)
    return Fipa(policy_made, sketch=sketch, name="gauss_newton", pooled=True)

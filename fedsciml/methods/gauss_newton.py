"""Centralised Gauss-Newton: FIPA's steps on the pooled rows, by the full SVD of J.

The yardstick of every federated method. With one client FIPA *is* that client's
Gauss-Newton method, so this is FIPA with all rows in one place; by default the
decomposition is LAPACK's, without anything random or truncated.
"""

from fedsciml import policies
from fedsciml.methods._fipa import Fipa
from fedsciml.methods._sketching import Sketcher


def make(sketch: Sketcher = "svd", policy: str | None = None) -> Fipa:
    """Centralised Gauss-Newton from plain options.

    Args:
        sketch: Full SVD; or range finder, faster and with the same digits.
        policy: How far to step, as for fipa; natural if not given, and greedy where
            clients have parameters of their own.
    """
    made, asked = policies.parse(policy or "natural"), policy is not None
    return Fipa(made, sketch=sketch, name="gauss_newton", pooled=True, asked=asked)

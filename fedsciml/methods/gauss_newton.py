"""Centralised Gauss-Newton: FIPA's steps on the pooled rows, by the full SVD of J.

The yardstick of every federated method. With one client FIPA *is* that client's
Gauss-Newton method, so this is FIPA with all rows in one place; by default the
decomposition is LAPACK's, without anything random or truncated.
"""

from typing import Literal

from fedsciml import policies
from fedsciml.methods._base import Method
from fedsciml.methods._sketching import Sketcher
from fedsciml.methods.fipa import Fipa
from fedsciml.wrappers.balance import balanced


def make(
    sketch: Sketcher = "svd",
    policy: str = "natural",
    balance: Literal["none", "terms"] = "none",
) -> Method:
    """Centralised Gauss-Newton from plain options.

    Args:
        sketch: Full SVD; or range finder, faster and with the same digits.
        policy: How far to step, as for fipa.
        balance: Scales rows for the step, so that all terms weigh the same.
    """
    made = policies.parse(policy)
    return balanced(
        Fipa(made, sketch=sketch, name="gauss_newton", pooled=True), balance
    )

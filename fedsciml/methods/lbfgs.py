"""Centralised L-BFGS on the pooled rows.

Liu, Nocedal, Mathematical Programming 45, 1989; torch's, with a strong Wolfe line
search.
"""

from fedsciml.methods._central import Central
from fedsciml.methods._local import Local


def make(tau: int = 100, history: int = 50) -> Central:
    """L-BFGS from plain options.

    Args:
        tau: Iterations per round, each of one or a few gradients.
        history: Curvature pairs it keeps.
    """
    local = Local("lbfgs", epochs=tau, keep_state=True, history=history)
    return Central(local, name="lbfgs")

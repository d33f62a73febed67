"""Centralised Adam on the pooled rows.

Kingma, Ba, ICLR 2015, arXiv 1412.6980; torch's, full batch.
"""

from fedsciml.methods._central import Central
from fedsciml.methods._local import Local


def make(tau: int = 100, learning_rate: float = 1e-3) -> Central:
    """Adam from plain options.

    Args:
        tau: Steps per round.
        learning_rate: Its step.
    """
    local = Local("adam", epochs=tau, learning_rate=learning_rate, keep_state=True)
    return Central(local, name="adam")

"""The suites of problems beside `_common.SUITE`, and what was published for them."""

from typing import NamedTuple


class Published(NamedTuple):
    """FedAvg as published: options of the method, and rounds."""

    options: dict[str, object]
    rounds: int


def _fedavg(tau: int, rounds: int, learning_rate: float = 1e-3) -> Published:
    """Adam whose state the clients keep over the rounds."""
    options: dict[str, object] = {
        "tau": tau,
        "learning_rate": learning_rate,
        "keep_state": True,
    }
    return Published(options, rounds)


PUBLISHED_FEDPINN = {
    "gramacy_lee": _fedavg(3, 5000),
    "schaffer": _fedavg(5, 3000),
    # tau and rounds of this one are not known to us; these are like its neighbours.
    "poisson_multiscale": _fedavg(5, 5000),
    "helmholtz": _fedavg(5, 2000),
    "allen_cahn_time": _fedavg(5, 10000),
    "euler_beam": _fedavg(5, 1000),
}
"""The problems of suite ``fedpinn``: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141."""

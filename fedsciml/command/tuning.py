"""The best options of the baselines that a search found (``make tune``)."""

import json
from pathlib import Path

LIKE_FEDAVG = ("fedadam", "feddyn", "fedfisher")
"""Methods that train locally as FedAvg does, with options of their own besides."""

BEST = Path(__file__).with_name("tuned.json")
"""Options by problem and method; ``best`` of the search's record."""


def tuned(problem: str, method: str) -> dict[str, object]:
    """The best options that the search found for a method on a problem.

    A method like FedAvg that was not searched there trains with FedAvg's options, and
    its own at their defaults.

    Raises:
        ValueError: If there are none.
    """
    found: dict[str, dict[str, object]]
    found = json.loads(BEST.read_text()).get(problem, {})
    for name in (method, "fedavg" if method in LIKE_FEDAVG else method):
        if name in found:
            return found[name]
    raise ValueError(
        f"There are no tuned options of method '{method}' for problem '{problem}'. "
        "Leave --tuned out or search for them (make tune, in a clone)."
    )

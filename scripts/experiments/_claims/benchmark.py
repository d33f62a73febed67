"""The prose of docs/benchmark.md."""

from experiments import tuning
from experiments._numbers import record
from experiments._prose import Claim, Setting


def gramians() -> list[str]:
    """On how many problems FedPM is best with the whole gramian, of how many."""
    found = [
        options.get("preconditioner") == "gramian"
        for _, method, _, options in tuning.winners(record("tuning.json"))
        if method == "fedpm"
    ]
    return [str(sum(found)), str(len(found))]


CLAIMS = [Claim("preconditioners, on {} of {} problems the whole gramian", gramians)]

SETTINGS: list[Setting] = [
    "the losses of 20 candidates",
    "is 100 steps",
    "FedAvg's 50 rounds",
    "Columns 3 to 5",
    "as FIPA in 50 rounds",
]

"""The prose of README.md."""

from experiments._prose import Claim, Setting
from experiments._record import select
from experiments._standing import by_problem, share
from experiments.standing import recorded


def there() -> list[str]:
    """Problems that FIPA solves from all starts, all problems, those from no start."""
    runs = by_problem(recorded())
    parts = [share(select(found, method="fipa")) for found in runs.values()]
    return [str(parts.count(1.0)), str(len(parts)), str(parts.count(0.0))]


CLAIMS: list[Claim] = [
    Claim("from all starts in {} of {} rows and from none in {}.", there)
]

SETTINGS: list[Setting] = [
    "an error of 1e-6",
    "all below 1e-11",
    "seconds of one core to 1e-6",
    "2000 iterations of Adam",
    "Apache-2.0",
    "100,000 parameters",
    "send less to 97 %",
]

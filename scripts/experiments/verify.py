"""Is FIPA's step that of centralised Gauss-Newton? ``make verify``, as a record.

What is compared, and how far: ``fedsciml/command/verification.py``. Four minutes.
"""

from collections.abc import Sequence

from experiments._experiment import Experiment
from experiments._numbers import power
from experiments._record import Entry, grouped, read
from experiments._table import Cell, Table
from fedsciml.command.suite import SUITE
from fedsciml.command.verification import DAMPINGS, NORMAL, PROMISED, entry, verified

PAGE = "docs/consistency.md"
SHOWN = {
    **{power(mu): f"fipa, mu = {mu:g}" for mu in DAMPINGS},
    "normal equations": f"fipa, {NORMAL}",
    **{f"published {power(mu)}": f"fipa_paper, mu = {mu:g}" for mu in DAMPINGS},
    "FedAvg, exact steps": f"fedavg, mu = {PROMISED:g}",
    "FedAvg, Adam": "fedavg, adam",
}
"""By head of the table, the check."""


def measure(problem: str) -> list[Entry]:
    """The checks of a problem."""
    return [entry(check) for check in verified(problem)]


def unpack(content: bytes) -> list[Entry]:
    """The checks, with their problems."""
    return [{"problem": e["check"].partition(",")[0], **e} for e in read(content)]


def worst(entries: Sequence[Entry], column: str) -> float:
    """Of the places where a problem is looked at."""
    mine = [e["value"] for e in entries if e["check"].endswith(f": {column}")]
    return max(float(value) for value in mine if value is not None)


def tables(entries: Sequence[Entry]) -> list[Table]:
    """A row per problem."""
    found = grouped(entries, "problem")
    rows: list[list[Cell]] = [
        [name, *(f"{worst(found[name], column):.1e}" for column in SHOWN.values())]
        for name in SUITE
        if name in found
    ]
    caption = "The greatest |D - D_gn| / |D_gn| by mu, and residuals at mu = 0."
    return [Table("verify", caption, ["problem", *SHOWN], rows, PAGE)]


EXPERIMENT = Experiment(
    "verify",
    __doc__,
    ("problem",),
    [(name,) for name in SUITE],
    measure,
    tables,
    page=PAGE,
    jobs=2,
    unpack=unpack,
)

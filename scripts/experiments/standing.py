"""How every problem stands by FIPA, Gauss-Newton, published FIPA, averaging, DeepXDE.

The table that README begins with, from the records of the experiments `fipa`,
`fedpinn`, `extra` and `more`; nothing is run. ``--table`` writes it.
"""

from collections.abc import Sequence

from experiments._experiment import Experiment
from experiments._record import DATA, Entry, read
from experiments._standing import standing
from experiments._table import Table

RECORDS = ("suite", "fedpinn", "extra", "more")


def tables(entries: Sequence[Entry]) -> list[Table]:
    """That of all four records, whichever is at hand."""
    del entries
    return standing(
        [e for name in RECORDS for e in read((DATA / f"{name}.json").read_bytes())]
    )


EXPERIMENT = Experiment("standing", __doc__, tables=tables, record="suite.json")

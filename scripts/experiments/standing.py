"""How every problem stands by FIPA, Gauss-Newton, published FIPA, rivals, DeepXDE.

The table that README begins with, and a figure, from the records of the experiments
`fipa`, `fedpinn`, `extra` and `more`; nothing is run. ``--table`` writes it.
"""

from collections.abc import Sequence

from experiments._drawing import Drawing
from experiments._experiment import Experiment
from experiments._record import DATA, Entry, read
from experiments._standing import marks, standing
from experiments._standing_figure import standing as standing_figure
from experiments._table import Table
from fedsciml import plot

RECORDS = ("suite", "fedpinn", "extra", "more")


def recorded() -> list[Entry]:
    """The entries of all four records."""
    return [e for name in RECORDS for e in read((DATA / f"{name}.json").read_bytes())]


def tables(entries: Sequence[Entry]) -> list[Table]:
    """That of all four records, whichever is at hand."""
    del entries
    return [standing(recorded())]


def drawn(*records: Sequence[Entry]) -> plot.Figure:
    """The same errors as marks on one axis."""
    return standing_figure(marks([entry for record in records for entry in record]))


EXPERIMENT = Experiment(
    "standing",
    __doc__,
    tables=tables,
    drawings={
        "standing": Drawing(
            drawn,
            "The error that each of five ways reaches on every problem with a known "
            "solution; medians over the starts, quartiles as bars.",
            tuple(f"{name}.json" for name in RECORDS),
        )
    },
    record="suite.json",
)

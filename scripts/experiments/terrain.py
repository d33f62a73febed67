"""Measured elevations: training and test errors of FIPA and of others, in metres.

A study that is done: problem `terrain`, four clients in strips; FedAvg at the best of
its settings, and every client alone.
"""

from collections.abc import Sequence

from experiments._experiment import Experiment
from experiments._numbers import digits
from experiments._record import Entry, select
from experiments._table import Cell, Table, megabytes


def table(entries: Sequence[Entry]) -> Table:
    """FIPA, centralised Gauss-Newton, FedAvg's best setting and every client alone."""
    (fipa,), (central,), (alone,) = (
        select(entries, method=name) for name in ("fipa", "gauss_newton", "alone")
    )
    fedavg = select(entries, method="fedavg")
    long = max(fedavg, key=lambda e: e["rounds"])
    setting = {key: long[key] for key in ("tau", "learning_rate", "keep_state")}
    (short,) = select(fedavg, rounds=fipa["rounds"], **setting)
    tried = len(select(fedavg, rounds=fipa["rounds"]))
    shown = {
        f"FIPA, {fipa['rounds']} rounds": fipa,
        f"centralised Gauss-Newton, {central['rounds']} steps": central,
        f"FedAvg, {long['rounds']} rounds, the best of {tried} settings": long,
        f"FedAvg, {short['rounds']} rounds, the same": short,
        "each client alone, in its own strip": alone,
    }
    rows: list[list[Cell]] = [
        [
            name,
            *(f"{e[key]:.1f}" for key in ("train", "test", "best")),
            megabytes(e["bytes"]) if e["bytes"] else None,
            digits(e["seconds"]),
        ]
        for name, e in shown.items()
    ]
    elsewhere = f"{alone['elsewhere']:.0f}"
    rows.append(
        ["each client alone, in the others' strips", None, elsewhere, *[None] * 3]
    )
    heads = ["method", "training", "test", "lowest test error of the rounds", "MB"]
    caption = "Root mean square errors in metres."
    return Table("terrain", caption, [*heads, "seconds"], rows, "docs/inverse.md")


EXPERIMENT = Experiment("terrain", __doc__, tables=lambda entries: [table(entries)])

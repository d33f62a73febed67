"""The figure of experiment `basis`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments._basis_tables import AVERAGING, few, recorded
from experiments._drawing import chosen, error_axis, look, methods_of, spread
from experiments._record import Entry, select
from experiments._words import title
from fedsciml import plot
from fedsciml.plot import Curve, Panel

PROBLEMS = ("allen_cahn", "reaction_diffusion", "poisson2d", "sine8")
WORDS = {
    "own": ("FIPA, own sketches", 0, 1),
    "rows": ("FIPA, shared basis, rows", 0, 0),
    "sums": ("FIPA, shared basis, sums", 5, 0),
}
"""By way: label, colour, dash."""


def by_bytes(entries: Sequence[Entry], suite: Sequence[Entry]) -> plot.Figure:
    """Median errors against the megabytes that crossed both ways."""
    rivals = [*recorded(suite), *(e for e in entries if e["way"] in AVERAGING)]
    parts = []
    for problem in PROBLEMS:
        mine = chosen(few(entries), problem=problem)
        others = select(rivals, problem=problem)
        curves = []
        for method in methods_of(others):
            found = replace(against(select(others, method=method)), band=None)
            curves.append(replace(found, **look(method)._asdict(), width=0.8))
        for way, (label, colour, dash) in WORDS.items():
            found = against(select(mine, way=way))
            curves.append(
                replace(found, label=label, colour=colour, dash=dash, width=1.6)
            )
        words = f"{title(problem)}, {others[0]['clients']} clients"
        parts.append(Panel(words, "megabytes, both ways", error_axis(mine), curves))
    return plot.panels(parts, 2, height=2.6, legend="below")


def against(runs: Sequence[Entry]) -> Curve:
    """The median of runs; of rivals the lowest error so far."""
    return spread(
        [
            {
                "error": e["error"]
                if e["method"] == "fipa"
                else np.fmin.accumulate(e["error"]).tolist(),
                "megabytes": [b / 1e6 for b in e["bytes"]],
            }
            for e in runs
        ],
        "megabytes",
    )

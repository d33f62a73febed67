"""Classes: who has which, which are taken for others, and how surely."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedsciml.likelihoods import Reliability
from fedsciml.plot.style import COLOURS, COLUMN, styled

FEW = 20
"""Rows or columns above which cells have no numbers, and not each has a name."""


@styled()
def confusion(counts: NDArray[np.int64], title: str = "") -> Figure:
    """Rows of each class by what they are taken for.

    Args:
        counts: Rows of class i that are taken for class j, shape [C, C].
        title: Title above the figure.
    """
    side = COLUMN if len(counts) <= FEW else 1.5 * COLUMN
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    cells(axes, counts)
    axes.set(xlabel="taken for class", ylabel="class")
    axes.set_aspect("equal")
    figure.suptitle(title)
    return figure


@styled()
def reliability(found: Reliability, title: str = "") -> Figure:
    """Of choices made with some probability the part that is right, and how many.

    Args:
        found: By bins of the probability; marks are the larger the more rows there are.
        title: Title above the figure.
    """
    told, right, rows = (part.cpu().numpy() for part in found)
    figure = Figure(figsize=(COLUMN, 1.15 * COLUMN), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="calibrated")
    sizes = 12 + 100 * (rows / rows.sum()) ** 0.5
    top.scatter(told, right, sizes, color=COLOURS[0], label="this model", zorder=3)
    top.set(ylabel="part that is right", xlim=(0, 1.03), ylim=(-0.04, 1.06))
    top.legend(loc="upper left")
    bottom.bar(told, rows / rows.sum(), width=0.04, color=COLOURS[0])
    bottom.set(xlabel="probability given to the choice", ylabel="part of rows")
    figure.suptitle(title)
    return figure


def cells(axes: Axes, counts: NDArray[np.int64], clients: bool = False) -> None:
    """Counts as numbers in cells, which are the darker the larger their part of a row.

    Args:
        axes: Where.
        counts: Shape [rows, columns], a class a column.
        clients: Whether rows are clients; else they are classes.
    """
    parts = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    rows, columns = counts.shape
    axes.set_xticks(ticks(columns))
    axes.set_yticks(ticks(rows))
    if clients:
        axes.set_yticks(ticks(rows), [f"client {m}" for m in ticks(rows)])
    if max(rows, columns) > FEW:
        return
    for (i, j), count in np.ndenumerate(counts):
        if count:
            ink = "white" if parts[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count}", color=ink, ha="center", va="center", fontsize=6)


def ticks(n: int, most: int = FEW) -> Sequence[int]:
    """Numbers below n, all of few or some of many."""
    return range(0, n, -(-n // most))

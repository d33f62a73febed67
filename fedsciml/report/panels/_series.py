"""What panels share: quantities against rounds, as a picture and as a table."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from fedsciml import plot
from fedsciml.federation import Round
from fedsciml.report.markup import Html, picture
from fedsciml.report.words import number

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Positions and values of each curve, by its label."""

FEW = 8
"""Curves of which each is drawn; of more, how they are spread."""

ROWS = 16
"""Rounds in a table, at most."""


def sampled(history: Sequence[Round], most: int = ROWS) -> list[Round]:
    """Some rounds, evenly, the first and the last among them."""
    if len(history) <= most:
        return list(history)
    kept = np.unique(np.linspace(0, len(history) - 1, most).round().astype(int))
    return [history[k] for k in kept]


def of_each(
    history: Sequence[Round], quantity: str, word: str = ""
) -> dict[str, tuple[list[float], list[float]]]:
    """A field of rounds that is a mapping, as curves against the rounds.

    Args:
        history: All rounds.
        quantity: Name of the field.
        word: Before the names, as "client".
    """
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in history:
        for name, value in getattr(line, quantity).items():
            x, y = found.setdefault(f"{word} {name}".strip(), ([], []))
            x.append(line.round)
            y.append(value)
    return found


def named(clients: Sequence[int], most: int = 16) -> dict[float, str]:
    """Names of clients at an axis, or of some of many."""
    step = -(-len(clients) // most)
    return {float(m): f"client {m}" for m in clients[::step]}


def drawn(
    series: Series,
    caption: str,
    *,
    xlabel: str = "round",
    ylabel: str = "",
    yscale: str = "log",
    first: int = 0,
    told: str = "",
    width: int = 420,
) -> Html:
    """A picture of few curves, or of the spread of many; nothing of none.

    Args:
        series: The curves.
        caption: What they are.
        xlabel: What they are drawn against.
        ylabel: What stands above the axis.
        yscale: "log" or "linear".
        first: Index of the first one's colour.
        width: Of the drawing, in pixels.
        told: What is seen; by default where each curve begins and ends.
    """
    if len(series) > FEW:
        curves, legend = _spread(series)
    else:
        curves = [
            plot.Curve(label, x, y, first + k, k)
            for k, (label, (x, y)) in enumerate(series.items())
        ]
        legend = [(c.label, c.colour, c.dash or 0) for c in curves]
    panel = plot.Panel("", xlabel, ylabel, curves, "linear", yscale)
    told = told or " ".join(filter(None, (_told(c) for c in curves)))
    named = legend if len(legend) > 1 or len(series) > FEW else []
    return picture(plot.chart(panel, width), caption, told, named)


def _spread(series: Series) -> tuple[list[plot.Curve], list[tuple[str, int, int]]]:
    """Median and range of many curves, by position."""
    at: dict[float, list[float]] = {}
    for x, y in series.values():
        for position, value in zip(x, y, strict=True):
            if math.isfinite(value):
                at.setdefault(position, []).append(value)
    x = sorted(at)
    low, high = [min(at[k]) for k in x], [max(at[k]) for k in x]
    label = f"median of {len(series)}, and their range"
    middle = plot.Curve(label, x, [median(at[k]) for k in x], band=(low, high))
    return [middle], [(label, 0, 0)]


def _told(curve: plot.Curve) -> str:
    """Where a curve begins and ends."""
    known = [v for v in curve.y if math.isfinite(v)]
    if not known:
        return ""
    return f"{curve.label}: from {number(known[0])} to {number(known[-1])}."

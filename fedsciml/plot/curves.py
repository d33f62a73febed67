"""Convergence of methods, and performance profiles."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedsciml.federation.history import RISES, Round
from fedsciml.plot.layout import Curve, Panel, panels
from fedsciml.plot.style import QUANTITIES


def convergence(
    histories: Mapping[str, Sequence[Round]],
    quantity: str = "relative_l2",
    title: str = "",
) -> Figure:
    """A quantity of each method against rounds, bytes sent and seconds.

    Args:
        histories: The history of a run (see ``Result``) for each label.
        quantity: Field of ``Round``: ``relative_l2``, ``mse``, ``loss`` or ``gn_gap``;
            or one of its metrics: ``accuracy``, ``deviance``.
        title: Title above the figure.
    """
    rounds, sent, seconds = [], [], []
    silent = []
    for number, (label, history) in enumerate(histories.items()):
        value = _column(history, quantity)
        value = np.where(value > 0, value, np.nan)
        k = _column(history, "round")
        curve = Curve(label, list(k), list(value), number, number)
        rounds.append(curve)
        seconds.append(replace(curve, x=list(_column(history, "seconds"))))
        both = _column(history, "sent") / 1e6
        if len(both) and both[-1] > 0:
            sent.append(replace(curve, x=list(both)))
        else:
            silent.append(label)
    ylabel = QUANTITIES.get(quantity, quantity)
    nothing = f"centralised, nothing sent: {', '.join(silent)}" if silent else ""
    scale = "linear" if quantity in RISES else "log"
    parts = [
        Panel("", "round", ylabel, rounds, "linear", scale),
        Panel(nothing, "megabytes sent, both ways", ylabel, sent, yscale=scale),
        Panel("", "seconds", ylabel, seconds, yscale=scale),
    ]
    return panels(parts, 3, height=2.7, legend="below", sharey="row", title=title)


def profile(costs: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Performance profiles (Dolan, More, Math. Program. 91, 2002).

    A curve gives, for each factor, the share of the cases in which a solver needs at
    most that factor of what the best solver of the case needs.

    Args:
        costs: For each kind of cost, which is a panel (rounds, bytes), and each solver
            the cost of all cases, in the same order; infinite where it fails.
        title: Title above the figure.
    """
    parts = []
    for kind, solvers in costs.items():
        table = np.array(list(solvers.values()), dtype=float)
        best = table.min(axis=0)
        ratios = table[:, np.isfinite(best)] / best[np.isfinite(best)]
        top = 1.1 * max(2.0, ratios[np.isfinite(ratios)].max(initial=1.0))
        curves = []
        for number, (label, row) in enumerate(zip(solvers, ratios, strict=True)):
            solved = np.sort(row[np.isfinite(row)])
            share = np.arange(len(solved) + 1) / table.shape[1]
            x = np.repeat([*solved, top], 2)
            y = np.repeat(share, 2)
            curves.append(Curve(label, [1.0, *x[:-1]], list(y), number, number))
        parts.append(
            Panel(
                "",
                f"{kind}, times the best",
                "share of cases",
                curves,
                yscale="linear",
                xlim=(1, top),
                ylim=(-0.02, 1.02),
            )
        )
    columns = len(parts)
    return panels(parts, columns, height=3.2, legend="below", sharey="row", title=title)


def _column(history: Sequence[Round], key: str) -> NDArray[np.float64]:
    """One quantity of a history, NaN where a round lacks it."""
    return np.array([line.value(key) for line in history])

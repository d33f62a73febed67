"""Figures of the inverse problems: numbers found, and their 95 % intervals."""

from collections.abc import Sequence
from math import nan

from _common import Entry
from experiments._drawing import Drawing, chosen, look
from experiments._drawing import methods_of as methods
from experiments._record import grouped
from study_coverage import coverage, quantile

from fedsciml import plot
from fedsciml.plot import Curve, Panel


def inverse(found: Sequence[Entry], draws: Sequence[Entry]) -> plot.Figure:
    """Errors of the numbers by round, and the intervals of the draws."""
    usual = chosen(found, "inverse.json", weight=1.0)
    parts = [
        Panel(
            f"{problem}, {'1 % noise' if noise else 'clean data'}",
            "round",
            "relative error of nu",
            curves(entries),
            xscale="linear",
        )
        for (problem, noise), entries in grouped(usual, "problem", "noise").items()
    ]
    return plot.panels([*parts, intervals(draws)], 3, height=1.9, legend="below")


def curves(entries: Sequence[Entry]) -> list[Curve]:
    """Every run of FIPA, and the best of FedAvg's."""
    result = []
    for method in methods(entries):
        runs = [e for e in entries if e["method"] == method]
        if method == "fedavg":
            runs = sorted(runs, key=lambda e: float(e["error"]))[:1]
        label, colour, dash, _ = look(method)
        for run in runs:
            rounds = range(1, len(run["errors"]) + 1)
            result.append(Curve(label, rounds, run["errors"], colour, dash))
    return result


def intervals(draws: Sequence[Entry]) -> Panel:
    """The draws' 95 % intervals, ordered by the numbers found."""
    ordered = sorted(draws, key=lambda e: float(e["error"]))
    bars: dict[bool, tuple[list[float], list[float]]] = {
        True: ([], []),
        False: ([], []),
    }
    for k, e in enumerate(ordered):
        half = quantile(e) * e["deviation"]
        xs, ys = bars[abs(e["error"]) <= half]
        xs += [k, k, nan]
        ys += [100 * (e["error"] - half), 100 * (e["error"] + half), nan]
    share = coverage(draws, "deviation").share
    return Panel(
        f"{ordered[0]['problem']}, {share:.0%} contain the truth",
        "draw, by the number found",
        "95 % interval, % off",
        [
            Curve("", *bars[True], colour=0, width=0.8),
            Curve("", *bars[False], colour=1, width=0.8),
            Curve("", [0, len(ordered) - 1], [0, 0], colour=7),
        ],
        xscale="linear",
        yscale="linear",
    )


DRAWINGS = {
    "inverse": Drawing(
        inverse,
        ("inverse.json", "coverage.json"),
        "Error of the viscosity and the diffusivity found from the data of four sites, "
        "FIPA for three draws of the data and the best FedAvg for one; and 95 % "
        "intervals of the diffusivity for draws of 1 % noise.",
    ),
}

"""Figures of the consistency with centralised Gauss-Newton: spectra, trajectories."""

from collections.abc import Sequence
from itertools import product
from math import inf, isfinite, pi
from statistics import median

from _common import Entry
from experiments._drawing import Drawing, chosen
from experiments._record import grouped

from fedsciml import plot
from fedsciml.plot import Curve, Panel

POOLED = -1
"""The number of the client that stands for all of them."""

ROUNDING = 1e-14
"""Singular values are shown down to this part of the largest."""

SWEEPS = {
    "clients": "clients",
    "heterogeneity": "heterogeneity",
    "tau": "local epochs",
}
GAP = "gap in function values"
LEAST = 1e-17
"""A gap of zero is drawn as this."""


def spectra(entries: Sequence[Entry]) -> plot.Figure:
    """Singular values of the clients' Jacobians and of all rows', by round."""
    parts = []
    rounds = sorted({e["round"] for e in entries})
    cases = grouped(chosen(entries, "spectra.json"), "problem", "round")
    for problem in dict.fromkeys(name for name, _ in cases):
        for k in rounds:
            mine = sorted(cases.get((problem, k), []), key=lambda e: e["client"])
            parts.append(
                Panel(
                    f"{problem}, round {k}",
                    "number i",
                    "singular value $s_i$",
                    spectrum(mine),
                    xscale="linear",
                )
            )
    return plot.panels(parts, len(rounds), height=1.7, legend="below", sharey="row")


def spectrum(entries: Sequence[Entry]) -> list[Curve]:
    """Of one problem at one round, with the cut-off."""
    curves, longest = [], 1
    largest = max((s for e in entries for s in e["singular_values"]), default=0.0)
    for e in entries:
        values = [s for s in e["singular_values"] if s > ROUNDING * largest]
        order = range(1, len(values) + 1)
        longest = max(longest, len(values))
        m = e["client"]
        if m == POOLED:
            curves.append(Curve("all rows", order, values, 7, 0, width=1.6))
        else:
            curves.append(Curve(f"client {m}", order, values, m, m + 1, width=1.0))
    if entries:
        level = [entries[0]["cutoff"]] * 2
        curves.append(Curve("cut-off", [1, longest], level, 6, 3))
    return curves


def angles(entries: Sequence[Entry]) -> plot.Figure:
    """Principal angles between neighbours' sketches: a row per problem, by rank."""
    parts = []
    found = [e for e in chosen(entries, "spectra.json") if e["angles"]]
    for problem, runs in grouped(found, "problem").items():
        for rank in sorted({int(r) for e in runs for r in e["angles"]}):
            curves = []
            for number, (k, pairs) in enumerate(grouped(runs, "round").items()):
                order = range(1, rank + 1)
                each = [sorted(e["angles"][str(rank)]) for e in pairs]
                low, middle, high = (
                    [of(same) for same in zip(*each, strict=True)]
                    for of in (min, median, max)
                )
                ends = None if len(each) == 1 else (low, high)
                look = number + 1
                curves.append(
                    Curve(f"round {k}", order, middle, number, number, look, ends)
                )
            parts.append(
                Panel(
                    f"{problem}, rank {rank}",
                    "number",
                    "principal angle",
                    curves,
                    xscale="linear",
                    yscale="linear",
                    yticks={0.0: "0", pi / 4: r"$\pi/4$", pi / 2: r"$\pi/2$"},
                )
            )
    return plot.panels(parts, 3, height=1.7, legend="below", sharey="row")


def gaps(entries: Sequence[Entry]) -> plot.Figure:
    """How far from the centralised trajectory, and what decides on it."""
    found = chosen(entries, "trajectory.json", sweep=("rank", *SWEEPS))
    ranks = [e for e in found if e["sweep"] == "rank"]
    others = grouped([e for e in found if e not in ranks], "problem", "sweep")
    swept = dict.fromkeys(problem for problem, _ in others)
    parts = [by_round([e for e in ranks if e["problem"] == name]) for name in swept]
    names = sorted({e["problem"] for e in ranks})
    parts.append(Panel("all problems", "rank", GAP, against(ranks, "problem", names)))
    solvers = sorted({e["kind"] for e in found if e["sweep"] == "tau"})
    kinds = sorted({e["kind"] for e in found if e["sweep"] not in ("rank", "tau")})
    for problem, (sweep, word) in product(swept, SWEEPS.items()):
        runs = others.get((problem, sweep), [])
        labels = solvers if sweep == "tau" else kinds
        parts.append(Panel(problem, word, GAP, against(runs, "kind", labels)))
    parts = [panel for panel in parts if panel.curves]
    return plot.panels(parts, 3, height=2.1)


def by_round(entries: Sequence[Entry]) -> Panel:
    """The gap after each round, for all ranks tried on a problem."""
    curves = []
    for k, e in enumerate(sorted(entries, key=size)):
        label = e["value"] if size(e) == inf else f"rank {e['value']}"
        gap = [max(value, LEAST) for value in e["function"]]
        curves.append(Curve(label, range(1, len(gap) + 1), gap, k, k))
    problem = entries[0]["problem"] if entries else ""
    room = (0, 1.7 * max((len(curve.x) for curve in curves), default=1))
    return Panel(problem, "round", GAP, curves, xscale="linear", xlim=room)


def size(entry: Entry) -> float:
    """The value of a sweep as a number; a word is beyond all numbers."""
    value = entry.get("heterogeneity") if entry["sweep"] == "heterogeneity" else None
    value = entry["value"] if value is None else value
    return float(value) if isinstance(value, int | float) else inf


def against(entries: Sequence[Entry], key: str, labels: Sequence[str]) -> list[Curve]:
    """The last gap by the value of the sweep; where that is a word, a level.

    Trajectories that ran away before have none.

    Args:
        entries: Of a sweep.
        key: The field that tells the curves apart.
        labels: Its values in all the panels; each has one look.
    """
    curves = []
    width = sorted(x for e in entries if isfinite(x := size(e)))
    rounds = max(len(e["function"]) for e in entries)
    for label, runs in grouped(entries, key).items():
        number = labels.index(label)
        ended = [e for e in runs if len(e["function"]) == rounds]
        last = sorted((size(e), max(e["function"][-1], LEAST)) for e in ended)
        found = [(x, y) for x, y in last if isfinite(x)]
        at, gap = [x for x, _ in found], [y for _, y in found]
        curves.append(Curve(label, at, gap, number, number, number + 1))
        for _, y in last[len(found) :]:
            curves.append(Curve("", [width[0], width[-1]], [y] * 2, number, 3))
    return curves


def theorem(entries: Sequence[Entry]) -> plot.Figure:
    """The gap at the horizon K under the published schedule, beside 1 / K."""
    runs = chosen(entries, "trajectory.json", sweep="theorem")
    curves = []
    for number, e in enumerate(runs):
        slope = f"{e['slope']:.2f} [{e['slope_low']:.2f}, {e['slope_high']:.2f}]"
        kind = e["kind"].replace("tau <=", r"$\tau \leq$")
        label = f"{e['problem']}, {kind}: slope {slope}"
        gap = [max(g, LEAST) for g in e["gap"]]
        curves.append(Curve(label, e["K"], gap, number, number, number + 1))
    horizons = runs[0]["K"]
    line = [runs[0]["gap"][-1] * horizons[-1] / k for k in horizons]
    curves.append(Curve("1 / K", horizons, line, 6, 3))
    panel = Panel("", "horizon K", "gap to centralised Gauss-Newton", curves)
    return plot.panels([panel], 1, width=plot.COLUMN, height=3.0, legend="below")


DRAWINGS = {
    "spectra": Drawing(
        spectra,
        ("spectra.json",),
        "Singular values of every client's Jacobian and of that of all rows along the "
        "training, with the cut-off in use.",
    ),
    "spectra-angles": Drawing(
        angles,
        ("spectra.json",),
        "Principal angles between the leading row spaces of neighbours' sketches: 0 "
        "where both see the same direction; medians and extremes over the neighbours.",
    ),
    "trajectory-gap": Drawing(
        gaps,
        ("trajectory.json",),
        "How far what FIPA trains is from the function of centralised Gauss-Newton, "
        "by round, and at the end against rank, clients, heterogeneity, local epochs.",
    ),
    "trajectory-theorem": Drawing(
        theorem,
        ("trajectory.json",),
        "The gap to centralised Gauss-Newton at the horizon K under the published "
        "schedule, its fitted slope, and the line 1/K.",
    ),
}

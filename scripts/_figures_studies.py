"""Figures of the clients: partitions, their number, costs of a round, solutions."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import nan
from statistics import median
from typing import Any

import numpy as np
from _common import Entry
from _figures import Drawing, MissingRecordError, chosen, grouped, look, styled
from numpy.typing import NDArray

from fedsciml import plot
from fedsciml.plot import Curve, Panel

BARS = 6
"""Partitions of the interval that are drawn, from the published to mixed ones."""


def partitions(entries: Sequence[Entry]) -> plot.Figure:
    """Owners of intervals and points, and the heterogeneity that goes with them."""
    mixed = [e for e in entries if e["pieces"]]
    whole = [e for e in entries if not e["pieces"]]
    parts = [
        owners(chosen(entries, "partitions.json", problem="sine8")[:BARS]),
        Panel(
            "interleaved pieces",
            "pieces per client",
            "heterogeneity",
            heterogeneities(mixed, "pieces", "clients"),
        ),
        Panel(
            "one part each",
            "clients",
            "heterogeneity",
            heterogeneities(whole, "clients", "partition"),
            yscale="linear",
        ),
        *(cloud(e) for e in entries if "points" in e),
    ]
    return plot.panels(parts, 3, height=2.2)


def heterogeneities(entries: Sequence[Entry], x: str, other: str) -> list[Curve]:
    """Heterogeneity against x, of every problem with every value of the other field."""
    curves: list[Curve] = []
    for (problem, value), mine in grouped(entries, "problem", other).items():
        if len(mine) > 1:
            label = f"{problem}, {value}" + " clients" * (other == "clients")
            at, y = zip(*sorted((e[x], e["heterogeneity"]) for e in mine), strict=True)
            k = len(curves)
            curves.append(Curve(label, at, y, k, k, k + 1))
    return curves


def owners(entries: Sequence[Entry]) -> Panel:
    """Who owns which part of the interval, a bar per partition."""
    bars: dict[int, tuple[list[float], list[float]]] = {}
    words = {}
    for y, e in enumerate(entries):
        for (a, b), m in zip(pairwise(e["edges"]), e["owner"], strict=True):
            xs, ys = bars.setdefault(m, ([], []))
            xs += [a, b, nan]
            ys += [y, y, nan]
        words[float(y)] = f"{e['partition']}, {e['heterogeneity']:.2f}"
    first = zip(pairwise(entries[0]["edges"]), entries[0]["owner"], strict=True)
    return Panel(
        f"{entries[0]['problem']}, {entries[0]['clients']} clients",
        "x",
        "",
        [Curve("", *bars[m], colour=m, width=9) for m in sorted(bars)],
        xscale="linear",
        yscale="linear",
        xlim=(0, 1),
        ylim=(len(entries) - 0.5, -0.9),
        texts={((a + b) / 2, -0.6): str(m) for (a, b), m in first},
        yticks=words,
    )


def cloud(entry: Entry) -> Panel:
    """Points of the clients in the square."""
    curves, texts = [], {}
    for m, points in enumerate(entry["points"]):
        x, y = zip(*points, strict=True)
        curves.append(Curve("", x, y, m, None, m, size=2))
        if ":" not in entry["partition"]:  # the clients' parts have a middle
            texts[sum(x) / len(x), sum(y) / len(y)] = str(m)
    return Panel(
        f"{entry['problem']}, {entry['partition']}, {entry['heterogeneity']:.2f}",
        "x",
        "y",
        curves,
        xscale="linear",
        yscale="linear",
        xlim=(0, 1),
        ylim=(0, 1),
        texts=texts,
        equal=True,
    )


def sweep(entries: Sequence[Entry]) -> plot.Figure:
    """Final error and rank against the number of clients and against heterogeneity."""
    parts = []
    for problem, runs in grouped(entries, "problem").items():
        strips = [e for e in runs if e["partition"] in ("strips", "boxes")]
        others = [e for e in runs if e not in strips]
        number = {m: mine for m, mine in grouped(strips, "method").items() if m}
        kinds = {m: mine for m, mine in grouped(others, "method").items() if m}
        parts += [
            Panel(problem, "clients", "error", against(number, "clients", "error")),
            Panel(
                problem,
                "clients",
                "megabytes sent, both ways",
                against(number, "clients", "bytes"),
            ),
            Panel(
                problem,
                "heterogeneity",
                "error",
                against(kinds, "heterogeneity", "error"),
            ),
        ]
    return plot.panels(parts, 3, height=2.0, legend="below")


def against(by_method: Mapping[str, Sequence[Entry]], x: str, y: str) -> list[Curve]:
    """Medians and extremes over the starts; a single place of a method is a level."""
    curves = []
    width = [e[x] for mine in by_method.values() for e in mine]
    scale = 1e-6 if y == "bytes" else 1.0
    for method, mine in by_method.items():
        places = {
            place: sorted(scale * e[y] for e in found)
            for place, found in grouped(mine, x).items()
            if all(e[y] for e in found)
        }
        if not places:
            continue
        at = list(places)
        values = list(places.values())
        if len(at) == 1:
            at, values = [min(width), max(width)], values * 2
        middle = [median(v) for v in values]
        ends = [v[0] for v in values], [v[-1] for v in values]
        curves.append(styled(method, Curve("", at, middle, band=ends)))
    return curves


def costs(entries: Sequence[Entry]) -> plot.Figure:
    """Seconds of each part of a round against p, n and M."""
    words = {"p": "parameters p", "n": "rows n", "M": "clients M"}
    order = list(dict.fromkeys(e["part"] for e in entries))
    parts = []
    for problem, runs in grouped(entries, "problem").items():
        for axis, word in words.items():
            curves = []
            for part in order:
                mine = [e for e in runs if (e["axis"], e["part"]) == (axis, part)]
                found = grouped(mine, axis)
                if found:
                    number = order.index(part)
                    y = [median(e["seconds"] for e in same) for same in found.values()]
                    curves.append(Curve(part, list(found), y, number, number, number))
            parts.append(Panel(problem, word, "seconds of CPU time", curves))
    return plot.panels(parts, 3, height=2.0, legend="below", sharey="row")


def solutions(arrays: Mapping[str, NDArray[Any]]) -> plot.Figure:
    """Solutions, and the errors of the methods on one colour scale."""
    slices = {"poisson3d": "poisson3d, z = 1/2", "poisson5d": "poisson5d, others 1/2"}
    kinds = ("fedavg", "fipa", "gauss_newton")
    fields: dict[str, NDArray[Any]] = {}
    errors: dict[str, dict[str, NDArray[Any]]] = {look(m).label: {} for m in kinds}
    for name in ("gaussians2d", "poisson2d", "poisson3d", "poisson5d"):
        if f"{name}/reference" not in arrays:
            continue
        label = slices.get(name, name)
        fields[label] = arrays[f"{name}/reference"].astype(np.float64)
        for method in kinds:
            if f"{name}/{method}" in arrays:
                error = arrays[f"{name}/{method}"].astype(np.float64)
                errors[look(method).label][label] = error
    if not fields:
        raise MissingRecordError("solutions.npz has no reference solution")
    return plot.maps(fields, errors)


DRAWINGS = {
    "clients-partitions": Drawing(
        partitions,
        ("partitions.json",),
        "Which client holds which points, and how their heterogeneity (the mean "
        "1-Wasserstein distance between two clients' points) depends on the partition.",
    ),
    "clients-sweep": Drawing(
        sweep,
        ("clients.json",),
        "Final error and bytes against the number of clients, and final error against "
        "heterogeneity, for FIPA, FedAvg and centralised Gauss-Newton.",
    ),
    "round-cost": Drawing(
        costs,
        ("cost.json",),
        "Seconds of the parts of a round against the number of parameters, of rows and "
        "of clients.",
    ),
    "solutions": Drawing(
        solutions,
        ("solutions.npz",),
        "Solutions, and the errors of FedAvg, FIPA and centralised Gauss-Newton on one "
        "colour scale.",
    ),
}

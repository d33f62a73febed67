"""Figures of the clients: partitions, their number, costs of a round, solutions."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import nan
from operator import itemgetter
from typing import Any

from _common import Entry
from experiments._drawing import (
    Drawing,
    MissingRecordError,
    chosen,
    look,
)
from experiments._record import grouped
from numpy.typing import NDArray

from fedsciml import plot
from fedsciml.plot import Curve, Panel

BARS = 6
"""Partitions of the interval that are drawn, from the published to mixed ones."""


def partitions(entries: Sequence[Entry]) -> plot.Figure:
    """Owners of intervals and points, and the heterogeneity that goes with them."""
    entries = sorted(entries, key=itemgetter("pieces", "clients"))
    mixed = [e for e in entries if e["pieces"]]
    whole = [e for e in entries if not e["pieces"]]
    parts = [
        owners(chosen(entries, "partitions.json", problem="sine8")[:BARS]),
        Panel(
            "interleaved pieces",
            "pieces per client",
            "heterogeneity",
            heterogeneities(mixed, "pieces", "clients"),
            ylim=(3e-3, 3),
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


def solutions(arrays: Mapping[str, NDArray[Any]]) -> plot.Figure:
    """Solutions, and the errors of the methods on one colour scale."""
    planes = {"poisson3d": ", z = 1/2", "poisson5d": ", others 1/2"}
    kinds = ("fedavg", "fipa", "gauss_newton")
    fields: dict[str, NDArray[Any]] = {}
    errors: dict[str, dict[str, NDArray[Any]]] = {look(m).label: {} for m in kinds}
    for name in ("gaussians2d", "poisson2d", "poisson3d", "poisson5d"):
        label = name + planes.get(name, "")
        for method in kinds:
            if f"{name}/{method}" in arrays:  # [i, j] is at x_i, y_j
                fields[label] = arrays[f"{name}/reference"].T
                errors[look(method).label][label] = arrays[f"{name}/{method}"].T
    if not fields:
        raise MissingRecordError("solutions.npz has no solution yet")
    return plot.maps(fields, errors)


DRAWINGS = {
    "clients-partitions": Drawing(
        partitions,
        ("partitions.json",),
        "Which client holds which points, and the heterogeneity by partition: the mean "
        "1-Wasserstein distance of two clients' points, the numbers in the labels.",
    ),
    "solutions": Drawing(
        solutions,
        ("solutions.npz",),
        "Solutions, and the errors of FedAvg, FIPA and centralised Gauss-Newton on one "
        "colour scale.",
    ),
}

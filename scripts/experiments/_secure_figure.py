"""The figures of experiment `secure`."""

from collections.abc import Sequence
from statistics import mean

from experiments._drawing import chosen, look
from experiments._record import Entry, grouped, select
from experiments._secure_tables import METHODS, read_words
from experiments.observer import chance
from fedsciml import plot
from fedsciml.plot import Curve, Panel

POINTS = 20
"""Of the site that drops out."""

ASKED = 2.0
"""Times the bytes of plain sums that secure ones may take."""

WAYS = {
    ("subtracted", "1"): ("two sums subtracted", 7, 2, 2),
    ("predicted", "1"): ("predicted from one sum", 3, 0, 4),
    ("predicted", "3"): ("predicted from three sums", 2, None, 7),
}
"""By way and number of sums: label, colour, dash, marker."""


def left(entries: Sequence[Entry]) -> plot.Figure:
    """Points of a site that dropped out against how far the model was moved."""
    entries = [
        e
        for e in chosen(entries, kind="difference")
        if read_words(e["setting"])[0] == POINTS
    ]
    curves = []
    for (way, number), (label, colour, dash, marker) in WAYS.items():
        found: dict[float, list[float]] = {}
        for e in select(entries, way=way):
            far, _, sums = e["case"].partition(" x ")
            if sums == number and float(far):
                best = max(e["found"], e["fitted_found"])
                found.setdefault(100 * float(far), []).append(100 * best)
        x = sorted(found)
        y = [mean(found[at]) for at in x]
        curves.append(Curve(label, x, y, colour, dash, marker))
    level = [100 * chance(POINTS)] * 2
    curves.append(Curve("by chance", [2.0, 100.0], level, 6, 3, width=0.8))
    title = f"A site of {POINTS} points that dropped out"
    moved = "the model was moved by, % of its length"
    label = "points found, %"
    panel = Panel(title, moved, label, curves, yscale="linear", ylim=(-4, 104))
    return plot.panels([panel], 1, width=4.5, height=2.6, legend="below")


def dearer(entries: Sequence[Entry]) -> plot.Figure:
    """Bytes of secure sums over those of plain ones, against the number of clients."""
    curves, x = [], list[float]()
    for method in METHODS:
        found = grouped(chosen(entries, kind="cost", case=method), "clients")
        ratio = []
        for runs in found.values():
            plain, secure = (
                sum(select(runs, way=way)[0]["round"].values())
                for way in ("plain", "secure")
            )
            ratio.append(secure / plain)
        x = [float(clients) for clients in found]
        of = look(method)
        curves.append(Curve(of.label, x, ratio, of.colour, of.dash, of.marker))
    curves.append(Curve("twice", [x[0], x[-1]], [ASKED] * 2, 6, 3, width=0.8))
    title, label = "A round with secure sums", "bytes, over those of plain sums"
    panel = Panel(title, "sites", label, curves, yscale="linear", ylim=(1, 2.1))
    return plot.panels([panel], 1, width=4.5, height=2.6, legend="below")

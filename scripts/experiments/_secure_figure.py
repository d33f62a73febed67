"""The figure of experiment `secure`."""

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
    ("subtracted", "1"): ("read: sums subtracted", 7, 2, 2),
    ("predicted", "1"): ("read: predicted from one sum", 3, 0, 4),
    ("predicted", "3"): ("read: predicted from three", 2, None, 7),
}
"""By way and number of sums: label, colour, dash, marker."""


def both(entries: Sequence[Entry]) -> plot.Figure:
    """What a difference of sums tells, and what secure sums cost."""
    parts = [
        left(chosen(entries, kind="difference")),
        cost(chosen(entries, kind="cost")),
    ]
    return plot.panels(parts, 2, height=2.4, legend="below")


def left(entries: Sequence[Entry]) -> Panel:
    """Points of a site that dropped out against how far the model was moved."""
    entries = [e for e in entries if read_words(e["setting"])[0] == POINTS]
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
    curves.append(
        Curve("by chance, or twice the bytes", [2.0, 100.0], level, 6, 3, width=0.8)
    )
    title = f"A site of {POINTS} points that dropped out"
    moved = "the model was moved by, % of its length"
    return Panel(
        title, moved, "points found, %", curves, yscale="linear", ylim=(-4, 104)
    )


def cost(entries: Sequence[Entry]) -> Panel:
    """Bytes of secure sums over those of plain ones, against the number of clients."""
    curves, x = [], list[float]()
    for method in METHODS:
        found = grouped(select(entries, case=method), "clients")
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
    curves.append(Curve("", [x[0], x[-1]], [ASKED] * 2, 6, 3, width=0.8))
    title, label = "A round with secure sums", "bytes, secure / plain"
    return Panel(title, "sites", label, curves, yscale="linear", ylim=(1, 2.1))

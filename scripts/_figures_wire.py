"""Figures of what crosses the wire: fewer bits, and very many clients."""

from collections.abc import Sequence

from _common import Entry
from experiments._drawing import Drawing, chosen
from experiments._record import grouped

from fedsciml import plot
from fedsciml.plot import Curve, Panel

BACKENDS = {"inprocess": "in process", "flower-local": "Flower, in one process"}


def crowds(entries: Sequence[Entry]) -> plot.Figure:
    """Seconds of clients and server, and memory, against the number of clients."""
    runs = chosen(entries, "backends.json", kind="scaling")
    quantities = {
        "clients_s": "CPU seconds a round, clients",
        "server_s": "CPU seconds a round, server",
        "peak_MB": "peak memory, MB",
    }
    parts = []
    for key, label in quantities.items():
        curves = []
        for k, (backend, mine) in enumerate(grouped(runs, "backend").items()):
            order = sorted(mine, key=lambda e: e["clients"])
            x, y = ([e[name] for e in order] for name in ("clients", key))
            curves.append(Curve(BACKENDS[backend], x, y, k, 0, k + 1))
        last = max(y[-1] for y in (curve.y for curve in curves))
        ends = [x[0], x[-1]]
        level = [last * m / x[-1] for m in ends]
        curves.append(Curve("linear", ends, level, 6, 1, width=0.8))
        parts.append(Panel("", "clients", label, curves))
    return plot.panels(parts, 3, height=2.2, legend="below")


DRAWINGS = {
    "wire-clients": Drawing(
        crowds,
        ("backends.json",),
        "CPU seconds of a round of all clients and of the server, and the process's "
        "memory, for 10 to 1000 clients of 16 rows each.",
    ),
}

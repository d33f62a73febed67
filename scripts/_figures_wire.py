"""Figures of what crosses the wire: fewer bits, and very many clients."""

from collections.abc import Sequence

from _common import Entry
from _figures import Drawing, chosen, grouped, spread

from fedsciml import plot
from fedsciml.plot import Curve, Panel

WORDS = ("none", "float32", "float32,feedback", "bfloat16", "bfloat16,feedback")
"""Compressions; each has one look."""

LOOKS = dict(zip(WORDS, ((7, 0), (0, 1), (0, 0), (1, 1), (1, 0)), strict=True))
"""Colour and dash."""

BACKENDS = {"inprocess": "in process", "flower-local": "Flower, in one process"}


def compressions(entries: Sequence[Entry]) -> plot.Figure:
    """Median error against the megabytes that the clients sent."""
    parts = []
    fipa = chosen(entries, "compression.json", method="fipa")
    for problem, runs in grouped(fipa, "problem").items():
        curves = []
        for word in WORDS:
            mine = [
                {**e, "megabytes": [sent / 1e6 for sent in e["up"]]}
                for e in runs
                if e["compression"] == word
            ]
            colour, dash = LOOKS[word]
            found = spread(mine, "megabytes")
            curves.append(Curve(word, found.x, found.y, colour, dash))
        mse = runs[0]["quantity"] == "mse"
        error = "root mean squared error" if mse else plot.QUANTITIES["relative_l2"]
        title = f"{problem}, {runs[0]['clients']} clients"
        parts.append(Panel(title, "megabytes up", error, curves))
    return plot.panels(parts, 2, height=2.2, legend="below")


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
    "wire-compression": Drawing(
        compressions,
        ("compression.json",),
        "Median error of FIPA against the bytes that the clients send, with sketches "
        "in float64, float32 and bfloat16, and as changes of the round before.",
    ),
    "wire-clients": Drawing(
        crowds,
        ("backends.json",),
        "CPU seconds of a round of all clients and of the server, and the process's "
        "memory, for 10 to 1000 clients of 16 rows each.",
    ),
}

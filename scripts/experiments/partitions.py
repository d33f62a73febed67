"""Which client holds which points, and how different the clients are.

For the figure some points of each client, in one coordinate the intervals it owns, and
the heterogeneity of all points (``collocation.heterogeneity``). Of any other problem,
kept elsewhere: --only problem=helmholtz clients=2 partition=pieces:4 --out FILE
"""

from collections.abc import Sequence
from itertools import pairwise
from math import nan
from operator import itemgetter

import torch
from torch import Tensor

from experiments._drawing import Drawing, chosen
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, short
from experiments._table import Table
from experiments._words import partition, title
from fedsciml import plot, problems
from fedsciml.collocation import heterogeneity
from fedsciml.plot import Curve, Panel

KEY = ("problem", "clients", "partition")
PIECES = (1, 2, 4, 8, 16, 32)
MANY = (2, 4, 8, 16, 32, 64)
SHOWN = 90
"""About as many points of a client are kept."""

BARS = 6
"""Partitions of the interval that are drawn, from the published to mixed ones."""

MAPS = (
    ("poisson2d", 2, "strips"),
    ("gaussians2d", 9, "boxes"),
    ("gaussians2d", 3, "pieces:4"),
)
"""Partitions in two coordinates of which points are shown."""

CASES = (
    *(
        (*problem, kind)
        for problem in (("sine8", 8), ("allen_cahn", 4))
        for kind in ("strips", *(f"pieces:{k}" for k in PIECES))
    ),
    *MAPS,
    *(("gaussians2d", 3, f"pieces:{k}") for k in PIECES if k != 4),
    *(("allen_cahn", clients, "strips") for clients in MANY if clients != 4),
    *(("poisson2d", clients, "boxes") for clients in MANY),
)


def parts(name: str, clients: int, partition: str) -> list[Tensor]:
    """The points that each client holds."""
    problem = problems.load(name, clients=clients, partition=partition)
    return [shard.rows[0].points for shard in problem.shards()]


def measure(name: str, clients: int, partition: str) -> Entry:
    """What the figure needs of a partition."""
    held = parts(name, clients, partition)
    found: Entry = {
        "pieces": int(partition.partition(":")[2] or 0),
        "heterogeneity": short(heterogeneity(held)),
    }
    if held[0].shape[1] == 1:
        x, order = torch.cat(held)[:, 0].sort()
        owner = torch.cat([torch.full((len(p),), m) for m, p in enumerate(held)])[order]
        change = (owner.diff() != 0).nonzero()[:, 0]
        inner = ((x[change] + x[change + 1]) / 2).tolist()
        found["edges"] = [round(e, 4) for e in (0.0, *inner, 1.0)]
        found["owner"] = [int(owner[0]), *owner[change + 1].tolist()]
    if (name, clients, partition) in MAPS:
        some = [p[:: max(1, len(p) // SHOWN)] for p in held]
        found["points"] = [[[round(c, 3) for c in x] for x in p.tolist()] for p in some]
    return found


def table(entries: Sequence[Entry]) -> Table:
    """The heterogeneity of each partition."""
    fields = (*KEY, "heterogeneity")
    rows = [[str(e[name]) for name in fields] for e in entries]
    return Table("partitions", "Mean 1-Wasserstein distances.", fields, rows)


def partitions(entries: Sequence[Entry]) -> plot.Figure:
    """Owners of intervals and points."""
    entries = sorted(entries, key=itemgetter("pieces", "clients"))
    bars = owners(chosen(entries, problem="sine8")[:BARS])
    clouds = [cloud(e) for e in entries if "points" in e]
    return plot.panels([bars, *clouds], 2, width=5.5, height=2.6)


def by_partition(entries: Sequence[Entry]) -> plot.Figure:
    """The heterogeneity that goes with partitions."""
    entries = sorted(chosen(entries), key=itemgetter("pieces", "clients"))
    mixed = [e for e in entries if e["pieces"]]
    whole = [e for e in entries if not e["pieces"]]
    panels = [
        Panel(
            "interleaved pieces",
            "pieces of each client",
            "heterogeneity",
            heterogeneities(mixed, "pieces", "clients"),
            ylim=(0.02, 1),
        ),
        Panel(
            "one part each",
            "clients",
            "heterogeneity",
            heterogeneities(whole, "clients", "partition"),
            ylim=(0.02, 1),
        ),
    ]
    return plot.panels(panels, 2, height=2.4)


def heterogeneities(entries: Sequence[Entry], x: str, other: str) -> list[Curve]:
    """Heterogeneity against x, of every problem with every value of the other field."""
    curves: list[Curve] = []
    for (problem, value), mine in grouped(entries, "problem", other).items():
        if len(mine) > 1:
            label = f"{title(problem)}, {value}" + " clients" * (other == "clients")
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
        words[float(y)] = f"{partition(e['partition'])}: {e['heterogeneity']:.2f}"
    first = zip(pairwise(entries[0]["edges"]), entries[0]["owner"], strict=True)
    return Panel(
        f"{title(entries[0]['problem'])}, {entries[0]['clients']} clients",
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
    words = partition(entry["partition"])
    for m, points in enumerate(entry["points"]):
        x, y = zip(*points, strict=True)
        curves.append(Curve("", x, y, m, None, m, size=2))
        if ":" not in entry["partition"]:  # the clients' parts have a middle
            texts[sum(x) / len(x), sum(y) / len(y)] = str(m)
    return Panel(
        f"{title(entry['problem'])}, {words}: {entry['heterogeneity']:.2f}",
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


EXPERIMENT = Experiment(
    "partitions",
    __doc__,
    KEY,
    CASES,
    measure,
    lambda entries: [table(entries)],
    {
        "clients-partitions": Drawing(
            partitions,
            "Which client holds which points; the number of a partition is its "
            "heterogeneity.",
        ),
        "clients-heterogeneity": Drawing(
            by_partition,
            "Heterogeneity by partition: the mean 1-Wasserstein distance of two "
            "clients' points.",
        ),
    },
    check=parts,
)

"""Singular values of the clients' and the pooled Jacobian along a run of FIPA.

At the start and after some rounds with the default options: the singular values, how
many lie above the cut-off in use, and the principal angles in radians between the row
spaces of the sketches of neighbours, client m and m + 1, at some ranks: 0 where both
see the same direction of theta, pi / 2 where one sees nothing of the other's. About
three minutes.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from math import pi
from statistics import median

import torch
from scipy.linalg import subspace_angles
from torch import Tensor

from experiments._drawing import Drawing, chosen
from experiments._experiment import Experiment
from experiments._record import Entry, grouped
from experiments._trajectories import openings, short
from experiments._words import title
from fedsciml import plot, problems
from fedsciml.linalg.sketch import Sketch, from_jacobian
from fedsciml.methods._fipa import Fipa
from fedsciml.plot import Curve, Panel
from fedsciml.residual import System

PROBLEMS = ("allen_cahn", "sine8", "poisson2d")
ROUNDS = (0, 5, 20, 50)
RANKS = (5, 10, 20)
POOLED = -1
"""The number of the client that stands for all of them."""

EPS = torch.finfo(torch.float64).eps
ROUNDING = 1e-14
"""Singular values are shown down to this part of the largest."""


def sketched(system: System, theta: Tensor) -> Sketch:
    """All of a client's problem."""
    linear = system.linearise(theta)
    return from_jacobian(linear.jacobian(), linear.residual)


def angles(one: Sketch, other: Sketch) -> dict[str, list[float]]:
    """Principal angles of the leading row spaces, the largest first, by rank."""
    most = min(one.rank, other.rank)
    first, second = (s.factor / s.singular_values.unsqueeze(-1) for s in (one, other))
    return {
        str(rank): short(subspace_angles(first[:rank].mT, second[:rank].mT))
        for rank in RANKS
        if rank <= most
    }


def measure(name: str) -> list[Entry]:
    """An entry for every client, and for all rows, at each place."""
    problem = problems.load(name)
    clients = [System(problem, shard) for shard in problem.shards()]
    pooled = System(problem, problem.pooled())
    entries = []
    run = islice(openings(problem, Fipa()), max(ROUNDS) + 1)
    for done, (opening, _) in enumerate(run):
        if done not in ROUNDS:
            continue
        theta = opening.theta
        whole = torch.linalg.svdvals(pooled.linearise(theta).jacobian())
        top = float(whole[0])
        cutoff = opening.reach * top
        found = [sketched(system, theta) for system in clients]
        between = [*(angles(*pair) for pair in pairwise(found)), {}, {}]
        values = [*(sketch.singular_values for sketch in found), whole]
        for m, s in enumerate(values):
            entries.append(
                {
                    "round": done,
                    "client": m if m < len(found) else POOLED,
                    # What is lower is rounding.
                    "singular_values": short(s[s > EPS * top].tolist()),
                    "cutoff": short([cutoff])[0],
                    "above": int((s > cutoff).sum()),
                    "angles": between[m],
                }
            )
    return entries


def spectra(entries: Sequence[Entry]) -> plot.Figure:
    """Singular values of the clients' Jacobians and of all rows', by round."""
    parts = []
    rounds = sorted({e["round"] for e in entries})
    cases = grouped(chosen(entries), "problem", "round")
    for problem in dict.fromkeys(name for name, _ in cases):
        for k in rounds:
            mine = sorted(cases.get((problem, k), []), key=lambda e: e["client"])
            words, value = f"{title(problem)}, round {k}", "singular value $s_i$"
            curves = spectrum(mine)
            parts.append(Panel(words, "number $i$", value, curves, xscale="linear"))
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


def neighbours(entries: Sequence[Entry]) -> plot.Figure:
    """Principal angles between neighbours' sketches: a row per problem, by rank."""
    parts = []
    found = [e for e in chosen(entries) if e["angles"]]
    for problem, runs in grouped(found, "problem").items():
        for rank in sorted({int(r) for e in runs for r in e["angles"]}):
            curves = []
            for number, (k, pairs) in enumerate(grouped(runs, "round").items()):
                each = [sorted(e["angles"][str(rank)]) for e in pairs]
                low, middle, high = (
                    [of(same) for same in zip(*each, strict=True)]
                    for of in (min, median, max)
                )
                ends = None if len(each) == 1 else (low, high)
                look = number, number, number + 1
                order = range(1, rank + 1)
                curves.append(Curve(f"round {k}", order, middle, *look, ends))
            parts.append(
                Panel(
                    f"{title(problem)}, rank {rank}",
                    "number of the angle",
                    "principal angle",
                    curves,
                    xscale="linear",
                    yscale="linear",
                    yticks={0.0: "0", pi / 4: r"$\pi/4$", pi / 2: r"$\pi/2$"},
                )
            )
    return plot.panels(parts, 3, height=1.7, legend="below", sharey="row")


EXPERIMENT = Experiment(
    "spectra",
    __doc__,
    ("problem",),
    [(name,) for name in PROBLEMS],
    measure,
    drawings={
        "spectra": Drawing(
            spectra,
            "Singular values of every client's Jacobian and of that of all rows "
            "along the training, with the cut-off in use.",
        ),
        "spectra-angles": Drawing(
            neighbours,
            "Principal angles between the leading row spaces of neighbours' "
            "sketches: 0 where both see the same direction; medians and extremes "
            "over the neighbours.",
        ),
    },
)

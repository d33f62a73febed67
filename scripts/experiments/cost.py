"""What the parts of a round of FIPA cost, against parameters p, rows n and clients M.

One of the three is changed at a time, on two problems, by the width of the hidden
layers, the factor of the published points, or the number of strips. CPU seconds of
everybody together: those of all clients, one after the other, and of the server. Each
is the median of some rounds after a few first ones. `n` counts the rows of all clients.

Jacobian          residual and Jacobian of the clients
range finder      their sketches of it
merge and solve   the server's decomposition of the merged sketch, and its steps
probe             the clients' losses and targets at the steps
total             the whole round
centralised SVD   a whole step of Gauss-Newton by the full SVD of the pooled Jacobian,
                  from where FIPA stands; against M it is there once, for M = 1, as it
                  knows no clients; left out where it would take minutes

The table has exponents: seconds grow as size^exponent over the upper half of the sizes,
1 where they are linear. Five minutes of one core.
"""

import math
import time
from collections.abc import Sequence
from statistics import linear_regression, median

import torch

from experiments._drawing import Drawing
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, select, short
from experiments._rounds import Rounds
from experiments._table import Cell, Table
from experiments._words import title
from fedsciml import methods, plot, problems
from fedsciml.plot import Curve, Panel
from fedsciml.problem import Problem

PARAMETER = {"p": "width", "n": "points", "M": "clients"}
"""Of a problem: what changes p, n or M."""

AXES: dict[str, dict[str, tuple[float, ...]]] = {
    "allen_cahn": {
        "p": (8, 16, 32, 64, 128),
        "n": (0.25, 0.5, 1, 2, 4, 8, 16),
        "M": (1, 2, 4, 8, 16, 32, 64),
    },
    "poisson2d": {
        "p": (8, 16, 32, 64),
        "n": (0.25, 0.5, 1, 2, 4),
        "M": (1, 2, 4, 8, 16),
    },
}
"""Values of the parameters; 32, 1 and 2 are the published ones."""

PHASES = {
    "Jacobian": ("linearise", "jacobian"),
    "range finder": ("sketch",),
    "merge and solve": ("solve",),
    "probe": ("probe",),
    "total": ("total",),
}
"""Parts of a round, of the phases that ``Rounds`` tells apart."""

CENTRAL = "centralised SVD"
LARGEST = 1.2e11
"""Beyond n p min(n, p) of this size no full SVD: minutes."""

WARM = 5
REPEATS = 5
FEWEST = 4
"""Sizes that an exponent needs."""

BUDGET = 5.0
"""Seconds after which nothing is repeated any more."""


def parts(problem: Problem, central: bool) -> dict[str, float]:
    """Seconds of each part of a round; with the centralised step where asked for."""
    cpu, clock = torch.device("cpu"), time.process_time
    rounds = Rounds(problem, methods.load("fipa"), cpu, clock=clock)
    rounds.several(WARM)
    theta = rounds.theta
    lines, _ = rounds.several(REPEATS, BUDGET)
    seconds = {
        part: median(sum(line.get(phase, 0.0) for phase in phases) for line in lines)
        for part, phases in PHASES.items()
    }
    if central:
        method = methods.load("gauss_newton")
        steps, _ = Rounds(problem, method, cpu, theta, clock).several(3, BUDGET)
        seconds[CENTRAL] = median(line["total"] for line in steps)
    return seconds


def measure(problem: str, axis: str, value: float) -> list[Entry]:
    """The parts of a round for one value of p, n or M, an entry each."""
    made = problems.load(problem, **{PARAMETER[axis]: value})
    p, n = made.network.size, made.pooled().points
    feasible = n * p * min(n, p) <= LARGEST
    central = feasible and (axis != "M" or made.clients == 1)
    sizes = {"p": p, "n": n, "M": made.clients}
    return [
        {**sizes, "part": part, "seconds": short(seconds)}
        for part, seconds in parts(made, central).items()
    ]


def by_size(entries: Sequence[Entry]) -> plot.Figure:
    """Seconds of each part of a round against p, n and M."""
    words = {"p": "parameters", "n": "rows", "M": "clients"}
    order = list(dict.fromkeys(e["part"] for e in entries))
    parts = []
    for problem, runs in grouped(entries, "problem").items():
        for axis, word in words.items():
            curves = []
            for part in order:
                sizes, seconds = curve(runs, axis, part)
                if sizes:
                    number = order.index(part)
                    curves.append(Curve(part, sizes, seconds, number, number, number))
            parts.append(Panel(title(problem), word, "seconds of CPU time", curves))
    return plot.panels(parts, 3, height=2.0, legend="below", sharey="row")


def curve(
    entries: Sequence[Entry], axis: str, part: str
) -> tuple[list[float], list[float]]:
    """Sizes, and median seconds of a part at each of them."""
    found = grouped(select(entries, axis=axis, part=part), axis)
    middle = [median(e["seconds"] for e in same) for same in found.values()]
    return [float(size) for size in found], middle


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log seconds against log size, by least squares over the upper half."""
    half = len(sizes) // 2
    x, y = ([math.log(v) for v in values[half:]] for values in (sizes, seconds))
    return linear_regression(x, y).slope


def tables(entries: Sequence[Entry]) -> list[Table]:
    """The exponent of each part in p, n and M."""
    lines: list[list[Cell]] = []
    for problem, runs in grouped(entries, "problem").items():
        for axis in PARAMETER:
            curves = {part: curve(runs, axis, part) for part in [*PHASES, CENTRAL]}
            sizes, _ = curves["total"]
            if len(sizes) < FEWEST:
                continue
            upper = sizes[len(sizes) // 2 :]
            lines.append(
                [problem, axis, f"{upper[0]:g} to {upper[-1]:g}"]
                + [
                    f"{exponent(*found):.2f}" if len(found[0]) >= FEWEST else ""
                    for found in curves.values()
                ]
            )
    caption = "Seconds grow as size^exponent over the upper half of the sizes:"
    heads = ["problem", "against", "sizes", *PHASES, CENTRAL]
    return [Table("cost", caption, heads, lines, page="docs/results.md", tex=True)]


EXPERIMENT = Experiment(
    "cost",
    __doc__,
    ("problem", "axis", "value"),
    [
        (problem, axis, value)
        for problem, axes in AXES.items()
        for axis, values in axes.items()
        for value in values
    ],
    measure,
    tables,
    drawings={
        "round-cost": Drawing(
            by_size,
            "Seconds of the parts of a round against the number of parameters, of "
            "rows and of clients.",
        )
    },
)

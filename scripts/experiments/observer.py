r"""What the receiver of a sketch learns of a client's points and measured values.

Four clients with sensors in the unit square train a network by FIPA, u(x) = y at their
sensors. The server knows the network, theta and how many points a client has, and
receives B [k, p] and c [k] of client 0. It goes through the square for points x whose
row J(x) of the Jacobian lies in the row space of B:

    f(x) = |J(x) - J(x) B^+ B| / |J(x)|,

which is zero at the client's points while nothing is truncated and k < p. The n lowest
minima are taken for the points; the values are read from the client's own Gauss-Newton
step D = B^+ c, as B D = c says J(x) D = y - u(x) there. The same D is the client's own
model, u(x) + J(x) D, everywhere.

A point counts as found if a guess lies within ``NEAR`` of it. The sketches: of the
whole Jacobian, cut at relative singular values, and what FIPA sends by default, rounded
too. Three minutes of one core.
"""

import math
import time
from collections.abc import Sequence
from itertools import islice, product
from statistics import mean, median
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from experiments._experiment import Experiment
from experiments._record import Entry, select, short
from experiments._table import Table
from experiments._trajectories import openings
from fedsciml import MLP, Problem, Term, methods
from fedsciml.collocation import explicit, uniform
from fedsciml.linalg.sketch import Sketch, from_jacobian, truncate
from fedsciml.linalg.solve import spectrum
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.residual import System

NETWORK = MLP((2, 16, 16, 1))
POINTS = (1, 5, 20, 60, 400)
"""Of client 0."""

OTHERS = 100
"""Points of each of the three other clients."""

NOISE = 0.1
"""Standard deviation of the measured values, of a field of about 0.5."""

SENDS = ("first round", "default", "default, float32", "default, bfloat16")
CUTS = ("0", "1e-8", "1e-6", "1e-4", "1e-2")
ROUND = 10
"""When all but the sketches of the first round are taken."""

SEEDS = 3
GRID, STEPS, SHRINK, APART = 100, 40, 0.6, 1e-3
"""Points of the grid a side; steps of the refinement, each smaller by a factor; how far
two guesses must be from each other."""

NEAR = 0.01


class Observed(NamedTuple):
    """What the server has: theta [p], the client's sketch and its n."""

    theta: Tensor
    sketch: Sketch
    points: int


def field(x: Tensor) -> Tensor:
    """What is measured, at points [n, 2]."""
    return torch.sin(3 * x[:, 0]) * torch.cos(2 * x[:, 1])


def given(u: Jet, row: Row) -> Tensor:
    """u - y."""
    return u.value - row.target


def federation(points: int, seed: int) -> Problem:
    """Client 0 with so many sensors, and the three others."""
    random = Generator().manual_seed(seed)
    places, values = [], []
    for n in (points, OTHERS, OTHERS, OTHERS):
        x = uniform(n, [0, 0], [1, 1], random)
        noise = torch.randn(n, generator=random, dtype=x.dtype)
        places.append(x)
        values.append(field(x) + NOISE * noise)
    return Problem(
        "sensors",
        NETWORK,
        [Term("sensors", given, places, values)],
        explicit(4),
        coordinates="xy",
    )


def sent(problem: Problem, word: str, seed: int) -> Observed:
    """What client 0 sends, by a word of ``SENDS`` or a relative cut-off."""
    done = 0 if word == "first round" else ROUND - 1
    run = openings(problem, methods.load("fipa"), seed)
    opening, clients = next(islice(run, done, None))
    theta = opening.theta
    if word in SENDS:
        answer: Any = clients.exchange(opening)[0]
        sketch = Sketch(answer.factor, answer.target)
        if "," in word:
            dtype = getattr(torch, word.split()[-1])
            sketch = sketch._replace(factor=sketch.factor.to(dtype).double())
    else:
        linear = clients.systems[0].linearise(theta)
        whole = from_jacobian(linear.jacobian(), linear.residual)
        s = whole.singular_values
        sketch = truncate(whole, int((s > float(word) * s[0]).sum()))
    return Observed(theta, sketch, len(problem.shards()[0].rows[0].points))


def linearised(theta: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """J(x) [m, p] and u(x) [m] at points [m, 2], not weighted."""
    m = len(points)
    term = Term("u", given, [points], torch.zeros(m, dtype=theta.dtype), weight=m)
    whole = Problem("points", NETWORK, [term], explicit(1), coordinates="xy")
    linear = System(whole, whole.pooled()).linearise(theta)
    return linear.jacobian(), linear.residual


def guessed(seen: Observed) -> tuple[Tensor, Tensor]:
    """The points [n, 2] and values [n] that the server takes for the client's.

    There may be fewer where f has fewer minima.
    """
    basis, _ = torch.linalg.qr(seen.sketch.factor.mT)

    def f(points: Tensor) -> Tensor:
        rows, _ = linearised(seen.theta, points)
        return (rows - rows @ basis @ basis.mT).norm(dim=1) / rows.norm(dim=1)

    axis = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    grid = torch.cartesian_prod(axis, axis)
    on_grid = f(grid)
    square = on_grid.view(1, GRID, GRID)
    lowest = -torch.nn.functional.max_pool2d(-square, 3, stride=1, padding=1)
    minima = (square == lowest).flatten().nonzero().flatten()
    minima = minima[on_grid[minima].argsort()][: 2 * seen.points + 20]
    x, step = grid[minima], 0.5 / GRID
    ways = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype)] * 2)
    each = torch.arange(len(x))
    for _ in range(STEPS):
        around = (x[:, None] + step * ways).clamp(0, 1)
        x = around[each, f(around.flatten(0, 1)).view(len(x), -1).argmin(1)]
        step *= SHRINK
    kept: list[Tensor] = []
    for point in x[f(x).argsort()]:
        if all((point - other).norm() > APART for other in kept):
            kept.append(point)
    points = torch.stack(kept[: seen.points])
    return points, own_model(seen, points)


def own_model(seen: Observed, points: Tensor) -> Tensor:
    """u(x) + J(x) B^+ c at points [m, 2]: shape [m]."""
    rows, u = linearised(seen.theta, points)
    return u + rows @ spectrum(seen.sketch).step(cutoff=1e-10)


def measure(points: int, sketch: str, seed: int) -> Entry:
    """How much of client 0 the server has, to four digits."""
    begin = time.process_time()
    problem = federation(points, seed)
    seen = sent(problem, sketch, seed)
    truth = problem.shards()[0].rows[0]
    assert truth.target is not None
    x, y = truth.points, truth.target.flatten()
    guesses, values = guessed(seen)
    distance, nearest = (x[:, None] - guesses).norm(dim=-1).min(1)
    hit = distance <= NEAR
    wrong = (values[nearest] - y)[hit].abs()
    own = own_model(seen, x)
    return {
        "rank": seen.sketch.rank,
        "parameters": len(seen.theta),
        "found": short(float(hit.double().mean())),
        "distance": short(float(distance.median())),
        "value": short(float(wrong.median())) if len(wrong) else None,
        "model": short(float((own - field(x)).square().mean().sqrt())),
        "seconds": short(time.process_time() - begin),
    }


def chance(points: int) -> float:
    """Part of the points that as many random guesses would find."""
    return 1 - math.exp(-points * math.pi * NEAR**2)


def table(entries: Sequence[Entry]) -> Table:
    """A row per number of points; means over the seeds, medians of errors."""
    words = [word for word in (*CUTS, *SENDS) if select(entries, sketch=word)]
    names = {"0": "whole", **{cut: f"cut at {cut}" for cut in CUTS[1:]}}
    heads = ["n", "by chance", *(names.get(word, word) for word in words), "model"]
    rows = []
    for points in sorted({e["points"] for e in entries}):
        mine = select(entries, points=points)
        cells = [_cell(select(mine, sketch=word)) for word in words]
        model = f"{median(e['model'] for e in mine):.2g}"
        rows.append([points, f"{chance(points):.0%}", *cells, model])
    caption = "Rank, points found, error of their values."
    return Table("observer", caption, heads, rows, "docs/wire.md")


def _cell(entries: Sequence[Entry]) -> str:
    """``k 20: 92%, 2e-11``."""
    if not entries:
        return ""
    text = f"k {mean(e['rank'] for e in entries):.0f}: "
    text += f"{mean(e['found'] for e in entries):.0%}"
    values = [e["value"] for e in entries if e["value"] is not None]
    return text + (f", {median(values):.0e}" if values else "")


EXPERIMENT = Experiment(
    "observer",
    __doc__,
    ("points", "sketch", "seed"),
    [*product(POINTS, (*CUTS, *SENDS), range(SEEDS))],
    measure,
    lambda entries: [table(entries)],
    page="docs/wire.md",
)

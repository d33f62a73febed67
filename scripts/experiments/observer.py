r"""What the reader of a message learns of a client's points and measured values.

Four clients with sensors in the unit square train a network by FIPA, u(x) = y at their
sensors. The observer knows the network, theta and how many points there are, and has
client 0's own sketch; or its rows or sums in the shared basis; or the sum of the sums
of all four, where the others have ``OTHERS`` points each or as many as client 0. It
reads points and values from it in one way or two (``_reading``).

A point of client 0, or of any client in the sum of all, counts as found if a guess lies
within ``NEAR`` of it. The own sketches: of the whole Jacobian, cut at relative singular
values, and what FIPA sends by default, rounded too. Fifteen minutes of one core.
"""

import math
import time
from collections.abc import Sequence
from itertools import islice, product
from statistics import mean, median
from typing import Any

import torch
from torch import Generator, Tensor

from experiments._drawing import Drawing, chosen
from experiments._experiment import Experiment
from experiments._reading import NETWORK, Observed, fitted, given, guessed, own_model
from experiments._record import Entry, select, short
from experiments._table import Cell, Table
from experiments._trajectories import openings
from fedsciml import Problem, Term, methods, plot
from fedsciml.collocation import explicit, uniform
from fedsciml.linalg.basis import root, symmetric, unpacked
from fedsciml.linalg.sketch import Sketch, from_jacobian, truncate
from fedsciml.methods import _shared
from fedsciml.plot import Curve, Panel

POINTS = (1, 5, 20, 60, 400)
"""Of client 0."""

OTHERS = 100
"""Points of each of the three other clients, but of ``ALIKE``."""

NOISE = 0.1
"""Standard deviation of the measured values, of a field of about 0.5."""

SENDS = ("first round", "default", "default, float32", "default, bfloat16")
ALIKE = "all, alike"
SHARED = ("rows", "sums", "all", ALIKE)
"""In the shared basis: of client 0, or summed over all clients."""

CUTS = ("0", "1e-8", "1e-6", "1e-4", "1e-2")
ROUND = 10
"""When all but the sketches of the first round are taken."""

SEEDS = 3
NEAR = 0.01
SEEN = 1e-13
"""Eigenvalue of a gramian, relative to the largest, that is not rounding."""


def field(x: Tensor) -> Tensor:
    """What is measured, at points [n, 2]."""
    return torch.sin(3 * x[:, 0]) * torch.cos(2 * x[:, 1])


def square(n: int, generator: Generator) -> Tensor:
    """Points of the unit square, shape [n, 2]: where a sensor could be."""
    return uniform(n, [0, 0], [1, 1], generator)


def federation(
    points: int, seed: int, others: int = OTHERS, clients: int = 4
) -> Problem:
    """Client 0 with so many sensors, and the others."""
    random = Generator().manual_seed(seed)
    places, values = [], []
    for n in (points, *[others] * (clients - 1)):
        x = square(n, random)
        noise = torch.randn(n, generator=random, dtype=x.dtype)
        places.append(x)
        values.append(field(x) + NOISE * noise)
    return Problem(
        "sensors",
        NETWORK,
        [Term("sensors", given, places, values, sample=square)],
        explicit(clients),
        coordinates="xy",
    )


def sent(problem: Problem, word: str, seed: int) -> Observed:
    """What is seen, by a word of ``SENDS`` or ``SHARED`` or a relative cut-off."""
    if word in SHARED:
        return shared(problem, word, seed)
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


def shared(problem: Problem, word: str, seed: int) -> Observed:
    """What is seen of a run in the shared basis, by a word of ``SHARED``.

    A gramian G = X diag(w) X^T has the rows diag(sqrt w) X^T, as many as there are
    points, down to rounding.
    """
    upload = "rows" if word == "rows" else "sums"
    method = methods.load("fipa", basis="shared", upload=upload).bound(problem)
    assert isinstance(method, _shared.Shared)
    assert method.anchors is not None
    run = openings(problem, method, seed)
    opening, clients = next(islice(run, ROUND - 1, None))
    basis = method.anchors.basis(opening.theta, opening.span)
    told: list[Any] = list(clients.exchange(opening).values())
    points = [len(shard.rows[0].points) for shard in problem.shards()]
    if word in ("rows", "sums"):
        told, points = told[:1], points[:1]
    n = sum(points)
    if word == "rows":
        target = told[0].target
        factor = unpacked(told[0].numbers, len(target), basis.size)
        return Observed(opening.theta, Sketch(factor, target), n, basis)
    gram = symmetric(torch.stack([a.gramian for a in told]).sum(0), basis.size)
    target = torch.stack([a.target for a in told]).sum(0)
    factor, inverse = root(gram, SEEN)
    sketch = Sketch(factor[:n], (target @ inverse)[:n])
    return Observed(opening.theta, sketch, n, basis)


def measure(points: int, sketch: str, seed: int) -> Entry:
    """How much the observer has, to four digits; the model's error at client 0."""
    begin = time.process_time()
    problem = federation(points, seed, points if sketch == ALIKE else OTHERS)
    seen = sent(problem, sketch, seed)
    truths = [shard.rows[0] for shard in problem.shards()]
    own = truths[0].points
    if sketch not in ("all", ALIKE):
        truths = truths[:1]
    x = torch.cat([truth.points for truth in truths])
    y = torch.cat(
        [truth.target.flatten() for truth in truths if truth.target is not None]
    )
    found = compared(*guessed(seen), x, y)
    if sketch in ("default", *SHARED):
        fits = compared(*fitted(seen), x, y)
        found |= {f"fitted_{key}": value for key, value in fits.items()}
        found["directions"] = seen.sketch.factor.shape[1]
    error = own_model(seen, own) - field(own)
    return {
        "rank": seen.sketch.rank,
        "parameters": len(seen.theta),
        **found,
        "model": short(float(error.square().mean().sqrt())),
        "seconds": short(time.process_time() - begin),
    }


def compared(guesses: Tensor, values: Tensor, x: Tensor, y: Tensor) -> Entry:
    """Share of the points x that guesses are near to, and errors."""
    distance, nearest = (x[:, None] - guesses).norm(dim=-1).min(1)
    hit = distance <= NEAR
    wrong = (values[nearest] - y)[hit].abs()
    return {
        "found": short(float(hit.double().mean())),
        "distance": short(float(distance.median())),
        "value": short(float(wrong.median())) if len(wrong) else None,
    }


def chance(guesses: int) -> float:
    """Part of the points that so many random guesses would find."""
    return 1 - math.exp(-guesses * math.pi * NEAR**2)


def guesses(points: int, word: str) -> int:
    """How many points the observer looks for."""
    return points + 3 * {"all": OTHERS, ALIKE: points}.get(word, 0)


def table(entries: Sequence[Entry]) -> Table:
    """A row per number of points; means over the seeds, medians of errors."""
    words = [word for word in (*CUTS, *SENDS) if select(entries, sketch=word)]
    names = {"0": "whole", **{cut: f"cut at {cut}" for cut in CUTS[1:]}}
    heads = ["n", "by chance", *(names.get(word, word) for word in words), "model"]
    entries = select(entries, sketch=(*CUTS, *SENDS))
    rows = []
    for points in sorted({e["points"] for e in entries}):
        mine = select(entries, points=points)
        cells = [_cell(select(mine, sketch=word)) for word in words]
        model = f"{median(e['model'] for e in mine):.2g}"
        rows.append([points, f"{chance(points):.0%}", *cells, model])
    caption = "Rank, points found, error of their values."
    return Table("observer", caption, heads, rows, "docs/observer.md")


def _cell(entries: Sequence[Entry]) -> str:
    """``k 20: 92%, 2e-11``."""
    if not entries:
        return ""
    text = f"k {mean(e['rank'] for e in entries):.0f}: "
    text += f"{mean(e['found'] for e in entries):.0%}"
    values = [e["value"] for e in entries if e["value"] is not None]
    return text + (f", {median(values):.0e}" if values else "")


NAMES = {
    "default": "own sketch",
    "rows": "rows of one",
    "sums": "sums of one",
    "all": "sums of all, others 100 points",
    ALIKE: "sums of all, others as many",
}
"""What is seen, for people."""


def comparison(entries: Sequence[Entry]) -> Table:
    """A row per number of points and what is seen, with both attacks."""
    heads = ["n", "seen", "guesses", "r of k", "by chance", "row space", "gramian"]
    rows: list[list[Cell]] = []
    for points in sorted({e["points"] for e in entries}):
        for word, name in NAMES.items():
            mine = select(entries, points=points, sketch=word)
            if not mine:
                continue
            rank, k = (mean(e[key] for e in mine) for key in ("rank", "directions"))
            count = guesses(points, word)
            row: list[Cell] = [points, name, count, f"{rank:.0f} of {k:.0f}"]
            row += [f"{chance(count):.0%}", _read(mine), _read(mine, "fitted_")]
            rows.append([*row, f"{median(e['model'] for e in mine):.2g}"])
    caption = "Points found and error of their values, by two attacks."
    return Table("observed", caption, [*heads, "model"], rows, "docs/observer.md")


def _read(entries: Sequence[Entry], attack: str = "") -> str:
    """``92%, 2e-11``."""
    values = [e[f"{attack}value"] for e in entries]
    values = [value for value in values if value is not None]
    text = f"{mean(e[f'{attack}found'] for e in entries):.0%}"
    return text + (f", {median(values):.0e}" if values else "")


def success(entries: Sequence[Entry]) -> plot.Figure:
    """Share of a client's points that are found, against how many it has."""
    parts = []
    for way, attack in (("row space", ""), ("gramian", "fitted_")):
        curves = []
        for number, (word, name) in enumerate(NAMES.items()):
            runs = chosen(entries, sketch=word)
            x = sorted({e["points"] for e in runs})
            found = [select(runs, points=n) for n in x]
            y = [100 * mean(e[f"{attack}found"] for e in mine) for mine in found]
            luck = [100 * chance(guesses(n, word)) for n in x]
            curves += [Curve(name, x, y, number, number, number + 1)]
            if word in ("default", "all", ALIKE):
                curves += [Curve("", x, luck, number, number, width=0.6)]
        label = "points found, % (thin: by chance)"
        words = f"attack by the {way}"
        parts.append(
            Panel(words, "points of the client", label, curves, yscale="linear")
        )
    return plot.panels(parts, 2, height=2.4, legend="below")


EXPERIMENT = Experiment(
    "observer",
    __doc__,
    ("points", "sketch", "seed"),
    [*product(POINTS, (*CUTS, *SENDS, *SHARED), range(SEEDS))],
    measure,
    lambda entries: [table(entries), comparison(entries)],
    {
        "wire-observer": Drawing(
            success,
            "Share of a client's points that the reader of one message finds within "
            "0.01, by two attacks: from its own sketch, its rows or sums in the shared "
            "basis, and the sums of all clients; and what as many random guesses find.",
        )
    },
)

"""Which client holds which points."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from fedsciml.plot.classes import cells, ticks
from fedsciml.plot.style import COLOURS, COLUMN, MARKERS, styled
from fedsciml.problem import Problem, Rows


@styled()
def partition(problem: Problem) -> Figure:
    """Which client holds which points: a colour per client, a marker per term.

    Where they lie in many coordinates, how many: of each class, if there are some.
    """
    if not drawable(problem):
        return _counted(problem)
    flat = len(problem.coordinates) == 1
    size = (4.4, 1.0 + 0.3 * problem.clients) if flat else (COLUMN, COLUMN)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    labelled: set[int] = set()
    for shard in problem.shards():
        m = shard.client
        for rows in shard.rows:
            x = rows.points.numpy()
            if not len(x):
                continue
            bulk = rows.term == 0
            marker = MARKERS[rows.term % len(MARKERS)]
            if flat and bulk:
                marker = "|"
            if rows.term not in labelled:  # in grey, so that it stands for all clients
                labelled.add(rows.term)
                axes.plot(
                    [],
                    [],
                    linestyle="",
                    marker=marker,
                    color="0.3",
                    markersize=6 if bulk else 4,
                    label=problem.terms[rows.term].name,
                )
            axes.plot(
                x[:, 0],
                np.full(len(x), m) if flat else x[:, 1],
                linestyle="",
                marker=marker,
                markersize=(9 if flat else 3) if bulk else (5 if flat else 3),
                markeredgewidth=0.3,
                alpha=0.6 if flat and bulk else 1,
                markeredgecolor=COLOURS[m % len(COLOURS)] if bulk else "black",
                color=COLOURS[m % len(COLOURS)],
                zorder=2 if bulk else 3,
                clip_on=False,
            )
        if not flat:
            inside = shard.rows[0].points
            if len(inside):
                axes.annotate(
                    str(m),
                    _middle(inside),
                    zorder=4,
                    ha="center",
                    va="center",
                    bbox={"boxstyle": "circle", "facecolor": "white", "alpha": 0.85},
                )
    axes.set_xlabel(problem.coordinates[0])
    if flat:
        sizes = [shard.points for shard in problem.shards()]
        names = [f"client {m}\n{size} points" for m, size in enumerate(sizes)]
        axes.set_yticks(range(problem.clients), names)
        axes.set_ylim(problem.clients - 0.5, -0.5)
    else:
        axes.set(ylabel=problem.coordinates[1])
        if len(problem.coordinates) == 2:
            axes.set_aspect("equal" if squarish(problem) else "auto")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    extra = (
        "" if len(problem.coordinates) <= 2 else ", seen along the other coordinates"
    )
    figure.suptitle(f"{problem.name}: points of {problem.clients} clients{extra}")
    return figure


FEW = 6
"""Coordinates above which a plane shows nothing of the whole."""


def drawable(problem: Problem) -> bool:
    """Whether there are so few coordinates that a picture shows where points lie."""
    return len(problem.coordinates) <= FEW


def labelled(problem: Problem) -> NDArray[np.int64] | None:
    """Rows of each class at each client, [m, C]; None where a term has no classes."""
    counts = []
    for shard in problem.shards():
        told = [
            problem.terms[rows.term].likelihood.classes(rows.target)
            for rows in shard.rows
        ]
        if any(part is None for part in told):
            return None
        counts.append([part for part in told if part is not None])
    widest = max(len(part) for own in counts for part in own)
    found = np.zeros((len(counts), widest), np.int64)
    for m, own in enumerate(counts):
        for part in own:
            found[m, : len(part)] += part.numpy()
    return found


def _counted(problem: Problem) -> Figure:
    """How many points each client has: of each class, or of each term."""
    found, clients = labelled(problem), range(problem.clients)
    tall = 0.9 + 0.22 * min(problem.clients, 40)
    figure = Figure(figsize=(4.4, tall), layout="constrained")
    axes = figure.subplots()
    if found is not None:
        cells(axes, found, clients=True)
        axes.set_xlabel("class")
        what = "rows by class"
    else:
        left = np.zeros(problem.clients)
        counts = np.array([problem.counts(m) for m in clients])
        for k, term in enumerate(problem.terms):
            colour = COLOURS[k % len(COLOURS)]
            axes.barh(clients, counts[:, k], left=left, color=colour, label=term.name)
            left += counts[:, k]
        axes.set_xlabel("rows")
        shown = ticks(problem.clients)
        axes.set_yticks(shown, [f"client {m}" for m in shown])
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
        if len(problem.terms) > 1:
            axes.legend()
        what = "rows"
    figure.suptitle(f"{problem.name}: {what} of {problem.clients} clients")
    return figure


def box(problem: Problem) -> tuple[Tensor, Tensor]:
    """Corners of the domain, or of the box around all points; or the test points."""
    if problem.domain is not None:
        lower, upper = problem.domain
        return (
            torch.tensor(lower, dtype=torch.float64),
            torch.tensor(upper, dtype=torch.float64),
        )
    points = joined(problem.pooled().rows)
    if not len(points) and problem.test_points is not None:
        points = problem.test_points
    return points.min(0).values, points.max(0).values


def placed(problem: Problem) -> bool:
    """Whether it is known here where the domain lies, or some points."""
    known = problem.domain is not None or problem.test_points is not None
    return known or any(len(rows.points) for rows in problem.pooled().rows)


def squarish(problem: Problem) -> bool:
    """Whether the first two sides of the box differ by less than a factor of 2."""
    lower, upper = box(problem)
    width, height = (upper - lower)[:2].tolist()
    return 0.5 <= width / height <= 2


def _middle(points: Tensor) -> tuple[float, float]:
    """Where the number of a client stands: its point nearest to the mean."""
    plane = points[:, :2]
    x, y = plane[(plane - plane.mean(0)).norm(dim=1).argmin()].tolist()
    return x, y


def joined(rows: Sequence[Rows]) -> Tensor:
    """All points, shape [n, d]."""
    return torch.cat([r.points for r in rows])

"""Which client holds which points."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fedsciml.plot.style import COLOURS, COLUMN, MARKERS, styled
from fedsciml.problem import Problem, Rows


@styled()
def partition(problem: Problem) -> Figure:
    """Which client holds which points: a colour per client, a marker per term."""
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

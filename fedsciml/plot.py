"""Figures from records and models; the only module that imports matplotlib.

Every function returns a ``matplotlib.figure.Figure`` of its own and touches no global
state; ``save`` writes it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.tri import Triangulation
from numpy.typing import NDArray
from torch import Tensor

from fedsciml.problem import Problem, Rows
from fedsciml.record import Line

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Told apart by the colour-blind, in this order (Okabe and Ito, 2008)."""

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
MARKERS = (".", "s", "^", "D", "v", "P")
QUANTITIES = {
    "relative_l2": "relative L2 error",
    "mse": "mean squared test error",
    "loss": "loss",
    "gn_gap": "distance to the Gauss-Newton step",
}
GRID_1D, GRID_2D = 801, 121
SMALLEST = 1e-17
"""Errors of a solution are drawn no smaller, as zero has no logarithm."""


def convergence(
    histories: Mapping[str, Sequence[Line]],
    quantity: str = "relative_l2",
    title: str = "",
) -> Figure:
    """How the methods get on, against rounds, bytes sent and seconds.

    Args:
        histories: One history (see ``rounds.Result``) per label.
        quantity: What is drawn, a key of the histories' lines: ``relative_l2``,
            ``mse``, ``loss`` or ``gn_gap``.
        title: Above the figure.
    """
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, label in zip(
        panels,
        ("round", "megabytes sent, both ways", "seconds"),
        strict=True,
    ):
        axes.set(xlabel=label, yscale="log")
        axes.grid(alpha=0.3)
        axes.label_outer()
    panels[0].set_ylabel(QUANTITIES.get(quantity, quantity))
    silent = []
    for number, (label, history) in enumerate(histories.items()):
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": DASHES[number % len(DASHES)],
            "linewidth": 2,
        }
        value = _column(history, quantity)
        value = np.where(value > 0, value, np.nan)
        sent = (_column(history, "bytes_up") + _column(history, "bytes_down")) / 1e6
        panels[0].plot(_column(history, "round"), value, label=label, **style)
        panels[2].plot(_column(history, "seconds"), value, **style)
        if len(sent) and sent[-1] > 0:
            panels[1].plot(sent, value, **style)
        else:
            silent.append(label)
    for axes in panels[1:]:
        if axes.lines:
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            digits = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
            axes.xaxis.set_major_locator(LogLocator(subs=digits))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
    if silent:
        panels[1].set_title(f"centralised, nothing sent: {', '.join(silent)}", size=9)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    return figure


@dataclass(frozen=True)
class Curve:
    """A labelled curve; ``mark`` draws points instead of a line."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dash: int = 0
    mark: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves with common axes, logarithmic unless told otherwise."""

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    xscale: str = "log"
    yscale: str = "log"
    ylim: tuple[float, float] | None = None


def panels(parts: Sequence[Panel], columns: int = 2) -> Figure:
    """Several panels, row by row, each with a legend of its own."""
    rows = -(-len(parts) // columns)
    size = (5.2 * columns, 3.9 * rows)
    figure = Figure(figsize=size, layout="constrained")
    every = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, panel in zip(every, parts, strict=False):
        axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel, title=panel.title)
        axes.set(xscale=panel.xscale, yscale=panel.yscale)
        axes.grid(alpha=0.3)
        for curve in panel.curves:
            axes.plot(
                curve.x,
                curve.y,
                label=curve.label,
                color=COLOURS[curve.colour % len(COLOURS)],
                linestyle="none" if curve.mark else DASHES[curve.dash],
                linewidth=2,
                marker=MARKERS[curve.dash] if curve.mark else "none",
                markersize=6,
            )
        if panel.ylim:
            axes.set_ylim(*panel.ylim)
        axes.legend(fontsize=8, frameon=False)
    for axes in every[len(parts) :]:
        axes.remove()
    return figure


def profile(costs: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Performance profiles (Dolan, More, Math. Program. 91, 2002).

    A curve gives, for each factor, the share of the cases in which a solver needs at
    most that factor of what the best solver of the case needs.

    Args:
        costs: Of each kind (a panel: rounds, bytes), of each solver, the cost of every
            case in the same order; infinite where it fails.
        title: Above the figure.
    """
    figure = Figure(figsize=(5.2 * len(costs), 4.6), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(costs), sharey=True))
    for axes, (kind, solvers) in zip(every, costs.items(), strict=True):
        table = np.array(list(solvers.values()), dtype=float)
        best = table.min(axis=0)
        ratios = table[:, np.isfinite(best)] / best[np.isfinite(best)]
        top = 1.1 * max(2.0, ratios[np.isfinite(ratios)].max(initial=1.0))
        for number, (label, row) in enumerate(zip(solvers, ratios, strict=True)):
            x = np.concatenate([[1.0], np.sort(row[np.isfinite(row)]), [top]])
            solved = np.arange(len(x) - 1) / table.shape[1]
            y = np.concatenate([solved, solved[-1:]])
            axes.step(
                x,
                y,
                where="post",
                label=label,
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
                linewidth=2,
            )
        axes.set(xscale="log", xlabel=f"{kind}, times the best", xlim=(1, top))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.label_outer()
    every[0].set_ylabel("share of cases")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    figure.suptitle(title)
    return figure


def solution(problem: Problem, theta: Tensor) -> Figure:
    """The trained u beside the reference, and their difference.

    One coordinate: curves, with the clients' parts of the domain shaded. Two: maps.
    More: maps on the plane of the first two coordinates through the domain's centre.

    Args:
        problem: Gives network, reference and clients.
        theta: Trained parameters, shape [p].
    """
    points, reference = _stage(problem)
    with torch.no_grad():
        trained = problem.network(theta, points.to(theta)).cpu().double().numpy()
    if len(problem.coordinates) == 1:
        return _curves(problem, points[:, 0].numpy(), trained, reference)
    return _maps(problem, points, trained, reference)


def partition(problem: Problem) -> Figure:
    """Which client holds which points: a colour per client, a marker per term."""
    flat = len(problem.coordinates) == 1
    height = 1.6 + 0.35 * problem.clients if flat else 5.0
    figure = Figure(figsize=(7, height), layout="constrained")
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
                    markersize=8 if bulk else 5,
                    label=problem.terms[rows.term].name,
                )
            axes.plot(
                x[:, 0],
                np.full(len(x), m) if flat else x[:, 1],
                linestyle="",
                marker=marker,
                markersize=(12 if flat else 4) if bulk else (7 if flat else 4),
                markeredgewidth=0.4,
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
            axes.set_aspect("equal" if _squarish(problem) else "auto")
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    extra = (
        "" if len(problem.coordinates) <= 2 else ", seen along the other coordinates"
    )
    figure.suptitle(f"{problem.name}: points of {problem.clients} clients{extra}")
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure; the format follows the ending, such as ``.png`` or ``.svg``."""
    figure.savefig(path, dpi=150)


def _curves(
    problem: Problem,
    x: NDArray[np.float64],
    trained: NDArray[np.float64],
    reference: NDArray[np.float64] | None,
) -> Figure:
    rows = 1 if reference is None else 2
    outputs = len(problem.outputs)
    figure = Figure(figsize=(1 + 6 * outputs, 2.2 + 2 * rows), layout="constrained")
    grid = figure.subplots(
        rows,
        outputs,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": (3, 2)[:rows]},
    )
    for c, output in enumerate(problem.outputs):
        top = grid[0, c]
        if reference is not None:
            top.plot(x, reference[:, c], color="0.6", linewidth=5, label="reference")
        top.plot(x, trained[:, c], color="black", linewidth=1.5, label="trained")
        top.set_ylabel(output)
        if reference is not None:
            difference = np.abs(trained[:, c] - reference[:, c])
            bottom = grid[1, c]
            bottom.semilogy(x, np.maximum(difference, SMALLEST), color="black", lw=1)
            bottom.set_ylabel(f"|error of {output}|")
            bottom.grid(alpha=0.3)
            seen = difference[difference > 0]
            if len(seen):  # a node of the error must not take the whole scale
                bottom.set_ylim(bottom=np.quantile(seen, 0.01) / 3)
        for axes in grid[:, c]:
            _shade(axes, problem, named=axes is top)
        grid[-1, c].set_xlabel(problem.coordinates[0])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(problem.name)
    return figure


def _shade(axes: Axes, problem: Problem, named: bool) -> None:
    """Colour the background by the client whose points lie there."""
    points = [_joined(shard.rows) for shard in problem.shards()]
    x = torch.cat(points)[:, 0]
    owner = torch.repeat_interleave(
        torch.arange(len(points)), torch.tensor([len(p) for p in points])
    )
    order = x.argsort(stable=True)
    x, owner = x[order], owner[order]
    change = (owner[1:] != owner[:-1]).nonzero().squeeze(-1)
    axes.set_xlim(float(x[0]), float(x[-1]))
    if len(change) > 40:  # interleaved points: no part of the domain is anyone's
        return
    middle = (x[change] + x[change + 1]) / 2
    edges = [float(x[0]), *middle.tolist(), float(x[-1])]
    clients = [int(owner[0]), *owner[change + 1].tolist()]
    for (left, right), m in zip(pairwise(edges), clients, strict=True):
        axes.axvspan(left, right, color=COLOURS[m % len(COLOURS)], alpha=0.13, lw=0)
    if named:
        word = "client " if len(clients) <= 6 else ""
        upper = axes.secondary_xaxis("top")
        upper.set_xticks(
            [(a + b) / 2 for a, b in pairwise(edges)],
            [f"{word}{m}" for m in clients],
            size=9,
        )
        upper.tick_params(length=0)
        if not word:
            upper.set_xlabel("client")


def _maps(
    problem: Problem,
    points: Tensor,
    trained: NDArray[np.float64],
    reference: NDArray[np.float64] | None,
) -> Figure:
    columns = 1 if reference is None else 3
    outputs = len(problem.outputs)
    figure = Figure(figsize=(3.9 * columns, 0.6 + 3.1 * outputs), layout="compressed")
    grid = figure.subplots(outputs, columns, sharex=True, sharey=True, squeeze=False)
    mesh = Triangulation(points[:, 0].numpy(), points[:, 1].numpy())
    for c, output in enumerate(problem.outputs):
        maps = [("trained", trained[:, c])]
        if reference is not None:
            maps.append(("reference", reference[:, c]))
        both = np.concatenate([values for _, values in maps])
        norm: Normalize = Normalize(both.min(), both.max())
        cmap = "viridis"
        if reference is not None:
            difference = np.abs(trained[:, c] - reference[:, c])
            maps.append(("|error|", np.maximum(difference, SMALLEST)))
        for axes, (name, values) in zip(grid[c], maps, strict=True):
            if name == "|error|":
                # The few points where the error crosses zero would take the scale.
                low, high = np.quantile(values, 0.02), values.max()
                norm, cmap = LogNorm(min(low, high / 10), high), "magma"
            image = axes.tripcolor(
                mesh, values, shading="gouraud", norm=norm, cmap=cmap, rasterized=True
            )
            figure.colorbar(image, ax=axes)
            axes.set_title(f"{output}, {name}" if outputs > 1 else name)
            axes.set_aspect("equal" if _squarish(problem) else "auto")
            _borders(axes, problem)
        grid[c, 0].set_ylabel(problem.coordinates[1])
    for axes in grid[-1]:
        axes.set_xlabel(problem.coordinates[0])
    figure.suptitle(problem.name + _plane(problem))
    return figure


def _borders(axes: Axes, problem: Problem) -> None:
    """Lines between the clients' parts of the plane, where the partition tells."""
    lower, upper = _box(problem)
    centre = (lower + upper) / 2
    grids = [torch.linspace(float(lower[i]), float(upper[i]), 200) for i in (0, 1)]
    x, y = torch.meshgrid(*grids, indexing="xy")
    points = centre.expand(x.numel(), -1).clone()
    points[:, 0], points[:, 1] = x.flatten(), y.flatten()
    try:
        owner = problem.partition.owner(points).view(x.shape)
    except ValueError:  # explicit points: nobody owns the space between them
        return
    different = owner.unique()
    for m in different[:-1].tolist():
        axes.contour(
            x.numpy(),
            y.numpy(),
            (owner > m).double().numpy(),
            [0.5],
            colors="white",
            linewidths=1,
        )


def _stage(problem: Problem) -> tuple[Tensor, NDArray[np.float64] | None]:
    """Points to draw at, [n, d], and the reference there, [n, c], or None.

    A reference that is a table is drawn at its own points, if it has at most two
    coordinates.
    """
    d = len(problem.coordinates)
    if problem.exact is None and problem.reference is not None and d <= 2:
        assert problem.test_points is not None
        points, values = problem.test_points, problem.reference
        if d == 1:
            order = points[:, 0].argsort()
            points, values = points[order], values[order]
        return points, values.numpy()
    lower, upper = _box(problem)
    if d == 1:
        points = torch.linspace(
            float(lower[0]), float(upper[0]), GRID_1D, dtype=torch.float64
        ).unsqueeze(-1)
    else:
        side = torch.linspace(0, 1, GRID_2D, dtype=torch.float64)
        points = ((lower + upper) / 2).expand(GRID_2D**2, -1).clone()
        points[:, :2] = lower[:2] + (upper - lower)[:2] * torch.cartesian_prod(
            side, side
        )
    if problem.exact is None:
        return points, None
    values = problem.exact(points)
    return points, values.reshape(len(points), -1).numpy()


def _box(problem: Problem) -> tuple[Tensor, Tensor]:
    """Corners of the domain, or of the box around all points."""
    if problem.domain is not None:
        lower, upper = problem.domain
        return (
            torch.tensor(lower, dtype=torch.float64),
            torch.tensor(upper, dtype=torch.float64),
        )
    points = _joined(problem.pooled().rows)
    return points.min(0).values, points.max(0).values


def _squarish(problem: Problem) -> bool:
    lower, upper = _box(problem)
    width, height = (upper - lower)[:2].tolist()
    return 0.5 <= width / height <= 2


def _plane(problem: Problem) -> str:
    """Which plane a map of a problem in more than two coordinates shows."""
    lower, upper = _box(problem)
    centre = ((lower + upper) / 2).tolist()
    fixed = [f"{n} = {v:g}" for n, v in zip(problem.coordinates, centre, strict=True)]
    return f", {', '.join(fixed[2:])}" if fixed[2:] else ""


def _middle(points: Tensor) -> tuple[float, float]:
    """Where the number of a client stands: its point nearest to the mean."""
    plane = points[:, :2]
    x, y = plane[(plane - plane.mean(0)).norm(dim=1).argmin()].tolist()
    return x, y


def _joined(rows: Sequence[Rows]) -> Tensor:
    return torch.cat([r.points for r in rows])


def _column(history: Sequence[Line], key: str) -> NDArray[np.float64]:
    """One quantity of a history, NaN where a line lacks it."""
    values = [line.get(key) for line in history]
    return np.array(
        [float(v) if isinstance(v, (int, float)) else math.nan for v in values]
    )

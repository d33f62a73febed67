"""The solution of a trained model beside the reference."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation
from numpy.typing import NDArray
from torch import Tensor

from fedsciml.plot.layout import panels
from fedsciml.plot.owners import box, joined, squarish
from fedsciml.plot.staged import MOST, View, at_sites, of_clients, pieces, plane, views
from fedsciml.plot.style import COLOURS, PAGE, SMALLEST, styled
from fedsciml.problem import Problem

MOST_PARTS = 40
"""Changes of the owner along a line above which no part of it is anyone's."""


@styled()
def solution(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor] | None = None
) -> Figure:
    """The trained u beside the reference, and their difference.

    One coordinate: curves, with the clients' parts of the domain shaded. Two: maps.
    More: maps on the plane of the first two coordinates through the domain's centre. Of
    many outputs the first ``MOST``. Where each client has a solution of its own, those
    of some, with what was measured there.

    Args:
        problem: Gives network, reference and clients.
        theta: Trained parameters, shape [p].
        personal: Parameters of the clients' own, as in a result.

    Raises:
        ValueError: If each client has a solution of its own, and none is known.
    """
    found = views(problem, theta, personal)
    if len(problem.coordinates) > 1:
        return _maps(problem, found)
    if personal and found[0].client is not None:
        several = at_sites(problem, theta, personal, found)
        title = f"{problem.name}, {of_clients(problem, found)}"
        return panels(several, 3, height=1.9, legend="below", title=title)
    return _curves(problem, found[0])


def _curves(problem: Problem, view: View) -> Figure:
    x, trained, reference = view.points[:, 0].numpy(), view.trained, view.reference
    rows = 1 if reference is None else 2
    names = problem.outputs[:MOST]
    outputs = len(names)
    figure = Figure(
        figsize=(0.8 + 3.6 * outputs, 1.2 + 1.3 * rows), layout="constrained"
    )
    grid = figure.subplots(
        rows,
        outputs,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": (3, 2)[:rows]},
    )
    for c, output in enumerate(names):
        top = grid[0, c]
        if reference is not None:
            top.plot(x, reference[:, c], color="0.6", linewidth=3, label="reference")
        top.plot(x, trained[:, c], color="black", linewidth=1, label="trained")
        top.set_ylabel(output)
        if reference is not None:
            difference = np.abs(trained[:, c] - reference[:, c])
            bottom = grid[1, c]
            bottom.semilogy(x, np.maximum(difference, SMALLEST), color="black", lw=0.8)
            bottom.set_ylabel(f"abs. error of {output}")
            seen = difference[difference > 0]
            if len(seen):  # a node of the error must not take the whole scale
                bottom.set_ylim(bottom=np.quantile(seen, 0.01) / 3)
        for axes in grid[:, c]:
            _shade(axes, problem, named=axes is top)
        grid[-1, c].set_xlabel(problem.coordinates[0])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle(problem.name + _left(problem))
    return figure


def _shade(axes: Axes, problem: Problem, named: bool) -> None:
    """Colour the background by the client whose points lie there."""
    shades = parts(problem)
    x = joined(problem.pooled().rows)[:, 0]
    axes.set_xlim(float(x.min()), float(x.max()))
    for left, right, m in shades:
        axes.axvspan(left, right, color=COLOURS[m % len(COLOURS)], alpha=0.13, lw=0)
    if named and shades:
        word = "client " if len(shades) <= 6 else ""
        upper = axes.secondary_xaxis("top")
        upper.set_xticks(
            [(left + right) / 2 for left, right, _ in shades],
            [f"{word}{m}" for *_, m in shades],
        )
        upper.tick_params(length=0)
        if not word:
            upper.set_xlabel("client")


def parts(problem: Problem) -> list[tuple[float, float, int]]:
    """Parts of the first coordinate by the client whose points lie there.

    Ends and client of each; none where points are interleaved or not here.
    """
    points = [joined(shard.rows) for shard in problem.shards()]
    x = torch.cat(points)[:, 0]
    owner = torch.repeat_interleave(
        torch.arange(len(points)), torch.tensor([len(p) for p in points])
    )
    order = x.argsort(stable=True)
    x, owner = x[order], owner[order]
    change = (owner[1:] != owner[:-1]).nonzero().squeeze(-1)
    if not len(x) or len(change) > MOST_PARTS:
        return []
    middle = (x[change] + x[change + 1]) / 2
    edges = [float(x[0]), *middle.tolist(), float(x[-1])]
    clients = [int(owner[0]), *owner[change + 1].tolist()]
    return [(*ends, m) for ends, m in zip(pairwise(edges), clients, strict=True)]


def _maps(problem: Problem, views: Sequence[View]) -> Figure:
    columns = 1 if views[0].reference is None else 3
    named = pieces(problem, views)
    figure = Figure(
        figsize=(PAGE / 3 * columns, 0.4 + 1.9 * len(named)), layout="compressed"
    )
    grid = figure.subplots(len(named), columns, sharex=True, sharey=True, squeeze=False)
    for number, (name, c, view) in enumerate(named):
        points, reference = view.points, view.reference
        if number == 0 or view is not named[number - 1][2]:
            mesh = Triangulation(points[:, 0].numpy(), points[:, 1].numpy())
            if reference is not None:  # off the domain it is nan
                off = np.isnan(reference.sum(1))
                mesh.set_mask(np.any(off[mesh.triangles], axis=1))
            drawn = np.unique(mesh.get_masked_triangles())
        maps = [("trained", view.trained[:, c])]
        if reference is not None:
            maps.append(("reference", reference[:, c]))
        both = np.concatenate([values[drawn] for _, values in maps])
        norm: Normalize = Normalize(both.min(), both.max())
        cmap = "viridis"
        if reference is not None:
            difference = np.abs(view.trained[:, c] - reference[:, c])
            maps.append(("abs. error", np.maximum(difference, SMALLEST)))
        for axes, (kind, values) in zip(grid[number], maps, strict=True):
            if kind == "abs. error":
                # The few points where the error crosses zero would take the scale.
                low, high = np.quantile(values[drawn], 0.02), values[drawn].max()
                norm, cmap = LogNorm(min(low, high / 10), high), "magma"
            image = axes.tripcolor(
                mesh, values, shading="gouraud", norm=norm, cmap=cmap, rasterized=True
            )
            figure.colorbar(image, ax=axes)
            axes.set_title(f"{name}, {kind}" if len(named) > 1 else kind)
            axes.set_aspect("equal" if squarish(problem) else "auto")
            _borders(axes, problem)
        grid[number, 0].set_ylabel(problem.coordinates[1])
    for axes in grid[-1]:
        axes.set_xlabel(problem.coordinates[0])
    several = f", {of_clients(problem, views)}" if views[0].client is not None else ""
    figure.suptitle(problem.name + several + plane(problem) + _left(problem))
    return figure


def _left(problem: Problem) -> str:
    """That some outputs are not drawn, if it is so."""
    c = len(problem.outputs)
    return f", the first {MOST} of {c} outputs" if c > MOST else ""


def _borders(axes: Axes, problem: Problem) -> None:
    """Lines between the clients' parts of the plane, where the partition tells."""
    owner = owners(problem)
    if owner is None:
        return
    lower, upper = box(problem)
    x, y = (np.linspace(float(lower[i]), float(upper[i]), len(owner)) for i in (0, 1))
    for m in np.unique(owner)[:-1]:
        above = (owner > m).astype(float)
        axes.contour(x, y, above, [0.5], colors="white", linewidths=0.8)


def owners(problem: Problem, n: int = 200) -> NDArray[np.int64] | None:
    """Who owns the points of an n by n grid on the plane of the first two coordinates.

    Returns:
        Numbers of clients, the first row at the bottom; None where nobody owns what
        lies between the points.
    """
    lower, upper = box(problem)
    grids = [torch.linspace(float(lower[i]), float(upper[i]), n) for i in (0, 1)]
    x, y = torch.meshgrid(*grids, indexing="xy")
    points = ((lower + upper) / 2).expand(x.numel(), -1).clone()
    points[:, 0], points[:, 1] = x.flatten(), y.flatten()
    try:
        return problem.partition.owner(points).view(x.shape).numpy()
    except ValueError:  # explicit points
        return None

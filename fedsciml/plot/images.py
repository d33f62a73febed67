"""Maps side by side: a field, and errors on one colour scale."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedsciml.plot.style import PAGE, PLATE, SMALLEST, styled


@styled()
def maps(
    fields: Mapping[str, NDArray[Any]], errors: Mapping[str, Mapping[str, NDArray[Any]]]
) -> Figure:
    """A row per problem: its solution, then the errors of several methods.

    Every solution has a colour scale of its own; all errors share one logarithmic scale
    for their absolute values, the largest of which stands in the map.

    Args:
        fields: The solution of each problem on a grid of the unit square, shape
            [ny, nx]; the first row lies at the bottom.
        errors: The differences of each method to it, by method and by problem; the
            place of a pair that is not there stays empty.
    """
    rows, columns = len(fields), 1 + len(errors)
    side = PAGE / (columns + 0.8)
    figure = Figure(figsize=(PAGE, 0.2 + side * rows), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    every = [np.abs(e) for found in errors.values() for e in found.values()]
    smallest = min(np.quantile(e, 0.02) for e in every)  # not where an error is zero
    norm = LogNorm(max(smallest / 10, SMALLEST), max(e.max() for e in every))
    square = {"origin": "lower", "extent": (0, 1, 0, 1), "interpolation": "bilinear"}
    grid[0, 0].set_title("solution")
    for axes, (problem, u) in zip(grid[:, 0], fields.items(), strict=True):
        axes.set_ylabel(problem)
        image = axes.imshow(u, cmap="viridis", **square)
        figure.colorbar(image, ax=axes, location="left", shrink=0.8)
    for column, (method, found) in zip(grid[:, 1:].T, errors.items(), strict=True):
        column[0].set_title(method)
        for axes, problem in zip(column, fields, strict=True):
            if problem not in found:
                axes.set_axis_off()
                continue
            error = np.abs(found[problem])
            axes.imshow(np.maximum(error, SMALLEST), cmap="magma", norm=norm, **square)
            axes.text(0.04, 0.05, f"max {error.max():.0e}", size=7, bbox=PLATE)
    scale = ScalarMappable(norm, "magma")
    figure.colorbar(scale, ax=grid[:, 1:], label="absolute error", aspect=40)
    return figure

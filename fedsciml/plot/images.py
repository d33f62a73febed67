"""Maps side by side: a field, and errors on one colour scale."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedsciml.plot.style import PAGE, SMALLEST, styled


@styled()
def maps(
    fields: Mapping[str, NDArray[Any]],
    errors: Mapping[str, Mapping[str, NDArray[Any]]],
) -> Figure:
    """A row per problem: its solution, then the errors of several methods.

    Every solution has a colour scale of its own; all errors share one logarithmic scale
    for their absolute values.

    Args:
        fields: The solution of each problem on a grid of the unit square, shape
            [ny, nx]; the first row lies at the bottom.
        errors: The differences of each method to it, by method and by problem; the
            place of a pair that is not there stays empty.
    """
    rows, columns = len(fields), 1 + len(errors)
    wide = PAGE / (columns + 0.6)
    figure = Figure(figsize=(PAGE, 0.4 + wide * rows), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    every = [np.abs(e) for found in errors.values() for e in found.values()]
    smallest = min(np.quantile(e, 0.02) for e in every)  # not where an error is zero
    norm = LogNorm(max(smallest, SMALLEST), max(e.max() for e in every))
    shown = None
    for i, (problem, u) in enumerate(fields.items()):
        cells = {"solution": u} | {m: found.get(problem) for m, found in errors.items()}
        for axes, (name, values) in zip(grid[i], cells.items(), strict=True):
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.set_title("" if i else name)
            if values is None:
                axes.set_axis_off()
                continue
            image = axes.imshow(
                values if name == "solution" else np.maximum(np.abs(values), SMALLEST),
                origin="lower",
                extent=(0, 1, 0, 1),
                interpolation="bilinear",
                cmap="viridis" if name == "solution" else "magma",
                norm=None if name == "solution" else norm,
            )
            if name == "solution":
                figure.colorbar(image, ax=axes, location="left", shrink=0.8)
                axes.set_ylabel(problem)
            else:
                shown = image
    if shown is not None:
        figure.colorbar(shown, ax=grid[:, 1:], label="absolute error", aspect=40)
    return figure

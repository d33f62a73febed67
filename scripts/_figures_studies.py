"""Figures of solutions."""

from collections.abc import Mapping
from typing import Any

from experiments._drawing import Drawing, MissingRecordError, look
from numpy.typing import NDArray

from fedsciml import plot


def solutions(arrays: Mapping[str, NDArray[Any]]) -> plot.Figure:
    """Solutions, and the errors of the methods on one colour scale."""
    planes = {"poisson3d": ", z = 1/2", "poisson5d": ", others 1/2"}
    kinds = ("fedavg", "fipa", "gauss_newton")
    fields: dict[str, NDArray[Any]] = {}
    errors: dict[str, dict[str, NDArray[Any]]] = {look(m).label: {} for m in kinds}
    for name in ("gaussians2d", "poisson2d", "poisson3d", "poisson5d"):
        label = name + planes.get(name, "")
        for method in kinds:
            if f"{name}/{method}" in arrays:  # [i, j] is at x_i, y_j
                fields[label] = arrays[f"{name}/reference"].T
                errors[look(method).label][label] = arrays[f"{name}/{method}"].T
    if not fields:
        raise MissingRecordError("solutions.npz has no solution yet")
    return plot.maps(fields, errors)


DRAWINGS = {
    "solutions": Drawing(
        solutions,
        ("solutions.npz",),
        "Solutions, and the errors of FedAvg, FIPA and centralised Gauss-Newton on one "
        "colour scale.",
    ),
}

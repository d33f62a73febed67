"""Solutions on a plane: the exact u, and how far the models of some methods are off.

The record is an .npz file of float32 arrays [61, 61]; index [i, j] is the point
(i / 60, j / 60) of the first two coordinates of the unit cube, all others are 1/2:

    poisson2d/reference   u
    poisson2d/fipa        u_theta - u, taken in float64: also 1e-13 keeps its digits
    runs                  JSON texts: problem, method, seed, rounds, options, error
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from numpy.typing import NDArray

from experiments._drawing import Drawing, MissingRecordError, look
from experiments._experiment import Experiment
from experiments._words import title
from fedsciml import plot

PLANES = {
    "gaussians2d": "",
    "poisson2d": "",
    "poisson3d": ", z = 1/2",
    "poisson5d": ", at 1/2",
}
"""Problems, and which plane it is."""

METHODS = ("fedavg", "fipa", "gauss_newton")


def solutions(arrays: Mapping[str, NDArray[Any]]) -> plot.Figure:
    """Solutions, and the errors of the methods on one colour scale."""
    fields: dict[str, NDArray[Any]] = {}
    off: dict[str, dict[str, NDArray[Any]]] = {look(m).label: {} for m in METHODS}
    for (name, where), method in product(PLANES.items(), METHODS):
        if f"{name}/{method}" in arrays:  # [i, j] is at x_i, y_j
            words = title(name) + where
            fields[words] = arrays[f"{name}/reference"].T
            off[look(method).label][words] = arrays[f"{name}/{method}"].T
    if not fields:
        raise MissingRecordError("has no solution yet")
    return plot.maps(fields, off)


EXPERIMENT = Experiment(
    "solutions",
    __doc__,
    drawings={
        "solutions": Drawing(
            solutions,
            "Solutions, and the errors of FedAvg, FIPA and centralised "
            "Gauss-Newton on one colour scale.",
        )
    },
    record="solutions.npz",
    unpack=lambda content: [],
)

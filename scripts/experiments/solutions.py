"""Solutions on a plane: the exact u, and how far the models of some methods are off.

The record is an .npz file of float32 arrays [61, 61]; index [i, j] is the point
(i / 60, j / 60) of the first two coordinates of the unit cube, all others are 1/2:

    poisson2d/reference   u
    poisson2d/fipa        u_theta - u, taken in float64: also 1e-13 keeps its digits
    runs                  JSON texts: problem, method, seed, rounds, options, error

An hour.
"""

import io
import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import _common
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import problems
from experiments._drawing import Drawing, MissingRecordError, look
from experiments._experiment import Experiment
from experiments._record import Entry, short
from experiments._suites import options_of
from fedsciml import methods, plot, run
from fedsciml.analysis.metrics import errors
from fedsciml.federation.loop import describe
from fedsciml.problem import Problem

PLANES = {
    "gaussians2d": "",
    "poisson2d": "",
    "poisson3d": ", z = 1/2",
    "poisson5d": ", others 1/2",
}
"""Problems, and which plane it is."""

METHODS = ("fedavg", "fipa", "gauss_newton")
ROUNDS = 50
SIDE = 61
"""Points along a side of the plane."""

MAPS = ("reference", "off")
"""Fields of an entry that are arrays."""


def plane(problem: Problem) -> Tensor:
    """The points of the plane, shape [SIDE^2, d], the second coordinate fastest.

    Raises:
        ValueError: If the problem has no plane to show, or nothing to compare with.
    """
    d = len(problem.coordinates)
    if d < 2 or problem.domain is None or problem.exact is None:
        raise ValueError(
            f"A plane needs a domain of at least 2 coordinates and an exact solution; "
            f"problem '{problem.name}' has not all of them. Choose another."
        )
    corners = zip(*problem.domain, strict=True)
    axes = [torch.linspace(a, b, SIDE, dtype=torch.float64) for a, b in corners]
    middle = [axis[SIDE // 2 : SIDE // 2 + 1] for axis in axes[2:]]
    return torch.cartesian_prod(*axes[:2], *middle)


def measure(name: str, method: str) -> Entry:
    """A model, trained from start 0, and how far it is off."""
    problem = problems.load(name)
    points = plane(problem)
    assert problem.exact is not None
    exact = problem.exact(points)
    made = methods.load(method, **options_of(name, method))
    theta = run(problem, made, ROUNDS).theta
    quantity = _common.quantity(problem)
    relative_l2, mse = errors(problem, theta)
    with torch.no_grad():
        off = problem.network(theta, points)[:, 0] - exact
    maps = zip(MAPS, (exact, off), strict=True)
    return {
        "seed": 0,
        "rounds": ROUNDS,
        "options": describe(made),
        "quantity": quantity,
        "error": short(mse if quantity == "mse" else relative_l2),
        **{k: v.view(SIDE, SIDE).numpy().astype(np.float32) for k, v in maps},
    }


def unpack(content: bytes) -> list[Entry]:
    """The entries of a record."""
    with np.load(io.BytesIO(content)) as arrays:
        lines: list[Entry] = [json.loads(text) for text in arrays["runs"]]
        for line in lines:
            for key, name in zip(MAPS, ("reference", line["method"]), strict=True):
                line[key] = arrays[f"{line['problem']}/{name}"]
    return lines


def pack(entries: Sequence[Entry]) -> bytes:
    """The content of a record."""
    texts = [{k: v for k, v in e.items() if k not in MAPS} for e in entries]
    arrays = {"runs": np.array(sorted(json.dumps(text) for text in texts))}
    for e in entries:
        for key, name in zip(MAPS, ("reference", e["method"]), strict=True):
            arrays[f"{e['problem']}/{name}"] = e[key]
    buffer = io.BytesIO()
    ordered: dict[str, Any] = {key: arrays[key] for key in sorted(arrays)}
    np.savez_compressed(buffer, **ordered)
    return buffer.getvalue()


def solutions(arrays: Mapping[str, NDArray[Any]]) -> plot.Figure:
    """Solutions, and the errors of the methods on one colour scale."""
    fields: dict[str, NDArray[Any]] = {}
    off: dict[str, dict[str, NDArray[Any]]] = {look(m).label: {} for m in METHODS}
    for (name, where), method in product(PLANES.items(), METHODS):
        if f"{name}/{method}" in arrays:  # [i, j] is at x_i, y_j
            fields[name + where] = arrays[f"{name}/reference"].T
            off[look(method).label][name + where] = arrays[f"{name}/{method}"].T
    if not fields:
        raise MissingRecordError("has no solution yet")
    return plot.maps(fields, off)


EXPERIMENT = Experiment(
    "solutions",
    __doc__,
    ("problem", "method"),
    [*product(PLANES, METHODS)],
    measure,
    drawings={
        "solutions": Drawing(
            solutions,
            "Solutions, and the errors of FedAvg, FIPA and centralised "
            "Gauss-Newton on one colour scale.",
        )
    },
    record="solutions.npz",
    check=lambda name, method: plane(problems.load(name)),
    unpack=unpack,
    pack=pack,
)

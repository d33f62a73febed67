"""Boundary and initial conditions of DeepXDE as residuals, see ``deepxde.icbc``.

DeepXDE computes the values of a condition and the normals for all points at once. Here
they become targets of the rows, so that each client has those of its own points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import decimals
from fedsciml.deepxde.package import double_precision
from fedsciml.network.jet import Jet
from fedsciml.problem import Row

Condition = Any
"""A boundary or initial condition of DeepXDE."""

Errors = Callable[[Jet, Row], "Tensor | Sequence[Tensor]"]
"""Maps jets and rows to DeepXDE's errors, each [n, 1] or [n, k].

Of k columns the mean of the squares counts.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Known:
    """The errors of a condition or equation, and what they need.

    Attributes:
        errors: The errors as a function of jets and rows.
        target: What they read as ``row.target``, shape [n, q]; None for nothing.
        autograd: Whether they call a function of the user or differentiate.
        paired: Whether the second half of the points are partners of the first half.
        directed: Whether the target holds normals, on which derivatives depend.
    """

    errors: Errors
    target: Tensor | None = None
    autograd: bool = True
    paired: bool = False
    directed: bool = False


def known(name: str, condition: Condition, points: Tensor) -> Known:
    """The errors of a condition of DeepXDE at its points [n, d].

    Raises:
        ValueError: If it is not supported, or its values are not one for every point.
    """
    with double_precision() as dde:
        icbc = dde.icbc
        made = {
            icbc.DirichletBC: _given,
            icbc.IC: _given,
            icbc.NeumannBC: _neumann,
            icbc.RobinBC: _robin,
            icbc.PeriodicBC: _periodic,
            icbc.OperatorBC: _operator,
            icbc.PointSetBC: _measured,
            icbc.PointSetOperatorBC: _measured_operator,
            icbc.Interface2DBC: _interface,
        }
        if type(condition) not in made:
            raise ValueError(
                f"The condition {name} is not supported; there are "
                f"{', '.join(kind.__name__ for kind in made)}. What it asks at single "
                "points can be an OperatorBC(geom, lambda x, y, X: error, on_boundary) "
                "or, at points of your own, a PointSetOperatorBC."
            )
        if getattr(condition, "batch_size", None) is not None:
            raise ValueError(
                f"The condition {name} draws batches of its points; build it without "
                "batch_size."
            )
        return made[type(condition)](name, condition, points)


def _given(name: str, condition: Condition, points: Tensor) -> Known:
    """u_c = f(x)."""
    which, values = condition.component, _values(name, condition.func, points)
    return Known(lambda u, row: u.values[:, which] - row.target, values, False)


def _neumann(name: str, condition: Condition, points: Tensor) -> Known:
    """du_c/dn = f(x)."""
    values = _values(name, condition.func, points)

    def errors(u: Jet, row: Row) -> Tensor:
        return _along(u, row, condition, row.target[:, 1:]) - row.target[:, :1]

    target = torch.cat([values, _normals(condition, points)], 1)
    return Known(errors, target, directed=True)


def _robin(name: str, condition: Condition, points: Tensor) -> Known:
    """du_c/dn = f(x, u)."""

    def errors(u: Jet, row: Row) -> Tensor:
        slope = _along(u, row, condition, row.target.view(row.points.shape))
        return slope - condition.func(_array(row.points), u.values)

    return Known(errors, _normals(condition, points), directed=True)


def _periodic(name: str, condition: Condition, points: Tensor) -> Known:
    """u_c, or its derivative along the period, is the same at both points."""
    which, axis = condition.component, condition.component_x
    if condition.derivative_order == 0:

        def values(u: Jet, row: Row) -> Tensor:
            return u.values[:, which] - u.partner.values[:, which]

        return Known(values, autograd=False, paired=True)

    def slopes(u: Jet, row: Row) -> Tensor:
        assert row.partner is not None
        here = _gradient(u.values, row.points, which)
        there = _gradient(u.partner.values, row.partner, which)
        return here[:, axis] - there[:, axis]

    return Known(slopes, paired=True)


def _operator(name: str, condition: Condition, points: Tensor) -> Known:
    """f(x, u) = 0."""
    return Known(
        lambda u, row: condition.func(row.points, u.values, _array(row.points))
    )


def _measured(name: str, condition: Condition, points: Tensor) -> Known:
    """u_c = values, of one or several components c."""
    which = condition.component
    which = list(which) if isinstance(which, (list, tuple)) else [which]
    values = _matrix(name, _decimals(condition.values), len(points), len(which))

    def errors(u: Jet, row: Row) -> Tensor:
        return u.values[:, which] - row.target.view(-1, len(which))

    return Known(errors, values, False)


def _measured_operator(name: str, condition: Condition, points: Tensor) -> Known:
    """f(x, u) = values."""
    values = _matrix(name, _decimals(condition.values), len(points), 1)

    def errors(u: Jet, row: Row) -> Tensor:
        found = condition.func(row.points, u.values, _array(row.points))
        return found - row.target.unsqueeze(1)

    return Known(errors, values)


def _interface(name: str, condition: Condition, points: Tensor) -> Known:
    """d_1 . u(x_1) + d_2 . u(x_2) = f(x_1), u = (u_0, u_1), at pairs of two edges.

    The directions d are the outward normals, or these turned clockwise.
    """
    if len(points) % 2:
        raise ValueError(
            f"The condition {name} has {len(points)} points, which do not make pairs: "
            "the edges must have the same length, and the data "
            "train_distribution='uniform'."
        )
    half = len(points) // 2
    directions = _normals(condition, points)
    if condition.direction == "tangent":
        directions = torch.stack([directions[:, 1], -directions[:, 0]], 1)
    values = _values(name, condition.func, points[:half])

    def errors(u: Jet, row: Row) -> Tensor:
        value, here, there = row.target.split([1, 2, 2], 1)
        jump = u.values * here + u.partner.values * there
        return jump.sum(1, keepdim=True) - value

    target = torch.cat([values, directions[:half], directions[half:]], 1)
    return Known(errors, target, autograd=False, paired=True)


def _values(name: str, function: Callable[..., Tensor], points: Tensor) -> Tensor:
    """The values [n, 1] of a condition's function.

    DeepXDE keeps what it has computed in its own precision, by the identity of the
    points: the function behind is called.
    """
    plain = function.__wrapped__  # type: ignore[attr-defined]
    return _matrix(name, plain(points.numpy()).cpu(), len(points), 1)


def _normals(condition: Condition, points: Tensor) -> Tensor:
    """Outward normals [n, d], asked for point by point.

    A ``PointCloud`` answers in the order of its own points, and finds a point only if
    its coordinates are those of the cloud to the last digits: in float32, as they came.

    Raises:
        ValueError: If there is not one normal at a point.
    """
    normal = condition.boundary_normal.__wrapped__

    def at(point: np.ndarray) -> Tensor:
        for x in (point, point.astype(np.float32).astype(np.float64)):
            found = normal(x).double().cpu().reshape(-1, len(point[0]))
            if len(found) and bool((found == found[:1]).all()):
                return found[0]
        raise ValueError(
            f"The geometry gives {len(found)} normals at the boundary point "
            f"{point[0].tolist()}, where one is needed; leave the point out by "
            "exclusions, or give a PointCloud every point once."
        )

    return torch.stack([at(point) for point in np.split(points.numpy(), len(points))])


def _along(u: Jet, row: Row, condition: Condition, normals: Tensor) -> Tensor:
    """The normal derivative [n, 1]."""
    slope = _gradient(u.values, row.points, condition.component)
    return (slope * normals).sum(1, keepdim=True)


def _gradient(values: Tensor, points: Tensor, which: int) -> Tensor:
    total = values[:, which].sum()
    return torch.autograd.grad(total, points, create_graph=True)[0]


def _matrix(name: str, values: Tensor, n: int, k: int) -> Tensor:
    """Values as [n, k]; a single number or row counts for all points."""
    if list(values.shape) not in ([], [1], [k], [1, k], [n, 1], [n, k]):
        raise ValueError(
            f"The values of {name} have shape {list(values.shape)} for {n} points; "
            f"they must be [{n}, {k}], a column for every component."
        )
    return values.double().expand(n, k)


def _decimals(values: Tensor) -> Tensor:
    return decimals(values.detach().cpu().numpy())


def _array(points: Tensor) -> np.ndarray:
    """Points as the array that a function of a DeepXDE script takes."""
    return points.detach().cpu().numpy()

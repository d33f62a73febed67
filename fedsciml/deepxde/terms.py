"""DeepXDE's equations and conditions as terms of a problem.

What DeepXDE computes for all points at once, the values of a condition, normals,
auxiliary variables, becomes the rows' targets, so that it goes with the points. A
residual is called with DeepXDE's arguments: ``inputs`` are the points [n, d] and
``outputs`` the values [n, c] of the net. DeepXDE's loss is the sum of w mean(error^2),
twice ours.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import decimals
from fedsciml.deepxde.package import double_precision
from fedsciml.deepxde.variables import attached, standing_in
from fedsciml.jet import Jet
from fedsciml.problem import Residual, Row, Term

Data = Any
"""A ``deepxde.data.Data``: DeepXDE is not typed."""

Condition = Any
"""A boundary or initial condition of DeepXDE."""

Errors = Callable[[Jet, Row], "Tensor | Sequence[Tensor]"]
"""DeepXDE's errors, [n, 1] each; of [n, k] the mean of the k squares counts."""


class Known(NamedTuple):
    """A condition: its errors and what they read.

    Attributes:
        errors: Of the jets and the rows.
        target: Shape [n, q], read as ``row.target``, or None.
        autograd: Whether the errors call a function of the user or differentiate.
        paired: Whether the second half of the points are the first half's partners.
    """

    errors: Errors
    target: Tensor | None = None
    autograd: bool = True
    paired: bool = False


def equations(
    data: Data, weights: Sequence[float] | None, variables: Mapping[str, Tensor]
) -> list[Term]:
    """The terms of a ``dde.data.PDE`` or ``TimePDE``: its pde, then its conditions.

    Args:
        data: With its points drawn.
        weights: DeepXDE's ``loss_weights``: of the errors of the pde, then of the
            conditions; 1 for None. What has weight 0 is left out.
        variables: External trainable variables by name.

    Raises:
        ValueError: If there are too few weights, or a condition is not supported, has
            no points, or its function does not return one value for every point.
    """
    count = len(data.bcs)
    weights = None if weights is None else [float(w) for w in weights]
    if weights is not None and len(weights) < count:
        raise ValueError(
            f"There are {len(weights)} loss weights for {count} conditions and the "
            "errors of the pde; give one for each, first the pde's."
        )
    split = None if weights is None else len(weights) - count
    result = []
    of_pde = None if weights is None else weights[:split]
    if data.pde is not None and (not of_pde or any(of_pde)):
        points = decimals(np.asarray(data.train_x_all))
        pde = _pde(data, points)
        most = max(of_pde or [1.0])
        shares = None if of_pde is None else [w / most for w in of_pde]
        rows = residual("pde", pde, shares, variables)
        result.append(Term("pde", rows, points, pde.target, most, autograd=True))
    stops = np.cumsum(data.num_bcs)
    parts = np.split(np.asarray(data.train_x), stops)[:count]
    names = _numbered([type(condition).__name__ for condition in data.bcs])
    of_conditions = [1.0] * count if weights is None else weights[split:]
    for name, condition, part, weight in zip(
        names, data.bcs, parts, of_conditions, strict=True
    ):
        if len(part) == 0:
            raise ValueError(
                f"The condition {name} has no points; give num_boundary or num_initial "
                "in the data, or another on_boundary."
            )
        if weight:
            points = decimals(part)
            known = _condition(name, condition, points)
            rows = residual(name, known, None, variables)
            half = len(points) // 2 if known.paired else len(points)
            result.append(
                Term(
                    name,
                    rows,
                    points[:half],
                    known.target,
                    weight,
                    known.autograd,
                    points[half:] if known.paired else None,
                )
            )
    return result


def residual(
    name: str,
    known: Known,
    weights: Sequence[float] | None,
    variables: Mapping[str, Tensor],
) -> Residual:
    """A residual function: every column of every error, times the root of its weight.

    Raises:
        ValueError: By the function, if the errors are not tensors [n, 1] or [n, k], or
            not as many as the weights.
    """

    def columns(u: Jet, row: Row) -> Sequence[Tensor]:
        read = variables if known.autograd else {}
        with double_precision(row.points.device), standing_in(read, u) as numbers:
            found = known.errors(u, row)
            errors = [found] if isinstance(found, Tensor) else list(found)
            factors = [1.0] * len(errors) if weights is None else weights
            if len(factors) != len(errors):
                raise ValueError(
                    f"The {name} returns {len(errors)} errors, but the loss weights "
                    f"are for {len(factors)}; give one for each error of the pde, then "
                    "one for each condition."
                )
            result: list[Tensor] = []
            for error, factor in zip(errors, factors, strict=True):
                parts = _unbound(name, error, len(row.points))
                result += [(factor / len(parts)) ** 0.5 * part for part in parts]
            if not numbers:
                return result
            return attached(torch.stack(result), numbers, u).unbind()

    return columns


def _unbound(name: str, error: Tensor, n: int) -> Sequence[Tensor]:
    """The columns [n] of an error [n], [n, 1] or [n, k]."""
    shape = list(error.shape)
    if error.ndim not in (1, 2) or shape[0] != n:
        raise ValueError(
            f"An error of the {name} has shape {shape} for {n} points; it must be "
            f"[{n}, 1]: one row for every point."
        )
    return error.unbind(1) if error.ndim == 2 else [error]


def _pde(data: Data, points: Tensor) -> Known:
    pde, auxiliary = data.pde, data.auxiliary_var_fn
    if auxiliary is None:
        return Known(lambda u, row: pde(row.points, u.values))
    with double_precision():
        target = torch.as_tensor(auxiliary(points.numpy()), dtype=torch.float64)
    shape = target.shape
    return Known(
        lambda u, row: pde(row.points, u.values, row.target.reshape(-1, *shape[1:])),
        target,
    )


def _condition(name: str, condition: Condition, points: Tensor) -> Known:
    """What a condition of DeepXDE asks of u, see deepxde/icbc."""
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
        }
        if type(condition) not in made:
            raise ValueError(
                f"The condition {name} is not supported; there are "
                f"{', '.join(kind.__name__ for kind in made)}. Write it as an "
                "OperatorBC or a PointSetOperatorBC."
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

    return Known(errors, torch.cat([values, _normals(condition, points)], 1))


def _robin(name: str, condition: Condition, points: Tensor) -> Known:
    """du_c/dn = f(x, u)."""
    del name

    def errors(u: Jet, row: Row) -> Tensor:
        slope = _along(u, row, condition, row.target.view(row.points.shape))
        return slope - condition.func(_array(row.points), u.values)

    return Known(errors, _normals(condition, points))


def _periodic(name: str, condition: Condition, points: Tensor) -> Known:
    """u_c, or its derivative along the period, is the same at both points."""
    del name, points
    which, axis = condition.component, condition.component_x
    if condition.derivative_order == 0:

        def values(u: Jet, row: Row) -> Tensor:
            del row
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
    del name, points
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


def _values(name: str, function: Callable[..., Tensor], points: Tensor) -> Tensor:
    """The values [n, 1] of a condition's function.

    DeepXDE keeps what it has computed in its own precision, by the identity of the
    points: the function behind is called.
    """
    plain = function.__wrapped__  # type: ignore[attr-defined]
    return _matrix(name, plain(points.numpy()).cpu(), len(points), 1)


def _normals(condition: Condition, points: Tensor) -> Tensor:
    """Outward normals [n, d]."""
    return condition.boundary_normal.__wrapped__(points.numpy()).cpu()


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
    """Points as a DeepXDE script takes them."""
    return points.detach().cpu().numpy()


def _numbered(names: Sequence[str]) -> list[str]:
    """Names, the second and further ones of a kind with their number."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return result

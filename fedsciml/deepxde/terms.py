"""DeepXDE's equations and conditions as terms of a problem.

A function of the script is called with DeepXDE's arguments: ``inputs`` are the points
[n, d] and ``outputs`` the values [n, c] of the net. DeepXDE's loss is the sum of
w mean(error^2), twice ours.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import decimals
from fedsciml.deepxde.conditions import Known, known
from fedsciml.deepxde.package import double_precision
from fedsciml.deepxde.samples import Data, everywhere, where_it_holds
from fedsciml.deepxde.variables import attached, standing_in
from fedsciml.network.jet import Jet
from fedsciml.problem import Residual, Row, Term


def equations(
    data: Data, weights: Sequence[float] | None, variables: Mapping[str, Tensor]
) -> list[Term]:
    """The terms of a ``dde.data.PDE`` or ``TimePDE``: its pde, then its conditions.

    Args:
        data: The data, with points drawn.
        weights: DeepXDE's ``loss_weights``: for each error of the pde, then for each
            condition; all 1 for None. What has weight 0 is left out.
        variables: External trainable variables by name.

    Raises:
        ValueError: If weights are missing or negative, nothing is left, or a condition
            is not supported, has no points, or has not one value for every point.
    """
    count = len(data.bcs)
    weights = None if weights is None else [float(w) for w in weights]
    least = count + (data.pde is not None)
    if weights is not None and (len(weights) < least or min(weights, default=0) < 0):
        raise ValueError(
            f"The loss weights are {weights}; give one of at least 0 for each error of "
            f"the pde, then one for each of the {count} conditions."
        )
    split = None if weights is None else len(weights) - count
    result = []
    of_pde = None if weights is None else weights[:split]
    if data.pde is not None and (of_pde is None or any(of_pde)):
        points = decimals(np.asarray(data.train_x_all))
        pde = _pde(data, points)
        most = max(of_pde or [1.0])
        shares = None if of_pde is None else [w / most for w in of_pde]
        rows = residual("pde", pde, shares, variables)
        given = data.auxiliary_var_fn is not None
        sample = everywhere(data, partial(_auxiliary, data) if given else None)
        result.append(
            Term("pde", rows, points, pde.target, most, autograd=True, sample=sample)
        )
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
            asked = known(name, condition, points)
            rows = residual(name, asked, None, variables)
            half = len(points) // 2 if asked.paired else len(points)
            result.append(
                Term(
                    name,
                    rows,
                    points[:half],
                    asked.target,
                    weight,
                    asked.autograd,
                    points[half:] if asked.paired else None,
                    where_it_holds(name, condition, data, asked),
                )
            )
    if not result:
        raise ValueError(
            "The data have neither a pde nor a condition with a positive weight."
        )
    return result


def residual(
    name: str,
    asked: Known,
    weights: Sequence[float] | None,
    variables: Mapping[str, Tensor],
) -> Residual:
    """A residual function that returns all columns of all errors, weighted.

    Raises:
        ValueError: When it is called, if the errors are not tensors [n, 1] or [n, k],
            or not as many as the weights.
    """

    def columns(u: Jet, row: Row) -> Sequence[Tensor]:
        read = variables if asked.autograd else {}
        with double_precision(row.points.device), standing_in(read, u) as numbers:
            found = asked.errors(u, row)
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
    pde = data.pde
    if data.auxiliary_var_fn is None:
        return Known(lambda u, row: pde(row.points, u.values))
    target = _auxiliary(data, points)
    shape = target.shape
    return Known(
        lambda u, row: pde(row.points, u.values, row.target.reshape(-1, *shape[1:])),
        target,
    )


def _auxiliary(data: Data, points: Tensor) -> Tensor:
    with double_precision():
        found = data.auxiliary_var_fn(points.numpy())
        return torch.as_tensor(found, dtype=torch.float64)


def _numbered(names: Sequence[str]) -> list[str]:
    """Names, the second and further ones of a kind with their number."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return result

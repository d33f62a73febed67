"""Naive, dense and slow versions of what the library does, to compare with."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import mpmath
import numpy as np
import torch
from torch import Tensor
from torch.func import jacrev, jvp, vmap

from fedsciml.problem import Problem, Row, Shard

with warnings.catch_warnings():
    # The first jvp of a process compiles decompositions by a deprecated way of torch.
    warnings.simplefilter("ignore", DeprecationWarning)
    jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


class NaiveJet:
    """u and its derivatives by nested forward differentiation, point by point."""

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        x: Tensor,
        coordinates: Sequence[str],
        outputs: Sequence[str],
        unknowns: Mapping[str, Tensor] = MappingProxyType({}),
        output: int | None = None,
    ) -> None:
        self._all = (function, x, coordinates, outputs, unknowns)
        self._output = 0 if len(outputs) == 1 else output

    @property
    def values(self) -> Tensor:
        """Shape [n, c]."""
        function, x, *_ = self._all
        return vmap(function)(x)

    def __getattr__(self, name: str) -> "Tensor | NaiveJet":
        function, x, coordinates, outputs, unknowns = self._all
        if name in unknowns:
            return unknowns[name].expand(len(x))
        if self._output is None:
            return NaiveJet(*self._all, outputs.index(name))
        if name == "laplacian":
            return sum(getattr(self, 2 * c) for c in coordinates)
        while name not in ("value", ""):
            coordinate = max((c for c in coordinates if name.startswith(c)), key=len)
            function = along(function, coordinates.index(coordinate))
            name = name.removeprefix(coordinate)
        return vmap(function)(x)[:, self._output]


EXACT: dict[str, Callable] = {
    "tanh": mpmath.tanh,
    "sin": mpmath.sin,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "swish": lambda z: z / (1 + mpmath.exp(-z)),
}
"""Activations by name, for mpmath."""


def along(
    function: Callable[[Tensor], Tensor], coordinate: int
) -> Callable[[Tensor], Tensor]:
    """The partial derivative of a function of one point [d]."""

    def slope(x: Tensor) -> Tensor:
        direction = torch.zeros_like(x)
        direction[coordinate] = 1
        return jvp(function, (x,), (direction,))[1]

    return slope


def unknowns(problem: Problem, theta: Tensor) -> dict[str, Tensor]:
    """The unknown numbers; theta holds them over the size of their starts.

    Those of each client's own are at their starts.
    """
    starts = problem.network.unknowns
    shared = problem.shared_unknowns
    last = theta[len(theta) - len(shared) :].unbind()
    own = {name: theta.new_tensor(start) for name, start in starts.items()}
    pairs = zip(shared, last, strict=True)
    return own | {name: abs(starts[name]) * number for name, number in pairs}


def residual(problem: Problem, shard: Shard, theta: Tensor) -> Tensor:
    """Weighted residual, rows in the library's order."""
    parts = []
    for rows in shard.rows:
        term = problem.terms[rows.term]
        if len(rows.points) == 0:
            continue

        def at(points: Tensor) -> NaiveJet:
            return NaiveJet(
                lambda x: problem.network(theta, x.unsqueeze(0)).squeeze(0),
                points,
                problem.coordinates,
                problem.outputs,
                unknowns(problem, theta),
            )

        jet = at(rows.points)
        if rows.partner is not None:
            jet.partner = at(rows.partner)
        row = Row(rows.points, rows.target, problem.coordinates)
        values = term.residual(jet, row)
        values = (values,) if isinstance(values, Tensor) else values
        scale = (term.weight / len(problem.pooled().rows[rows.term].points)) ** 0.5
        parts += [scale * value for value in values]
    return torch.cat(parts)


def jacobian(problem: Problem, shard: Shard, theta: Tensor) -> Tensor:
    """J by reverse differentiation of ``residual``, shape [n, p]."""
    return jacrev(lambda t: residual(problem, shard, t))(theta)


def gauss_newton(
    jacobian: Tensor, residual: Tensor, damping: float = 0.0, cutoff: float = 0.0
) -> Tensor:
    """-(J^T J + mu)^+ J^T r, singular value by singular value of the whole J."""
    u, s, vt = torch.linalg.svd(jacobian, full_matrices=False)
    step = torch.zeros_like(vt[0])
    for k in range(len(s)):
        if s[k] > cutoff * s[0] and s[k] > 0:
            step -= s[k] / (s[k] ** 2 + damping) * (u[:, k] @ residual) * vt[k]
    return step


def stacked(jacobian: Tensor, residual: Tensor, damping: float) -> Tensor:
    """The same for mu > 0 as [J; sqrt(mu) I] D ~ [-r; 0], by NumPy's least squares."""
    p = jacobian.shape[1]
    matrix = np.vstack([jacobian.numpy(), damping**0.5 * np.eye(p)])
    right = np.concatenate([-residual.numpy(), np.zeros(p)])
    return torch.from_numpy(np.linalg.lstsq(matrix, right, rcond=None)[0])


def from_gramian(jacobian: Tensor, residual: Tensor, damping: float = 0.0) -> Tensor:
    """The same by Cholesky factorisation of J^T J + mu: what the library avoids."""
    gramian = jacobian.mT @ jacobian + damping * torch.eye(jacobian.shape[1]).double()
    factor = torch.linalg.cholesky(gramian)
    right = -(jacobian.mT @ residual).unsqueeze(-1)
    return torch.cholesky_solve(right, factor).squeeze(-1)


def relative(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm())

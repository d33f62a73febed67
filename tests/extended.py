"""The residual once more with more digits: np.longdouble has 64 bits of mantissa."""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor

from fedsciml.network import MLP
from fedsciml.network.jet import VALUE, Channel, Jet
from fedsciml.problem import Problem, Row

Array = np.ndarray[Any, np.dtype[np.longdouble]]


class Extended(np.ndarray[Any, np.dtype[np.longdouble]]):
    """An array of long doubles that torch's functions take, so that residuals do."""

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """NumPy's function of the same name."""
        del types
        return getattr(np, function.__name__)(*args, **(kwargs or {}))

    def unbind(self, dim: int = 0) -> "tuple[Extended, ...]":
        """As of a tensor."""
        return tuple(np.moveaxis(self, dim, 0))


def extended(values: Tensor) -> Extended:
    """The same numbers in more digits."""
    return values.numpy().astype(np.longdouble).view(Extended)


def norm(values: Array | Tensor) -> float:
    """Euclidean."""
    return float(np.sqrt(np.square(np.asarray(values)).sum()))


def network(mlp: MLP, theta: Array, x: Extended, laplacian: bool) -> list[Array]:
    """N(x) and, where asked for, its Laplacian, [n, c], of a tanh network.

    Straight from the chain rule, independent of ``fedsciml.network.jet``.
    """
    layers, start = [], 0
    for a, b in zip(mlp.widths, mlp.widths[1:], strict=False):
        weight, start = theta[start : start + a * b].reshape(b, a), start + a * b
        layers.append((weight, theta[start : start + b]))
        start += b
    weight, bias = layers[0]
    z = x @ weight.T + bias
    slopes = [np.broadcast_to(column, z.shape) for column in weight.T]
    second = np.zeros_like(z)
    for weight, bias in layers[1:]:
        t = np.tanh(z)
        z = t @ weight.T + bias
        if laplacian:
            f1 = 1 - t * t
            squares = sum(slope * slope for slope in slopes)
            second = (f1 * second - 2 * t * f1 * squares) @ weight.T
            slopes = [(f1 * slope) @ weight.T for slope in slopes]
    return [z, second]


def residual(
    problem: Problem, theta: Array, targets: list[Extended] | None = None
) -> Array:
    """The pooled weighted residual [n] in extended precision; exact targets if None."""
    mlp, d = problem.network, len(problem.coordinates)
    assert isinstance(mlp, MLP)
    assert mlp.activation == "tanh"
    second = tuple((i, i) for i in range(d))
    parts = []
    for rows, target in zip(
        problem.pooled().rows, targets or exact_targets(problem), strict=True
    ):
        x = extended(rows.points)
        laplacian = len(problem.terms) > 1 and rows.term == 0
        channels = dict(
            zip((VALUE, second), network(mlp, theta, x, laplacian), strict=True)
        )

        def read(channel: Channel, known: dict[Channel, Any] = channels) -> Any:  # noqa: ANN401
            return known[channel]

        jet = Jet(read, problem.coordinates, problem.outputs)
        row = Row(x, target, problem.coordinates)  # type: ignore[arg-type]
        part: Any = problem.terms[rows.term].residual(jet, row)
        parts.append(part * np.longdouble(rows.weight))
    return np.concatenate(parts)


def given_targets(problem: Problem) -> list[Extended]:
    """The targets of each term as they are, rounded."""
    targets = [rows.target for rows in problem.pooled().rows]
    return [extended(target) for target in targets if target is not None]


def exact_targets(problem: Problem) -> list[Extended]:
    """The same in extended precision; constants such as pi stay those of the code."""
    exact: Any = problem.exact
    source = getattr(
        import_module(f"fedsciml.problems.{problem.name}"),
        "source",
        lambda x: math.pi**2 * exact(x),  # Poisson's
    )
    functions = [exact] if len(problem.terms) == 1 else [source, exact]
    rows = problem.pooled().rows
    return [f(extended(r.points)) for f, r in zip(functions, rows, strict=True)]

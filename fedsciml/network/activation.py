"""Activations with their derivatives of every order, by name.

Each maps the pre-activation z (any shape) and an order k to the list
``[f(z), f'(z), ..., f^(k)(z)]``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

Activation = Callable[[Tensor, int], list[Tensor]]


@dataclass(frozen=True)
class Autonomous:
    """A function with f' = P(f), so that f^(k) = f' Q_k(f) with polynomials Q_k.

    Args:
        function: Maps z to f(z); takes ``out=``.
        backward: Maps x and f to f' x in one pass; takes ``grad_input=``.
        slope: Coefficients of P, the lowest power first.
    """

    function: Callable[..., Tensor]
    backward: Callable[..., Tensor]
    slope: tuple[float, float, float]

    def __call__(self, z: Tensor, order: int) -> list[Tensor]:
        """``[f(z), f'(z), ..., f^(order)(z)]``."""
        return self.derivatives(self.function(z), order)

    def derivatives(self, f: Tensor, order: int) -> list[Tensor]:
        """The same from f = f(z)."""
        if not order:
            return [f]
        first, curved = _polynomial(f, self.slope), _quotients(order, self.slope)[1:]
        return [f, first, *(_polynomial(f, q).mul_(first) for q in curved)]

    def times(self, x: Tensor, f: Tensor, out: Tensor) -> None:
        """Write f' x into ``out``, which may be x."""
        self.backward(x, f, grad_input=out)

    def bend(self, out: Tensor, base: Tensor, f: Tensor, total: Tensor, k: int) -> None:
        """Write base + Q_k(f) total into ``out``, which may be ``base``."""
        q = _quotients(k, self.slope)[-1]
        if len(q) == 2 and not q[0]:
            torch.addcmul(base, f, total, value=q[1], out=out)
        else:
            torch.addcmul(base, _polynomial(f, q), total, out=out)


tanh = Autonomous(torch.tanh, torch.ops.aten.tanh_backward.grad_input, (1.0, 0.0, -1.0))
"""t = tanh z with t' = 1 - t^2."""

sigmoid = Autonomous(
    torch.sigmoid, torch.ops.aten.sigmoid_backward.grad_input, (0.0, 1.0, -1.0)
)
"""s = 1 / (1 + exp(-z)) with s' = s - s^2."""


def sin(z: Tensor, order: int) -> list[Tensor]:
    """sin z; its derivatives are cos, -sin, -cos, sin."""
    s = torch.sin(z)
    if order == 0:
        return [s]
    c = torch.cos(z)
    cycle = [s, c, -s, -c]
    return [cycle[k % 4] for k in range(order + 1)]


def swish(z: Tensor, order: int) -> list[Tensor]:
    """z s(z) with the sigmoid s, so f^(k) = z s^(k) + k s^(k-1)."""
    s = sigmoid(z, order)
    return [z * s[0]] + [z * s[k] + k * s[k - 1] for k in range(1, order + 1)]


def relu(z: Tensor, order: int) -> list[Tensor]:
    """max(z, 0); its slope is 0 or 1, at the kink 0, and nothing of it is curved.

    A residual with second derivatives does not see the network: use it for regression.
    """
    flat = torch.zeros_like(z)
    return [torch.relu(z), (z > 0).to(z), *[flat] * (order - 1)][: order + 1]


def _polynomial(f: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The sum of c_k f^k, lowest powers first; at least two coefficients."""
    *rest, b, a = coefficients
    if rest and not b:  # two powers in one pass
        value = torch.addcmul(f.new_full((), rest.pop()), f, f, value=a)
    elif b:
        value = torch.add(f.new_full((), b), f, alpha=a)
    else:
        value = f * a
    for coefficient in reversed(rest):
        value = torch.addcmul(f.new_full((), coefficient), value, f)
    return value


@cache
def _quotients(
    order: int, slope: tuple[float, float, float]
) -> tuple[tuple[float, ...], ...]:
    """Q_1 = 1, Q_{k+1} = Q_k' P + Q_k P': coefficients, lowest power first."""
    p = np.polynomial.Polynomial(slope)
    q = np.polynomial.Polynomial([1.0])
    result = []
    for _ in range(order):
        result.append(tuple(float(x) for x in q.coef))
        q = q.deriv() * p + q * p.deriv()
    return tuple(result)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": tanh,
    "sin": sin,
    "sigmoid": sigmoid,
    "swish": swish,
    "relu": relu,
}
"""By their names."""

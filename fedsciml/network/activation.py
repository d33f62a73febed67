"""Activations with their derivatives of every order, by name.

Each maps the pre-activation z (any shape) and an order k to the list
``[f(z), f'(z), ..., f^(k)(z)]``.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

Activation = Callable[[Tensor, int], list[Tensor]]


def tanh(z: Tensor, order: int) -> list[Tensor]:
    """t = tanh z with t' = 1 - t^2."""
    t = torch.tanh(z)
    return _by_own_value(t, order, (1.0, 0.0, -1.0))


def sigmoid(z: Tensor, order: int) -> list[Tensor]:
    """s = 1 / (1 + exp(-z)) with s' = s - s^2."""
    s = torch.sigmoid(z)
    return _by_own_value(s, order, (0.0, 1.0, -1.0))


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


def _by_own_value(
    f: Tensor, order: int, slope: tuple[float, float, float]
) -> list[Tensor]:
    """Derivatives of a function with f' = P(f), as f^(k) = P(f) Q_k(f)."""
    if order == 0:
        return [f]
    a, b, c = slope
    first = torch.addcmul(b * f + a if b else f.new_full((), a), f, f, value=c)
    result = [f, first]
    for q in _quotients(order, slope)[1:]:
        value = torch.full_like(f, q[-1]) if len(q) == 1 else f * q[-1]
        for coefficient in q[-2:0:-1]:
            value = (value.add_(coefficient) if coefficient else value).mul_(f)
        if len(q) > 1 and q[0]:
            value.add_(q[0])
        result.append(value.mul_(first))
    return result


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

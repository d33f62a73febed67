"""Euler-Bernoulli beam u'''' = -1 on (0, 1), clamped at x = 0, free at x = 1.

u(0) = u'(0) = 0, u''(1) = u'''(1) = 0. Exact solution -x^4/24 + x^3/6 - x^2/4.
"""

import deepxde as dde
import numpy as np
from torch import Tensor


def second(x: Tensor, y: Tensor) -> Tensor:
    """u''."""
    return dde.grad.hessian(y, x)


def pde(x: Tensor, y: Tensor) -> Tensor:
    """u'''' + 1."""
    return dde.grad.hessian(second(x, y), x) + 1


def left(x: np.ndarray, on_boundary: bool) -> bool:
    """x = 0."""
    return on_boundary and dde.utils.isclose(x[0], 0)


def right(x: np.ndarray, on_boundary: bool) -> bool:
    """x = 1."""
    return on_boundary and dde.utils.isclose(x[0], 1)


geom = dde.geometry.Interval(0, 1)
bcs = [
    dde.icbc.DirichletBC(geom, lambda x: 0, left),
    dde.icbc.NeumannBC(geom, lambda x: 0, left),
    dde.icbc.OperatorBC(geom, lambda x, y, _: second(x, y), right),
    dde.icbc.OperatorBC(
        geom, lambda x, y, _: dde.grad.jacobian(second(x, y), x), right
    ),
]
data = dde.data.PDE(
    geom,
    pde,
    bcs,
    num_domain=30,
    num_boundary=2,
    solution=lambda x: -(x**4) / 24 + x**3 / 6 - x**2 / 4,
    num_test=100,
)
net = dde.nn.FNN([1, 20, 20, 20, 1], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, metrics=["l2 relative error"])
    model.train(iterations=10000)

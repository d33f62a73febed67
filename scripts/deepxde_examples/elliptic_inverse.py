"""Unknown source q(x) of u'' = q on (-1, 1) from 100 values of u.

u = 0 at both ends. Exact solution u = sin(pi x), q = -pi^2 sin(pi x); one network for u
and one for q.
"""

import deepxde as dde
import numpy as np
from torch import Tensor


def pde(x: Tensor, y: Tensor) -> Tensor:
    """u'' - q."""
    return dde.grad.hessian(y, x, component=0) - y[:, 1:2]


def solution(x: np.ndarray) -> np.ndarray:
    """u, q."""
    u = np.sin(np.pi * x)
    return np.hstack([u, -(np.pi**2) * u])


geom = dde.geometry.Interval(-1, 1)
bc = dde.icbc.DirichletBC(
    geom, lambda x: 0, lambda x, on_boundary: on_boundary, component=0
)
places = np.linspace(-1, 1, 100)[:, None]
observed = dde.icbc.PointSetBC(places, solution(places)[:, 0:1], component=0)
data = dde.data.PDE(
    geom,
    pde,
    [bc, observed],
    num_domain=200,
    num_boundary=2,
    anchors=places,
    solution=solution,
    num_test=1000,
)
net = dde.nn.PFNN([1, [20, 20], [20, 20], [20, 20], 2], "tanh", "Glorot uniform")
loss_weights = [1, 100, 1000]

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, loss_weights=loss_weights)
    model.train(iterations=20000)

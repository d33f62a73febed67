"""Viscous Burgers equation u_t + u u_x = nu u_xx on (-1, 1), t in (0, 1).

nu = 0.01 / pi, u = -sin(pi x) at t = 0, u = 0 at both ends. Solution by the formula of
Cole and Hopf with Gauss-Hermite quadrature.
"""

import deepxde as dde
import numpy as np
from torch import Tensor

nu = 0.01 / np.pi


def pde(x: Tensor, y: Tensor) -> Tensor:
    """u_t + u u_x - nu u_xx."""
    y_x = dde.grad.jacobian(y, x, j=0)
    y_t = dde.grad.jacobian(y, x, j=1)
    return y_t + y * y_x - nu * dde.grad.hessian(y, x, i=0, j=0)


def solution(x: np.ndarray) -> np.ndarray:
    """-E[sin(pi y) w(y)] / E[w(y)], y normal of mean x and variance 2 nu t."""
    z, weight = np.polynomial.hermite.hermgauss(200)
    y = x[:, 0:1] - np.sqrt(4 * nu * x[:, 1:2]) * z
    exponent = -np.cos(np.pi * y) / (2 * np.pi * nu)
    heat = weight * np.exp(exponent - exponent.max(1, keepdims=True))
    total = heat.sum(1, keepdims=True)
    return -(heat * np.sin(np.pi * y)).sum(1, keepdims=True) / total


geom = dde.geometry.Interval(-1, 1)
timedomain = dde.geometry.TimeDomain(0, 0.99)
geomtime = dde.geometry.GeometryXTime(geom, timedomain)
bc = dde.icbc.DirichletBC(geomtime, lambda x: 0, lambda x, on_boundary: on_boundary)
ic = dde.icbc.IC(
    geomtime, lambda x: -np.sin(np.pi * x[:, 0:1]), lambda x, on_initial: on_initial
)
data = dde.data.TimePDE(
    geomtime,
    pde,
    [bc, ic],
    num_domain=2540,
    num_boundary=80,
    num_initial=160,
    solution=solution,
    num_test=2000,
)
net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot normal")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3)
    model.train(iterations=15000)
    model.compile("L-BFGS")
    model.train()

"""Heat equation u_t = 0.4 u_xx on (0, 1), t in (0, 1), u = 0 at both ends.

u = sin(pi x) at t = 0; exact solution exp(-0.4 pi^2 t) sin(pi x).
"""

import deepxde as dde
import numpy as np
from torch import Tensor

alpha = 0.4


def pde(x: Tensor, y: Tensor) -> Tensor:
    """u_t - alpha u_xx."""
    return dde.grad.jacobian(y, x, j=1) - alpha * dde.grad.hessian(y, x, i=0, j=0)


def solution(x: np.ndarray) -> np.ndarray:
    """exp(-alpha pi^2 t) sin(pi x)."""
    return np.exp(-alpha * np.pi**2 * x[:, 1:2]) * np.sin(np.pi * x[:, 0:1])


geom = dde.geometry.Interval(0, 1)
timedomain = dde.geometry.TimeDomain(0, 1)
geomtime = dde.geometry.GeometryXTime(geom, timedomain)
bc = dde.icbc.DirichletBC(geomtime, lambda x: 0, lambda x, on_boundary: on_boundary)
ic = dde.icbc.IC(geomtime, solution, lambda x, on_initial: on_initial)
data = dde.data.TimePDE(
    geomtime,
    pde,
    [bc, ic],
    num_domain=600,
    num_boundary=80,
    num_initial=80,
    solution=solution,
    num_test=1000,
)
net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot normal")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3)
    model.train(iterations=20000)
    model.compile("L-BFGS")
    model.train()

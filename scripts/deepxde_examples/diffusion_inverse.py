"""Unknown diffusivity C in u_t = C u_xx - exp(-t) (1 - pi^2) sin(pi x).

On (-1, 1), t in (0, 1), u = 0 at both ends, u = sin(pi x) at t = 0, from ten values of
u at t = 1. Exact solution exp(-t) sin(pi x) with C = 1.
"""

import deepxde as dde
import numpy as np
import torch
from torch import Tensor

C = dde.Variable(2.0)
truth = {"C": 1.0}


def pde(x: Tensor, y: Tensor) -> Tensor:
    """u_t - C u_xx - f."""
    f = torch.exp(-x[:, 1:2]) * (np.pi**2 - 1) * torch.sin(np.pi * x[:, 0:1])
    y_t = dde.grad.jacobian(y, x, j=1)
    return y_t - C * dde.grad.hessian(y, x, i=0, j=0) - f


def solution(x: np.ndarray) -> np.ndarray:
    """exp(-t) sin(pi x)."""
    return np.exp(-x[:, 1:2]) * np.sin(np.pi * x[:, 0:1])


geom = dde.geometry.Interval(-1, 1)
timedomain = dde.geometry.TimeDomain(0, 1)
geomtime = dde.geometry.GeometryXTime(geom, timedomain)
bc = dde.icbc.DirichletBC(geomtime, solution, lambda x, on_boundary: on_boundary)
ic = dde.icbc.IC(geomtime, solution, lambda x, on_initial: on_initial)
sensors = np.stack([np.linspace(-1, 1, 10), np.ones(10)], axis=1)
observed = dde.icbc.PointSetBC(sensors, solution(sensors))
data = dde.data.TimePDE(
    geomtime,
    pde,
    [bc, ic, observed],
    num_domain=400,
    num_boundary=40,
    num_initial=40,
    anchors=sensors,
    solution=solution,
    num_test=1000,
)
net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot uniform")

if __name__ == "__main__":
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, external_trainable_variables=C)
    model.train(iterations=20000)

"""Bring a DeepXDE model
=====================

A `DeepXDE <https://github.com/lululxvi/deepxde>`_ script (PyTorch backend) stays as it
is. Three lines federate it over four sites and put the trained weights back. The script
looks for the diffusivity C of a rod, u_t = C u_xx, from sensors.
"""

# %%
# The script
# ----------
#
# As a user of DeepXDE writes it: geometry, equation, conditions, data, network.

import deepxde as dde
import numpy as np

dde.config.set_default_float("float64")
dde.config.set_random_seed(0)
C = dde.Variable(2.0)  # in truth 1


def pde(x, y):
    return dde.grad.jacobian(y, x, j=1) - C * dde.grad.hessian(y, x)


def solution(x):
    return np.exp(-x[:, 1:]) * np.sin(x[:, :1])


rod = dde.geometry.Interval(0, np.pi)
domain = dde.geometry.GeometryXTime(rod, dde.geometry.TimeDomain(0, 1))
ends = dde.icbc.DirichletBC(domain, solution, lambda x, on_boundary: on_boundary)
start = dde.icbc.IC(domain, solution, lambda x, on_initial: on_initial)
places = domain.random_points(20)
sensors = dde.icbc.PointSetBC(places, solution(places))
data = dde.data.TimePDE(
    domain, pde, [ends, start, sensors], 200, 40, 20, solution=solution
)
net = dde.nn.FNN([2, 20, 20, 1], "tanh", "Glorot normal")

# %%
# Three lines
# -----------
#
# ``problem`` divides the points among four clients, strips along x. ``restore`` puts
# weights and C back, as if DeepXDE had trained them.

from fedsciml import deepxde as federated
from fedsciml import methods, plot, run

problem = federated.problem(data, net, external_trainable_variables=C, clients=4)
result = run(problem, methods.load("fipa"), rounds=80)
federated.restore(net, result, C)

print(result)
print(f"relative L2 error {result.errors()[0]:.1e} with C = {C.item():.8f}")
assert result.errors()[0] < 1e-6
assert abs(C.item() - 1) < 1e-6

# %%
plot.save(plot.solution(problem, result.theta), "rod.png")

# %%
# The weights are in ``net``: DeepXDE's own functions work on it.

import torch

x = domain.random_points(5)
with torch.no_grad():
    values = net(torch.as_tensor(x)).numpy()
print(np.hstack([x, values, solution(x)]))
assert np.abs(values - solution(x)).max() < 1e-6

# %%
# What a pde or condition may be, and how the same script fares with DeepXDE's own
# optimisers, is in :doc:`../../deepxde`.

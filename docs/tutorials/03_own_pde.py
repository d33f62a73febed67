"""My own PDE
==========

Viscous Burgers, u_t + u u_x = nu u_xx on x in (-1, 1), t in (0, 1), from the equation
to a checked solution: residuals, points, boundary and initial values, three clients of
unequal size, and a reference that was computed in another way.
"""

# %%
# The equation
# ------------
#
# A residual reads like the equation. ``u.value`` is u itself; derivatives are ``u.t``,
# ``u.x``, ``u.xx``, ... of any order, and ``u.laplacian``. With several outputs,
# ``outputs=("u", "v", "p")``, pick one first: ``w.p.x``. For several equations return a
# tuple.

import math

import torch

from fedsciml import MLP, Problem, Term, methods, plot, run
from fedsciml.collocation import face, in_box, on_faces, strips, uniform

nu = 0.1


def burgers(u, row):
    return u.t + u.value * u.x - nu * u.xx


def given(u, row):
    return u.value - row.target


# %%
# Points
# ------
#
# Points are tensors [n, d]. A box has a lower and an upper corner, and faces: (axis,
# side) = (0, 0) is x = -1, (0, 1) is x = 1, and (1, 0) is t = 0. DeepXDE's geometries
# serve as well, by ``collocation.interior``, ``boundary`` and ``initial``.
#
# ``sample`` says where a term holds, whoever owns the points. With it clients send a
# tenth of the bytes or less, points can be drawn again, and a run tells of the loss
# between its points.

lower, upper = [-1.0, 0.0], [1.0, 1.0]
generator = torch.Generator().manual_seed(0)
inside = uniform(400, lower, upper, generator)
walls = torch.cat([face(30, lower, upper, 0, side, generator) for side in (0, 1)])
begin = face(60, lower, upper, 1, 0, generator)


def at_start(points):
    return -torch.sin(math.pi * points[:, 0])


# %%
# The problem
# -----------
#
# A term is a residual at some points, with a weight; the loss is half the sum of weight
# times mean square. The network is made for coordinates and values of about 1. The
# partition says who owns which points: three strips of unequal width.

problem = Problem(
    name="burgers",
    coordinates="xt",
    network=MLP((2, 16, 16, 1)),
    terms=[
        Term("pde", burgers, inside, sample=in_box(lower, upper)),
        Term(
            "walls",
            given,
            walls,
            target=0.0,
            weight=10.0,
            sample=on_faces(lower, upper, [(0, 0), (0, 1)]),
        ),
        Term(
            "start",
            given,
            begin,
            target=at_start,
            weight=10.0,
            sample=on_faces(lower, upper, [(1, 0)]),
        ),
    ],
    partition=strips([-1, -0.2, 0.3, 1]),
    domain=(lower, upper),
)
plot.save(plot.partition(problem), "partition.png")

# %%
# Training
# --------

result = run(problem, methods.load("fipa"), rounds=60)
print(result)
plot.save(plot.solution(problem, result.theta), "burgers.png")

# %%
# Is it right?
# ------------
#
# A small loss is not a small error. The Cole-Hopf formula gives the solution as a ratio
# of two integrals over z, which Gauss-Hermite quadrature computes to many digits,
# without any network::
#
#     u = -∫ sin(pi y) f(y) exp(-z²) dz  /  ∫ f(y) exp(-z²) dz
#
#     with  y = x - 2 sqrt(nu t) z,  f(y) = exp(-cos(pi y) / (2 pi nu))

import numpy as np


def cole_hopf(points):
    z, w = np.polynomial.hermite.hermgauss(100)
    x, t = points.numpy().T[:, :, None]
    y = x - 2 * np.sqrt(nu * t) * z
    f = w * np.exp(-np.cos(np.pi * y) / (2 * np.pi * nu))
    return torch.from_numpy(-(np.sin(np.pi * y) * f).sum(1) / f.sum(1))


test = uniform(1000, lower, upper, generator)
exact = cole_hopf(test)
error = (result.solution(test).value - exact).norm() / exact.norm()
print(f"relative L2 error {error:.1e}")
assert error < 1e-3

# %%
# Without a reference, look at the loss at fresh points, which were not trained on. Here
# it is much larger than the loss, and its root is about as large as the error:

print(f"loss {result.loss:.1e}, at fresh points {result.held_out:.1e}")
assert result.held_out < 1e-3

# %%
# More points and a wider network bring more digits. :doc:`../../equations` has what
# else a problem can have: unknown numbers, periodic conditions, hard constraints,
# units.

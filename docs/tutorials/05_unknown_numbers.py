"""Unknown numbers with uncertainty
================================

Four sites measure the temperature of a rod, u_t = nu u_xx, and nobody knows the
diffusivity nu. It is trained with the network, from all sites' data, and comes with a
standard deviation. At the end the data of one site alone: they do not determine it.
"""

# %%
# The problem
# -----------
#
# The measurements err by 1 % of the root mean square of u. The rod is cold at both ends
# (a hard constraint, built into the network: u = x (1 - x) N), and its first state is
# not known. In truth nu = 0.1 m\ :sup:`2`/s.

from math import pi

import torch

from fedsciml import MLP, Parallel, Problem, Term, laplace, methods, run
from fedsciml.collocation import equal, in_box, strips, uniform

lower, upper = [0.0, 0.0], [1.0, 1.0]
generator = torch.Generator().manual_seed(0)


def truth(points):
    x, t = points[:, 0], points[:, 1]
    return torch.exp(-0.1 * pi**2 * t) * torch.sin(pi * x)


places = uniform(200, lower, upper, generator)
exact = truth(places)
size = 0.01 * exact.square().mean().sqrt()
readings = exact + size * torch.randn(200, generator=generator, dtype=torch.float64)

# %%
# An unknown number has a name and a start. The residual reads it as ``u.nu``.


def heat(u, row):
    return u.t - u.nu * u.xx


def measured(u, row):
    return u.value - row.target


network = MLP((2, 20, 20, 1), distance=lambda p: p[:, 0] * (1 - p[:, 0]))
sample = in_box(lower, upper)
problem = Problem(
    name="rod",
    coordinates="xt",
    network=Parallel([network], unknowns={"nu": 1.0}),
    terms=[
        Term("heat", heat, uniform(400, lower, upper, generator), sample=sample),
        Term("sensors", measured, places, readings, sample=sample),
    ],
    partition=strips(equal(0.0, 1.0, 4)),
    truth={"nu": 0.1},
)
result = run(problem, methods.load("fipa"), rounds=60)
print(result.unknowns())

# %%
# How sure?
# ---------
#
# Only the measurements err; the equation holds. From the Jacobian at the end follows
# how an error of the measurements moves nu.

known = laplace(result.problem, result.theta, data="sensors")
nu, deviation = known.mean["nu"], known.deviation["nu"]
print(f"nu = {nu:.5f} +- {deviation:.5f}; a sensor errs by {known.sigma:.4f}")
assert abs(nu - 0.1) < 3 * deviation
assert deviation < 1e-3
assert abs(known.sigma / size - 1) < 0.15  # 200 readings tell it to 5 %

# %%
# The number by rounds, with the deviation of the end:

from matplotlib.figure import Figure

from fedsciml.plot import save

figure = Figure(figsize=(5, 2.6), layout="constrained")
axes = figure.subplots()
relative = [line.errors["nu"] for line in result.history]
axes.semilogy(range(1, len(relative) + 1), relative, color="black")
axes.axhline(deviation / 0.1, color="tab:blue", linestyle="--")
axes.text(60, deviation / 0.1, "standard deviation", ha="right", va="bottom")
axes.set_xlabel("round")
axes.set_ylabel("relative error of nu")
save(figure, "nu.png")

# %%
# What the data do not tell
# -------------------------
#
# Two measurements leave nu open: the network can make up for any value. The run says so
# instead of giving a number that means nothing.

from fedsciml import problems

few = problems.load("heat_inverse", clients=1, measurements=2, points=50)
guess = run(few, methods.load("fipa"), rounds=20)
print(guess.unknowns(), "not determined, mixed with", guess.undetermined())
assert "nu" in guess.undetermined()

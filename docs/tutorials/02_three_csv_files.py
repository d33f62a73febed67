"""From three CSV files to a plot
==============================

Three sites have measured the temperature of the same rod, each in its own third, and
each has a CSV file. The temperature obeys the heat equation. One network is trained on
all three files, which stay apart; at the end there is a picture of the whole rod.
"""

# %%
# The files
# ---------
#
# A file has a line of column names and a row for each measurement: place x in m, time t
# in s, temperature u in K. To have some, this part writes three. In truth the rod cools
# as u = exp(-0.1 pi\ :sup:`2` t) sin(pi x), and the sensors err by 0.01 K.

import csv
import tempfile
from math import pi
from pathlib import Path

import torch

folder = Path(tempfile.mkdtemp())
generator = torch.Generator().manual_seed(0)


def truth(points):
    x, t = points[:, 0], points[:, 1]
    return torch.exp(-0.1 * pi**2 * t) * torch.sin(pi * x)


for site in range(3):
    places = torch.rand(60, 2, generator=generator, dtype=torch.float64)
    places[:, 0] = (site + places[:, 0]) / 3  # the site's third of the rod
    noise = 0.01 * torch.randn(60, generator=generator, dtype=torch.float64)
    with (folder / f"site{site}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "t", "u"])
        rows = torch.column_stack([places, truth(places) + noise])
        writer.writerows([[f"{value:.6f}" for value in row] for row in rows.tolist()])

print(*(folder / "site0.csv").read_text().splitlines()[:4], sep="\n")

# %%
# Reading them
# ------------
#
# ``load_points`` takes a folder with a file per client, or a list of files, the columns
# that are coordinates, and those that are measured. Semicolons, decimal commas and
# words for missing values can be told; a cell that is no number is named with its file,
# row and column.

from fedsciml import load_points

points, target = load_points(folder, coordinates=["x", "t"], targets=["u"])
print([len(p) for p in points], "measurements at the three sites")

# %%
# The problem
# -----------
#
# Two terms: the equation, at points that anybody may know, and the measurements. A
# residual is a function of the solution ``u``, which has its derivatives as attributes,
# and of the ``row``, which has coordinates and target; it should vanish.

from fedsciml import MLP, Problem, Term
from fedsciml.collocation import in_box, strips, uniform


def heat(u, row):
    """u_t - 0.1 u_xx, in K/s."""
    return u.t - 0.1 * u.xx


def measured(u, row):
    """u - target, in K."""
    return u.value - row.target


def cold(u, row):
    """u at the ends, in K."""
    return u.value


lower, upper = [0.0, 0.0], [1.0, 1.0]
inside = uniform(300, lower, upper, generator)
ends = uniform(60, lower, upper, generator)
ends[:, 0] = ends[:, 0].round()  # x = 0 or 1
problem = Problem(
    name="rod",
    coordinates="xt",
    network=MLP((2, 16, 16, 1)),
    terms=[
        Term("heat", heat, inside, sample=in_box(lower, upper)),
        Term("ends", cold, ends),
        Term("sensors", measured, points, target),
    ],
    partition=strips([0, 1 / 3, 2 / 3, 1]),  # who owns the points of the equation
    exact=truth,  # only to measure the error; leave it out if nobody knows
    test_points=uniform(1000, lower, upper, generator),
)

# %%
# The plot
# --------

from fedsciml import methods, plot, run

result = run(problem, methods.load("fipa"), rounds=40)
print(result)
plot.save(plot.solution(problem, result.theta), "rod.png")

# %%
# The measurements err by 0.01 K and the network by less, because the equation ties them
# together. The sum of squares at the sensors tells of their errors:

error = result.solution(problem.test_points).value - problem.reference[:, 0]
left = [result.solution(p).value - u for p, u in zip(points, target, strict=True)]
spread = torch.cat(left).square().mean().sqrt().item()
rms = error.square().mean().sqrt().item()
print(f"error of the solution {rms:.4f} K, of the sensors {spread:.4f} K")
assert rms < 0.005
assert 0.008 < spread < 0.012

# %%
# With files of your own start here; or by ``fedsciml new problem rod``, which writes
# ``rod.py`` with a function ``make``. As the problem ``heat_inverse`` it may take
# ``data``, and is then run by ``fedsciml run rod.py --set data=sites``, also across
# real sites: :doc:`../../command`, :doc:`../../deploy`.

"""My first federation
===================

Two parties share an equation and one network, but not their points. This tutorial
trains them together, looks at the result, and compares it with two other ways:
averaging the weights (FedAvg), and pooling all points in one place.
"""

# %%
# A problem
# ---------
#
# The equation is Allen-Cahn's, -u'' + u\ :sup:`3` - u = f on (0, 1), with u = 0 at both
# ends. It is one of the problems that come with the package: ``fedsciml problems``
# lists them all. A *client* is a party with points of its own. Here client 0 has the
# left half of the interval and client 1 the right half.

from fedsciml import methods, plot, problems, run

problem = problems.load("allen_cahn", clients=2)
for shard in problem.shards():
    print(f"client {shard.client} holds {shard.points} points")

# %%
# Training
# --------
#
# A *method* says what the clients send and what the server makes of it. FIPA is the
# method of this package: each client sends a small least-squares problem, and the
# server solves their sum. A *round* is one such exchange. The points stay where they
# are.

result = run(problem, methods.load("fipa"), rounds=30, seed=0)
print(result)

# %%
# The lines above say where the run stands, and whether more rounds would help. The
# exact solution of this problem is known, so the error of the trained one is, too: ten
# digits and more are right.

relative_l2, mean_squared = result.errors()
print(f"relative L2 error {relative_l2:.1e}")
assert relative_l2 < 1e-10

# %%
# The result is a function with all of its derivatives.

import torch

u = result.solution(torch.linspace(0, 1, 5)[:, None])
print("u   ", u.value)
print("u_xx", u.xx)

# %%
# The picture has the trained solution over the reference, and the absolute error below.
# The background shows who owns which part.

plot.save(plot.solution(problem, result.theta), "solution.png")

# %%
# Two other ways
# --------------
#
# FedAvg: each client trains its copy of the network with Adam, 20 passes a round, and
# the server takes the mean of the weights. Gauss-Newton: all points in one place, which
# a federation wants to do without.

averaged = run(problem, methods.load("fedavg", tau=20, learning_rate=3e-3), rounds=30)
pooled = run(problem, methods.load("gauss_newton"), rounds=30)

histories = {
    "FIPA": result.history,
    "FedAvg": averaged.history,
    "Gauss-Newton, pooled": pooled.history,
}
for name, history in histories.items():
    last = history[-1]
    print(f"{name:22} error {last.relative_l2:.1e}, {last.sent / 1e6:.1f} MB sent")

plot.save(plot.convergence(histories), "convergence.png")

# %%
# FIPA ends where Gauss-Newton on the pooled points ends. Averaging is far behind after
# as many rounds and more bytes: each half pulls the weights in its own direction, and
# however long it goes on, it stops at one or two digits (:doc:`../../results`).

assert averaged.errors()[0] > 1e-2
assert pooled.errors()[0] < 1e-10

# %%
# From here: an equation of your own is the next tutorial but one. ``run(..., out=DIR)``
# keeps a run, with a report to look at (:doc:`../../records`), and ``result.save`` the
# model (:doc:`../../saved`). The same from the shell: ``fedsciml run allen_cahn``.

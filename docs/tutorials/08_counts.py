"""
Counts at six sites
===================

The RAND Health Insurance Experiment gave families insurance plans by lot, at six sites.
How often does a person see a doctor in a year? This tutorial fits a Poisson regression
on all six sites, under secure sums, to coefficients and standard errors that are those
of the pooled rows to eight digits. No site sends a row, and the server learns only what
the six have together. The data come with statsmodels: ``pip install 'fedsciml[data]'``.
"""

# %%
# Six sites
# ---------
#
# Each row is a person and a year: the number of visits, and nine covariates, such as
# the logarithm of the coinsurance and the state of health. Each site is a client.

from fedsciml import problems

problem = problems.load("randhie", test=False)  # all rows, as published tables have it
for shard in problem.shards():
    print(f"site {shard.client} has {shard.points} rows")
print(", ".join(problem.coordinates))

# %%
# What the problem is
# -------------------
#
# The count has the mean exp(z); z is linear in the covariates: a network without hidden
# layers, ``MLP((9, 1))``. The term's residual returns z, its target is the count, and
# its likelihood says what a row's loss is: half its deviance. Counts over unlike times
# have targets [n, 2], count and exposure. ``sample`` draws covariates that could be
# someone's: by them sites agree on a basis for their sums. In words::
#
#     def log_mean(u, row):
#         return u.value
#
#     visits = Term("visits", log_mean, covariates, target=counts,
#                   sample=in_box(lower, upper), likelihood=Poisson())
#
# ``problems/randhie.py`` has all of it.

# %%
# Training under masks
# --------------------
#
# With ``secure=True`` sites mask their numbers, and the masks cancel in the sum over
# all six, as the tutorial on private sums shows. It needs the extra ``secure``. FIPA's
# step is that of Fisher scoring on the pooled rows, and converges as that does: in the
# last rounds the digits double.

from fedsciml import run, wrappers

result = run(problem, wrappers.load("fipa", secure=True), rounds=10)
for line in result.history:
    print(f"round {line.round:2}: loss {line.loss:.15f}, {line.sent / 1e3:.0f} kB sent")
print(result.outcome)
assert result.outcome.state == "converged"
assert not result.warnings

# %%
# Coefficients
# ------------
#
# Standard errors are from the expected information of all rows. That is the sum of the
# sites' gramians, which the server is told in every round; here it is computed again.

from fedsciml.analysis import coefficients

found = coefficients(problem, result.theta)
for name, (value, error) in found.items():
    print(f"{name:10} {value:9.5f} +- {error:.5f}")

# %%
# The same on the pooled rows
# ---------------------------
#
# statsmodels has all rows in one place, and another program. ``disea``, the number of
# chronic diseases, is in tens here and one by one there.

import numpy as np
import statsmodels.api as sm
import torch

rows = problem.pooled().rows[0]
pooled = sm.GLM(
    rows.target.numpy(),
    sm.add_constant(rows.points.numpy(), prepend=False),
    family=sm.families.Poisson(),
).fit(tol=1e-12)
ours = torch.tensor(list(found.values()), dtype=torch.float64)
theirs = torch.from_numpy(np.stack([pooled.params, pooled.bse], 1))
print("largest difference:", float((ours - theirs).abs().max()))
assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10)

# %%
# What averaging gives
# --------------------
#
# Six sites could fit each by itself, and send coefficients to be averaged. That is no
# fit of all rows: some coefficients are off by many standard errors.

from fedsciml import methods

weight = torch.tensor([shard.share for shard in problem.shards()])
alone = [
    run(problem.alone(m), methods.load("gauss_newton"), rounds=12).theta
    for m in range(problem.clients)
]
mean = (weight[:, None] * torch.stack(alone)).sum(0)
off = (mean - ours[:, 0]).abs() / ours[:, 1]
worst = [*problem.coordinates, "intercept"][int(off.argmax())]
print(f"off by up to {float(off.max()):.1f} standard errors, in {worst}")
assert off.max() > 1

# %%
# In units of the standard error, beside FIPA's:

from fedsciml import plot

names = [*problem.coordinates, "intercept"]
places = list(range(len(names)))
fits = {"FIPA on six sites": ours[:, 0], "mean of six fits": mean}
curves = [
    plot.Curve(
        *(name, ((fit - theirs[:, 0]) / theirs[:, 1]).tolist(), places),
        *(k, None, k + 1),
        size=6,
    )
    for k, (name, fit) in enumerate(fits.items())
]
panel = plot.Panel(
    "",
    "standard errors from the fit of the pooled rows",
    "",
    curves,
    *("linear", "linear"),
    ylim=(len(names) - 0.5, -0.5),
    yticks=dict(zip(places, names, strict=True)),
)
plot.save(plot.panels([panel], 1, width=4.4, height=3.2), "coefficients.png")

# %%
# Visits of one person in several years are alike, and vary more than a Poisson
# distribution has it, so these standard errors are too small, pooled or not: that is a
# question to the model. :doc:`../../likelihoods` has the other likelihoods.

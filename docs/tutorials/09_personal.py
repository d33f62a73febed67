"""
Sites that differ
=================

Twelve sites each watch an oscillator of their own: all are damped oscillators, no two
are alike. One model for all of them fits none; a model at each site alone has too few
points. This tutorial trains what the sites have in common together, and lets each keep
a few parameters of its own, which no message holds.
"""

# %%
# Twelve oscillators
# ------------------
#
# Each is let go at t = 0 and measured at 12 times, with errors of 0.01. Its solution
# is exp(-gamma t) cos(omega t), with gamma and omega of its own. Nobody knows the
# formula, nor that there is one.

from dataclasses import replace

import torch

from fedsciml import MLP, Problem, Term, lora, methods, plot, run
from fedsciml.collocation import explicit, in_box

SITES, BOX = 12, ([0.0], [2.0])
generator = torch.Generator().manual_seed(0)


def drawn(n, low, high):
    return low + (high - low) * torch.rand(n, generator=generator).double()


def oscillation(gamma, omega):
    return lambda t: torch.exp(-gamma * t[:, 0]) * torch.cos(omega * t[:, 0])


def measured(truth, n):
    times = drawn(n, 0, 2)[:, None]
    return times, truth(times) + 0.01 * torch.randn(n, generator=generator).double()


pairs = torch.stack([drawn(SITES, 0.2, 1.0), drawn(SITES, 3.0, 8.0)], 1).tolist()
truths = [oscillation(*pair) for pair in pairs]
data = [measured(truth, 12) for truth in truths]

# %%
# What is shared, what is each site's own
# ---------------------------------------
#
# Low-rank factors B diag(m) A are added to each weight matrix; the magnitudes m are
# each site's own, four numbers, and all else is shared. With ``Personal(network,
# "classifier")`` the last layer would be a site's own, and with ``Parallel(...,
# personal={"offset": 0.0})`` a number that a residual reads as ``u.offset``. So few
# points do not tell 603 + 12 x 4 parameters: there is a prior of the shared ones, and
# one of each site's own.


def reading(u, row):
    return u.value - row.target


def family(network, prior=0.0):
    times, values = zip(*data, strict=True)
    return Problem(
        "family",
        network,
        [Term("data", reading, times, values, sample=in_box(*BOX))],
        explicit(SITES),
        coordinates="t",
        prior=5e-6,
        personal_prior=prior,
    )


base = MLP((1, 20, 20, 1), inputs=BOX)
network = lora(base, 2, base="trained", personal="magnitudes", zero="magnitudes")
problem = family(network, prior=1e-5)
print(problem.personal.described())

# %%
# Together
# --------
#
# FIPA as ever. A site takes its own parameters out of its least-squares problem before
# it sends a sketch of it, and finds their step when it is told the shared one: both
# together are the Gauss-Newton step of all parameters of all sites. What is sent is as
# long as the shared part.

# With parameters of each client's own the default policy is greedy. Where little is
# personal, natural does as well, and here better.
result = run(problem, methods.load("fipa", policy="natural"), rounds=30)
print(result)
print("site 3 has", result.personal[3])

# %%
# One model for all, and one at each site
# ---------------------------------------
#
# The same network without parameters of the sites' own, and each site by itself. A site
# that is alone has the prior of the shared parameters, in the same proportion to its
# loss: of six that were tried the best.

shared = family(base)
one = run(shared, methods.load("fipa"), rounds=30)
alone = []
for m in range(SITES):
    of_site = replace(shared.alone(m), prior=shared.prior / SITES)
    alone.append(run(of_site, methods.load("gauss_newton"), rounds=30))

# %%
# How far each is from the truth, everywhere in time:

x = torch.linspace(0, 2, 201).double()[:, None]


def error(values, truth):
    return float((values - truth(x)).norm() / truth(x).norm())


fits = {
    "shared, with parameters of each site's own": [
        result.solution(x, client=m).value for m in range(SITES)
    ],
    "one model for all": [one.solution(x).value] * SITES,
    "a model at each site": [of_site.solution(x).value for of_site in alone],
}
errors = {
    name: torch.tensor([error(u, f) for u, f in zip(of, truths, strict=True)])
    for name, of in fits.items()
}
for name, of in errors.items():
    print(f"{name}: mean error {of.mean():.2f}, largest {of.max():.2f}")
ours, common, local = (float(of.mean()) for of in errors.values())
assert ours < 0.15
assert ours < 0.6 * local < local < common

# %%
# Six of the twelve sites. Most do nearly as well alone, but not those whose points
# leave a gap.


def line(label, values, colour, dash=0, width=1.2):
    return plot.Curve(
        label, x[:, 0].tolist(), values.tolist(), colour, dash, width=width
    )


panels = []
for m in range(1, SITES, 2):
    times, values = data[m]
    curves = [line("truth", truths[m](x), 6, width=4)]
    for k, (name, of) in enumerate(fits.items()):
        curves.append(line(name, of[m], k, k))
    points = plot.Curve(
        *("measured", times[:, 0].tolist(), values.tolist(), 7, None, 0), size=8
    )
    panels.append(
        plot.Panel(
            f"site {m}",
            "t",
            "",
            [*curves, points],
            "linear",
            "linear",
            ylim=(-1.5, 1.5),
        )
    )
plot.save(plot.panels(panels, 3, legend="below", height=1.9), "sites.png")

# %%
# A new site with six points
# --------------------------
#
# A site that was not there fits its four parameters to its own points and leaves the
# shared ones as they are. Nothing is sent, but the model to the site.

from fedsciml import personalise

found = []
for gamma, omega in [(0.3, 4.0), (0.5, 6.0), (0.6, 5.0), (0.8, 7.0)]:
    truth = oscillation(gamma, omega)
    few = measured(truth, 6)
    mine = personalise(problem, result, {"data": few})
    by_itself = replace(mine.problem, network=base, prior=5e-6 / SITES)
    by_itself = replace(by_itself, personal_prior=0.0)
    lone = run(by_itself, methods.load("gauss_newton"), rounds=30)
    found.append([error(fit.solution(x).value, truth) for fit in (mine, lone)])
    print("errors: personalised {:.2f}, alone {:.2f}".format(*found[-1]))
ours, lone = torch.tensor(found).median(0).values
assert ours < lone

# %%
# Numbers of a site's own
# -----------------------
#
# Where the equation u'' + 2 gamma u' + (gamma^2 + omega^2) u = 0 is known, its numbers
# can be asked for: ``personal={...}`` gives their names and where they start. The
# network has waves that all sites share, and a last layer of each site's own.

from fedsciml import Parallel, Personal

FEW, SQUARE = 6, 30.0  # of the sites; about omega^2, which makes the rows as large as u


def oscillator(u, row):
    square = u.gamma**2 + u.omega**2
    return (u.tt + 2 * u.gamma * u.t + square * u.value) / SQUARE


def start(u, row):
    return u.value - 1, (u.t + u.gamma) / SQUARE**0.5


def at_start(n, generator):
    return torch.zeros(n, 1).double()


def fast(t):
    return 8 * torch.cat([t - 1, torch.ones_like(t)], 1)


waves = MLP((2, 30, 1), activation="sin", features=fast)
times, values = zip(*data[:FEW], strict=True)
anywhere = in_box(*BOX)
known = Problem(
    "oscillators",
    Parallel([Personal(waves, "classifier")], personal={"gamma": 0.6, "omega": 5.5}),
    [
        Term("data", reading, times, values, sample=anywhere),
        Term(
            "equation",
            oscillator,
            [drawn(30, 0, 2)[:, None] for _ in range(FEW)],
            sample=anywhere,
        ),
        Term("start", start, [at_start(1, None)] * FEW, sample=at_start),
    ],
    explicit(FEW),
    coordinates="t",
)
result = run(known, methods.load("fipa"), rounds=30)

# %%
# How surely are they known? ``deviations`` tells it of all sites' rows together, in one
# process. A site by itself can tell what its own rows say where the shared parameters
# are taken for known: ``personalise(...).deviations("data")``.

from fedsciml.analysis import deviations

sure = deviations(known, result.theta, result.personal, "data")
off = []
for m, true in enumerate(pairs[:FEW]):
    numbers = result.unknowns(m)
    for (name, value), right in zip(numbers.items(), true, strict=True):
        s = sure.numbers[m][name]
        off.append(abs(value - right) / s)
        print(f"site {m}: {name} = {value:.3f} +- {s:.3f}, true {right:.3f}")
print(f"off by at most {max(off):.1f} standard deviations")
assert max(off) < 4

# %%
# A site knows the equation, too, so that one alone finds its numbers about as well:
# the others help where the data alone do not tell, as above, or where something in the
# equation is unknown to all, as the source of the problem ``materials``.
# :doc:`../../personal` tells when to take which, and what stays at a site.

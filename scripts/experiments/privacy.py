"""Differential privacy: the digits that are left, and an attack that audits it.

FIPA by noisy sums, with the options that --dp takes, against the epsilon of the whole
run at delta 1e-5, and the same without noise: a regression with 1e4 and 1e5 points,
real elevations, and an inverse problem whose sensors have 1 % noise. Half an hour of
one core. Starts differ by two orders of magnitude at epsilon 1: ten of them where a
run takes three seconds, and three, which are few, elsewhere.

``privacy_audit`` plays runs with and without a *canary*, a point that weighs as much as
a point may. An attacker knows all other data, the canary and every message, and guesses
by the likelihood ratio, which no attack beats. What the guesses show of epsilon must
lie below what the run states; with too little noise it must not. Three minutes.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt
from statistics import median

import torch
from scipy.stats import beta, norm
from torch import Tensor

from experiments._drawing import Drawing, chosen, error_axis
from experiments._experiment import Experiment
from experiments._noise import Trusted, noisy
from experiments._record import Entry, grouped, select, short
from experiments._runs import root, spread
from experiments._table import Cell, Table
from experiments._words import title
from fedsciml import analysis, plot, problems, run
from fedsciml.methods import Record, conclude, generator
from fedsciml.methods._privacy import Privacy
from fedsciml.methods._private import Private
from fedsciml.plot import Curve, Panel
from fedsciml.policies.hindsight import Hindsight
from fedsciml.problem import Problem
from fedsciml.residual import System

PAGE = "docs/privacy.md"
DELTA = 1e-5
SETTINGS: dict[str, dict[str, object]] = {
    "sine4, 1e4 points": {"points": 6.25},
    "sine4, 1e5 points": {"points": 62.5},
    "terrain, 3e4 points": {"measurements": 30_000},
    "heat_inverse, 2e4 points": {
        "measurements": 10_000,
        "points": 10_000,
        "noise": 0.01,
    },
}
FLOORS = {"terrain, 3e4 points": 1e-2}
"""Of the damping, where the default takes 600 directions, which noise does not pay."""

FEW: list[float | None] = [1.0, 3.0, 10.0, None]
MANY: list[float | None] = [0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, None]
EPSILONS = {"sine4, 1e4 points": MANY, "heat_inverse, 2e4 points": MANY[2:]}
STARTS = {"sine4, 1e4 points": 10}
USUAL_STARTS = 3
"""Of the other settings."""

TRIALS = 1000
CONFIDENCE = 0.95
AUDITED = Privacy(3.0, DELTA, clip=0.5, releases=5, gramian=0.3)
"""Bounds that the canary reaches, and all three parts of a release."""


def method(privacy: Privacy, floor: float = Hindsight.floor) -> Private:
    """FIPA by noisy sums."""
    return Private(policy=Hindsight(floor=floor), upload="sums", privacy=privacy)


def measure(setting: str, epsilon: float | None, seed: int) -> Entry:
    """One run; without an epsilon, without noise but within the same bounds."""
    made = problems.load(setting.partition(",")[0], **SETTINGS[setting])
    quantity, privacy = analysis.quantity(made), Privacy(epsilon or 3.0, DELTA)
    private = method(privacy, FLOORS.get(setting, Hindsight.floor))
    noise = Trusted(private, seed, 0.0 if epsilon is None else 1.0)
    found = run(
        made, noise, privacy.releases, seed, clock=time.process_time, progress=False
    )
    return {
        "quantity": quantity,
        "points": sum(len(rows.points) for rows in made.pooled().rows),
        "clients": made.clients,
        "parameters": made.network.size,
        "releases": privacy.releases,
        "error": [short(root(line, quantity)) for line in found.history],
        "directions": [line.basis for line in found.history],
        "unknowns": {k: short(v) for k, v in found.unknowns().items()},
        "seconds": short(found.history[-1].seconds),
    }


def table(entries: Sequence[Entry]) -> Table:
    """A row per problem and epsilon; medians and quartiles over the starts."""
    heads = ["problem", "points", "epsilon", "starts", "error [quartiles]"]
    heads += ["best", "worst", "directions"]
    rows: list[list[Cell]] = []
    for setting in SETTINGS:
        for epsilon in MANY:
            mine = select(entries, setting=setting, epsilon=epsilon)
            if not mine:
                continue
            ends = [e["error"][-1] for e in mine]
            word = "no noise" if epsilon is None else f"{epsilon:g}"
            row: list[Cell] = [setting.partition(",")[0], mine[0]["points"], word]
            row += [len(ends), spread(ends), min(ends), max(ends)]
            rows.append([*row, f"{median(e['directions'][-1] for e in mine):.0f}"])
    caption = (
        f"Error after {entries[0]['releases']} rounds, by the epsilon of the whole run "
        f"at delta {DELTA:g}."
    )
    return Table("privacy", caption, heads, rows, PAGE)


def by_epsilon(entries: Sequence[Entry]) -> plot.Figure:
    """Error against epsilon, and without noise as a line."""
    parts = []
    known = grouped(chosen(entries), "setting")
    for setting in filter(known.__contains__, SETTINGS):
        runs = known[setting]
        curves, ends = [], dict[float | None, list[float]]()
        for entry in runs:
            ends.setdefault(entry["epsilon"], []).append(entry["error"][-1])
        x = sorted(e for e in ends if e is not None)
        low, middle, high = ([f(ends[e]) for e in x] for f in (min, median, max))
        label = "with noise: median, worst and best start"
        curves = [Curve(label, x, middle, 0, 0, 1, band=(low, high))]
        if None in ends:
            plain = median(ends[None])
            curves.append(Curve("without noise", [x[0], x[-1]], [plain] * 2, 7, 1))
        name, points = setting.split(", ", 1)
        words = f"{title(name)}, {points}, {len(ends[x[0]])} starts"
        parts.append(
            Panel(words, r"$\epsilon$ of the whole run", error_axis(runs), curves)
        )
    return plot.panels(parts, 2, height=2.0, legend="below")


def audit(factor: float, seed: int) -> Entry:
    """Runs with and without the canary, at a factor of the noise that is due."""
    problem = problems.load("sine2", points=0.1, width=6)
    bound = method(AUDITED).bound(problem).noised()
    assert isinstance(bound, Private)
    shard = problem.pooled()
    (rows,) = shard.rows
    assert rows.target is not None
    point, value = rows.points.new_tensor([[1.0]]), rows.target.new_tensor([1e3])
    canary = replace(rows, points=point, target=value)
    everything, alone = (
        System(problem, replace(shard, rows=(own,))) for own in (rows, canary)
    )
    scores: dict[bool, list[float]] = {True: [], False: []}
    for trial in range(2 * TRIALS):
        inside = trial % 2 == 0
        random = generator(seed, trial, 0)
        scores[inside].append(_guess(bound, everything, alone, inside, factor, random))
    told = AUDITED.spent(AUDITED.releases)
    shown = shown_epsilon(scores[True], scores[False])
    return {
        "stated": short(told),
        "delta": DELTA,
        "releases": AUDITED.releases,
        "points": len(rows.points),
        "trials": TRIALS,
        "right": short(
            (sum(s > _half() for s in scores[True]) / TRIALS)
            + (sum(s <= _half() for s in scores[False]) / TRIALS)
        )
        / 2,
        "shown": {name: short(x) for name, x in shown.items()},
    }


def _guess(
    bound: Private,
    everything: System,
    alone: System,
    inside: bool,
    factor: float,
    random: torch.Generator,
) -> float:
    """How much more a run looks as if the canary were in it: normal, of variance 1.

    The canary moves every release by the same vector of length 1 / z, in units of its
    noise, whatever theta is: the mean is 0 without it and sqrt(releases) / z with it.
    """
    problem: Problem = bound._anchors.problem
    theta = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
    state, score, square = bound.start(theta, 0), 0.0, 0.0

    def released(ask: Record) -> dict[int, Record]:
        nonlocal score, square
        part, noise = bound.part(ask), bound.noise(ask, len(theta))
        base, own = (part(system, ask, None)[0] for system in (everything, alone))
        answers = {0: base, 1: own} if inside else {0: base}
        told = noisy(answers, noise, random, factor)
        for name, deviation in noise.items():
            moved = _units(own, name, deviation)
            surplus = _units(told, name, deviation) - _units(base, name, deviation)
            score += float(surplus @ moved)
            square += float(moved @ moved)
        return {0: bound.summed(ask, told, len(answers))}

    for _ in range(AUDITED.releases):
        state, _ = conclude(bound.round(state), released)
    return score / sqrt(square)


def _units(answer: Record, name: str, deviation: Tensor) -> Tensor:
    """A field in units of its noise, as a vector."""
    value = torch.as_tensor(getattr(answer, name), dtype=deviation.dtype)
    return (value / deviation).flatten()


def _half() -> float:
    """The score half-way between what is expected with and without the canary."""
    return sqrt(AUDITED.releases) / AUDITED.multiplier / 2


def shown_epsilon(
    inside: Sequence[float], outside: Sequence[float]
) -> dict[str, float]:
    """Lower bounds of epsilon from the scores of runs with and without the canary.

    From the rates of right and wrong alarms with Clopper and Pearson's intervals,
    P(alarm with) <= exp(epsilon) P(alarm without) + delta (``plain``); and, as all
    noise is Gaussian, from the mean mu that these rates show (Nasr et al., Tight
    auditing, USENIX Security 2023, arXiv 2302.07956), which loses less (``gaussian``).
    Thresholds are fixed beforehand, two of them, which share what confidence leaves.
    """
    found = {"plain": 0.0, "gaussian": 0.0}
    wrong = (1 - CONFIDENCE) / 4
    for threshold in (_half(), 2.0):
        hits = sum(s > threshold for s in inside)
        alarms = sum(s > threshold for s in outside)
        right = float(beta.ppf(wrong, hits, len(inside) - hits + 1)) if hits else 0.0
        false = 1.0
        if alarms < len(outside):
            false = float(beta.ppf(1 - wrong, alarms + 1, len(outside) - alarms))
        if right > DELTA:
            found["plain"] = max(found["plain"], log((right - DELTA) / false))
        mu = float(norm.ppf(right) - norm.ppf(false)) if 0 < right < 1 else 0.0
        if mu > 0:
            found["gaussian"] = max(found["gaussian"], gaussian_epsilon(mu))
    return found


def gaussian_epsilon(mu: float) -> float:
    """Of a Gaussian mechanism with multiplier 1 / mu (Balle, Wang, ICML 2018)."""
    low, high = 0.0, 1e4
    for _ in range(100):
        epsilon = (low + high) / 2
        over = norm.cdf(mu / 2 - epsilon / mu)
        under = exp(min(epsilon + norm.logcdf(-mu / 2 - epsilon / mu), 0.0))
        low, high = (epsilon, high) if over - under > DELTA else (low, epsilon)
    return low


def audited(entries: Sequence[Entry]) -> Table:
    """A row per factor of the noise."""
    heads = ["noise", "epsilon stated", "guesses right", "epsilon shown", "if Gaussian"]
    rows: list[list[Cell]] = []
    for factor, mine in sorted(grouped(entries, "factor").items(), reverse=True):
        shown = [e["shown"] for e in mine]
        row: list[Cell] = [
            "as due" if factor == 1 else f"{factor:g} of it" if factor else "none",
            f"{mine[0]['stated']:.3g}",
            f"{100 * median(e['right'] for e in mine):.0f} %",
        ]
        row += [f"{max(s[k] for s in shown):.2g}" for k in ("plain", "gaussian")]
        rows.append(row)
    first = entries[0]
    caption = (
        f"Membership of a canary: {first['releases']} releases, {first['trials']} runs "
        f"with it and as many without; lower bounds at {CONFIDENCE:.0%} confidence."
    )
    return Table("privacy-audit", caption, heads, rows, PAGE)


CASES = [
    (setting, epsilon, seed)
    for setting in SETTINGS
    for epsilon in EPSILONS.get(setting, FEW)
    for seed in range(STARTS.get(setting, USUAL_STARTS))
]

EXPERIMENTS = (
    Experiment(
        "privacy",
        __doc__,
        ("setting", "epsilon", "seed"),
        CASES,
        measure,
        lambda entries: [table(entries)],
        {
            "privacy-epsilon": Drawing(
                by_epsilon,
                "Error of FIPA by noisy sums against the epsilon of the whole run at "
                "delta 1e-5, medians of ten starts of the first problem and of three "
                "of the others, all of them as a band, and without noise.",
            )
        },
    ),
    Experiment(
        "privacy_audit",
        "What an attacker shows of epsilon who looks for a canary in noisy sums.",
        ("factor", "seed"),
        [(factor, 0) for factor in (1.0, 0.5, 0.0)],
        audit,
        lambda entries: [audited(entries)],
        page=PAGE,
    ),
)

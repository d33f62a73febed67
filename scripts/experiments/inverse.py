"""Unknown numbers from four sites' sensors: how well they are found, and how surely.

Problems `heat_inverse` and `burgers_inverse`, one start; clean data and data with
1 % noise, three draws of points and errors. An entry has the relative errors of the
number and of the solution, and the standard deviation of the number over its truth, by
`fedsciml.analysis.laplace`. FedAvg, whose optimisers keep their state, is searched on
the clean data of the first draw by the error of the number itself, in its favour, and
the best setting runs on the noisy data too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import nan, pi
from statistics import fmean
from typing import NamedTuple

from scipy.stats import binomtest, t
from torch import Tensor

from experiments._drawing import Drawing, chosen, look, methods_of
from experiments._experiment import Case, Experiment
from experiments._numbers import percent
from experiments._record import Entry, grouped, select, short
from experiments._table import Cell, Table, plain
from experiments._words import title
from fedsciml import methods, plot, problems, run
from fedsciml.analysis.laplace import laplace
from fedsciml.methods._fipa import Fipa, State
from fedsciml.plot import Curve, Panel

KEY = ("problem", "noise", "seed", "weight", "viscosity", "method", "tau", "rate")
ROUNDS = 100
NOISE = 0.01
SEEDS = (0, 1, 2)
PROBLEMS = {"heat_inverse": None, "burgers_inverse": 0.05 / pi}
"""With the viscosity, where it is a parameter."""

NEAR = [(20, 1e-3), (20, 3e-3), (20, 1e-2)]
SEARCH = {
    "heat_inverse": [*NEAR, (100, 1e-3), (100, 1e-2)],
    "burgers_inverse": [*NEAR, (100, 3e-3)],
}
"""FedAvg's tau and learning rate: what is tried."""

SHARP = ("burgers_inverse", 0.0, 0, 100.0, 0.01 / pi, "fipa", None, None)
CLEAN, DRAWN, DRAWS = 80, 15, 100
"""Of the coverage: rounds on clean data, rounds of a draw, draws."""

CLOSE = 1e-3
"""A number that is so near is found."""

LEVEL = 0.95


def cases(entries: Sequence[Entry]) -> list[Case]:
    """FIPA's and the search of FedAvg; on noisy data the best of it."""
    found: list[Case] = [
        (problem, noise, seed, 1.0, viscosity, "fipa", None, None)
        for problem, viscosity in PROBLEMS.items()
        for noise in (0.0, NOISE)
        for seed in SEEDS
    ]
    found.append(SHARP)
    for problem, viscosity in PROBLEMS.items():
        found += [
            (problem, 0.0, 0, 1.0, viscosity, "fedavg", *of) for of in SEARCH[problem]
        ]
        tried = select(entries, problem=problem, noise=0.0, method="fedavg")
        if len(tried) >= len(SEARCH[problem]):
            best = min(tried, key=lambda e: float(e["error"]))
            setting = best["tau"], best["rate"]
            found.append((problem, NOISE, 0, 1.0, viscosity, "fedavg", *setting))
    return found


def measure(
    problem: str,
    noise: float,
    seed: int,
    weight: float,
    viscosity: float | None,
    method: str,
    tau: int | None,
    rate: float | None,
) -> Entry:
    """One run."""
    parameters = {"noise": noise, "seed": seed, "weight": weight}
    if viscosity is not None:
        parameters["viscosity"] = viscosity
    options: dict[str, object] = {}
    if method == "fedavg":
        options = {"tau": tau, "learning_rate": rate, "keep_state": True}
    made = problems.load(problem, **parameters)
    solver = methods.load(method, **options)
    result = run(made, solver, ROUNDS, clock=time.process_time, progress=False)
    ((name, found),) = result.unknowns().items()
    truth, last = made.truth[name], result.history[-1]
    known = laplace(made, result.theta)
    return {
        "found": found,
        "error": short(abs(found - truth) / truth),
        "deviation": short(known.deviation[name] / truth),
        "solution": short(result.errors()[0]),
        "errors": [short(line.errors[name]) for line in result.history],
        "bytes": last.sent,
        "seconds": short(last.seconds),
    }


def table(entries: Sequence[Entry]) -> Table:
    """Relative errors, a row per run."""
    fields = ("problem", "noise", "seed", "weight", "method", "tau", "rate")
    heads = [*fields, "error", "+-", "solution"]
    rows = [
        [
            *(None if e[name] is None else str(e[name]) for name in fields),
            *(e[name] for name in ("error", "deviation", "solution")),
        ]
        for e in sorted(entries, key=lambda e: (e["problem"], e["noise"], e["method"]))
    ]
    return Table("inverse", "Relative errors of the numbers found.", heads, rows)


def by_data(entries: Sequence[Entry]) -> Table:
    """The numbers found by FIPA, draw by draw, and by the best FedAvg."""
    rows: list[list[Cell]] = []
    usual = select(entries, weight=1.0)
    for (problem, noise), runs in grouped(usual, "problem", "noise").items():
        fipa = sorted(select(runs, method="fipa"), key=lambda e: int(e["seed"]))
        data = f"{percent(noise, 1)} noise" if noise else "clean"
        off = [percent(e["error"]) if noise else plain(e["error"]) for e in fipa]
        known = [percent(e["deviation"]) for e in fipa if noise]
        since = [str(from_round(e["errors"])) for e in fipa if not noise]
        best = min(e["error"] for e in select(runs, method="fedavg"))
        columns = (", ".join(column) for column in (off, known, since))
        rows.append([f"`{problem}`", data, *columns, percent(best)])
    heads = ["problem", "data", "FIPA", "+-"]
    heads += [f"error below {percent(CLOSE, 1)} from round", "FedAvg"]
    caption = "Relative errors of the numbers found, by draws of the data."
    return Table("inverse-draws", caption, heads, rows, "docs/inverse.md")


def from_round(errors: Sequence[float]) -> int:
    """The round from which on an error stays below ``CLOSE``."""
    above = [k for k, error in enumerate(errors, 1) if not error < CLOSE]
    return 1 + max(above, default=0)


@dataclass(frozen=True)
class Warm(Fipa):
    """FIPA from a given theta."""

    begin: Tensor = field(kw_only=True)

    def start(self, theta: Tensor, seed: int) -> State:
        """As FIPA's, at ``begin``."""
        return super().start(self.begin, seed)


class Coverage(NamedTuple):
    """How many intervals contain the truth.

    Attributes:
        share: Of them all.
        low: Lower end of the share's 95 % interval (Clopper and Pearson, Biometrika 26,
            1934).
        high: Upper end.
        ratio: Root mean square error over the mean standard deviation.
    """

    share: float
    low: float
    high: float
    ratio: float


@cache
def clean(problem: str) -> Tensor:
    """theta of clean data, shape [p]."""
    return run(
        problems.load(problem), methods.load("fipa"), CLEAN, progress=False
    ).theta


def drawn(problem: str, noise: float, draw: int) -> Entry:
    """What one draw of points and errors finds, relative to the truth."""
    made = problems.load(problem, noise=noise, seed=1 + draw)
    ((name, truth),) = made.truth.items()
    # Distances from 0 are the positive numbers themselves; errors have lost their sign.
    bare = replace(made, truth={name: 0.0})
    result = run(bare, Warm(begin=clean(problem)), DRAWN, progress=False)
    found = [line.errors[name] for line in result.history]
    known = laplace(made, result.theta)
    return {
        "error": known.mean[name] / truth - 1,
        "deviation": known.deviation[name] / truth,
        "bound": known.bound[name] / truth,
        "sigma": known.sigma,
        "freedom": known.freedom,
        # What the last third of the rounds still moved: little beside the deviation.
        "moved": abs(found[-1] - found[2 * DRAWN // 3 - 1]) / truth,
    }


def quantile(entry: Entry) -> float:
    """Half an interval, in standard deviations."""
    return float(t.ppf((1 + LEVEL) / 2, entry["freedom"]))


def coverage(entries: Sequence[Entry], width: str) -> Coverage:
    """Of the intervals with the standard deviations ``width`` of the entries."""
    inside = [abs(e["error"]) <= quantile(e) * e[width] for e in entries]
    share = sum(inside) / len(inside)
    interval = binomtest(sum(inside), len(inside)).proportion_ci(0.95)
    size = fmean(e["error"] ** 2 for e in entries) ** 0.5
    ratio = size / fmean(e[width] for e in entries)
    return Coverage(share, interval.low, interval.high, ratio)


def covered(entries: Sequence[Entry]) -> Table:
    """Both standard deviations: that of the sandwich, and its bound."""
    heads = ["standard deviation", "contain the truth", "95 %", "errors over it"]
    rows = []
    for width in ("deviation", "bound"):
        found = coverage(entries, width)
        ends = f"{found.low:.1%} to {found.high:.1%}"
        rows.append([width, f"{found.share:.1%}", ends, f"{found.ratio:.2f}"])
    moved = max(entry["moved"] / entry["deviation"] for entry in entries)
    caption = f"{len(entries)} draws; the last rounds moved {moved:.2f} deviations."
    return Table("coverage", caption, heads, rows)


def inverse(found: Sequence[Entry]) -> plot.Figure:
    """Errors of the numbers by round."""
    usual = chosen(found, weight=1.0)
    parts = [
        Panel(
            f"{title(problem)}, {'1 % noise' if noise else 'clean data'}",
            "round",
            r"relative error of $\nu$",
            curves(entries),
            xscale="linear",
        )
        for (problem, noise), entries in grouped(usual, "problem", "noise").items()
    ]
    return plot.panels(parts, 2, height=2.0, legend="below")


def curves(entries: Sequence[Entry]) -> list[Curve]:
    """Every run of FIPA, and the best of FedAvg's."""
    result = []
    for method in methods_of(entries):
        runs = select(entries, method=method)
        if method == "fedavg":
            runs = sorted(runs, key=lambda e: float(e["error"]))[:1]
        label, colour, dash, marker = look(method)
        for e in runs:
            rounds = range(1, len(e["errors"]) + 1)
            result.append(Curve(label, rounds, e["errors"], colour, dash, marker))
    return result


def intervals(draws: Sequence[Entry]) -> plot.Figure:
    """The draws' 95 % intervals, ordered by the numbers found."""
    ordered = sorted(chosen(draws), key=lambda e: float(e["error"]))
    bars: dict[bool, tuple[list[float], list[float]]] = {
        True: ([], []),
        False: ([], []),
    }
    for k, e in enumerate(ordered):
        half = quantile(e) * e["deviation"]
        xs, ys = bars[abs(e["error"]) <= half]
        xs += [k, k, nan]
        ys += [100 * (e["error"] - half), 100 * (e["error"] + half), nan]
    share = coverage(draws, "deviation").share
    panel = Panel(
        f"{title(ordered[0]['problem'])}: {100 * share:.0f} % contain the truth",
        "draw, ordered by the number found",
        r"95 % interval of $\nu$, % off",
        [
            Curve("contains the truth", *bars[True], colour=0, width=0.8),
            Curve("does not", *bars[False], colour=1, width=1.6),
            Curve("", [0, len(ordered) - 1], [0, 0], colour=7),
        ],
        xscale="linear",
        yscale="linear",
    )
    return plot.panels([panel], 1, width=4.5, height=2.6, legend="below")


EXPERIMENTS = (
    Experiment(
        "inverse",
        __doc__,
        KEY,
        cases,
        measure,
        lambda entries: [table(entries), by_data(entries)],
        {
            "inverse": Drawing(
                inverse,
                "Error of the viscosity and the diffusivity found from the data of "
                "four sites, FIPA for three draws of the data and the best FedAvg for "
                "one.",
            )
        },
    ),
    Experiment(
        "coverage",
        """Do 95 % intervals of an unknown number contain it in 95 % of the cases?

Each draw of problem `heat_inverse` has its own points and its own errors of 1 % in the
measurements of four sites. FIPA starts at the solution of clean data, so that few
rounds do, and `fedsciml.analysis.laplace` gives the standard deviation of the number
found. The interval is that of Student's t distribution with the residual degrees of
freedom. Root mean square errors over the mean standard deviation are 1 if it is right.
Four minutes.
""",
        ("problem", "noise", "draw"),
        [("heat_inverse", NOISE, draw) for draw in range(DRAWS)],
        drawn,
        lambda entries: [covered(entries)],
        {
            "inverse-coverage": Drawing(
                intervals,
                "95 % intervals of the diffusivity, one for each draw of 1 % noise.",
            )
        },
    ),
)

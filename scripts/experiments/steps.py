"""Scoreboard of step policies: which error, how fast, from how many starts.

Every policy on the problems of suite `fipa` from the same starts, centralised and
federated; for each run the rounds, probes, bytes and seconds to the errors 1e-2, 1e-4,
..., 1e-10. The error is the relative L2 error, of a regression the root of the mean
squared one. A run ends early when it can only repeat itself: converged, or 30 rounds
without a step. All of it takes days. A policy is NAME:OPTION=VALUE,..., or POLICY
and BALANCE with " balance=" between: scaled rows, of terms or clients.
"""

from collections.abc import Sequence
from itertools import product
from math import inf
from statistics import mean, median
from typing import Any

import torch

from experiments._drawing import Drawing
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, select
from experiments._runs import longest, mean_rank, root
from experiments._table import Cell, Table
from experiments._words import named
from fedsciml import analysis, plot, policies, problems, run
from fedsciml.command.suite import SUITE
from fedsciml.federation.history import Round
from fedsciml.methods._fipa import Fipa
from fedsciml.policies import Policy
from fedsciml.wrappers.balance import Balance, balanced

POLICIES = (
    "natural",
    "natural:hops=false",
    "line_search:cutoff=1e-10",
    "line_search:cutoff=1e-8",
    "line_search:cutoff=1e-7",
    "line_search:cutoff=1e-8,memory=10",
    "line_search:damping=1e-6,cutoff=0",
    "line_search:damping=1e-8,cutoff=0",
    "levenberg_marquardt",
    "levenberg_marquardt:acceleration=true",
    "gain",
    "gain:fraction=0.01",
    "progress",
    "continuation:factor=0.1",
    "spring:damping=1e-6,momentum=0.5",
    "spring:damping=1e-10,momentum=0.5",
)
"""The default and its rivals, each at the settings that did best in a short search, of
which steps-search.json is the record: allen_cahn and sine4, start 0, 60 rounds."""

PROBLEMS = (*SUITE, "poisson_square")
ROUNDS = {"sine8": 200, "poisson_square": 150}
"""Others take 100."""

SETTINGS = ("central", "2", "8")
"""Centralised, or the number of clients."""

ERRORS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
KEY = ("problem", "policy", "setting", "seed", "rounds")
PAGE = "docs/scoreboard.md"
STANDSTILL = 30
"""Rounds without a step, or with no lower loss after convergence, that end a run."""

TARGET = "1e-06"
"""Error to which the figure compares the policies."""

WITHIN = 100
"""Rounds that they have for it."""


def finished(history: Sequence[Round], quantity: str) -> bool:
    """Whether the run can only repeat itself."""
    last = history[-STANDSTILL:]
    if len(last) < STANDSTILL:
        return False
    if not any(line.step for line in last):
        return True
    halved = min(line.loss for line in last) < last[0].loss / 2
    return root(last[-1], quantity) <= min(ERRORS) and not halved


def parsed(row: str) -> tuple[Policy[Any], Balance]:
    """The policy of a row of the scoreboard, and whose rows are scaled.

    A row is named by its policy, or by POLICY and BALANCE with " balance=" between.
    """
    word, _, balance = row.partition(" balance=")
    known: dict[str, Balance] = {"": "none", "terms": "terms", "clients": "clients"}
    if balance not in known:
        raise ValueError(f"A row's balance is terms or clients, got '{balance}'.")
    return policies.parse(word), known[balance]


def check(problem: str, policy: str, setting: str, *others: object) -> None:
    """Raise ValueError if there is no such policy or setting."""
    parsed(policy)
    if setting not in SETTINGS:
        raise ValueError(
            f"invalid choice: '{setting}' of setting; {', '.join(SETTINGS)}"
        )


def measure(problem: str, policy: str, setting: str, seed: int, rounds: int) -> Entry:
    """One run, and what the scoreboard needs of it."""
    central = setting == "central"
    made = problems.load(problem, **({} if central else {"clients": int(setting)}))
    steps, balance = parsed(policy)
    method = balanced(Fipa(steps, pooled=central), balance)
    quantity = analysis.quantity(made)
    history = run(
        made,
        method,
        rounds,
        seed,
        stop=lambda history: finished(history, quantity),
        progress=False,
    ).history
    errors = [root(line, quantity) for line in history]
    at = {t: next((k for k, e in enumerate(errors, 1) if e <= t), None) for t in ERRORS}
    marks = [*(k for k in (20, 50, 100, 150, 200) if k < rounds), rounds]
    return {
        "ran": len(history),
        "error_at": {str(k): errors[min(k, len(errors)) - 1] for k in marks},
        "reached": {str(t): spent(history[:k]) if k else None for t, k in at.items()},
        "largest_probe": max(line.probes for line in history),
        "mean_rank": mean_rank(history),
        "seconds_per_round": history[-1].seconds / len(history),
        "bytes": history[-1].sent,
        "threads": torch.get_num_threads(),
    }


def spent(history: Sequence[Round]) -> dict[str, float]:
    """Rounds, candidate losses, bytes both ways and seconds."""
    last = history[-1]
    return {
        "rounds": len(history),
        "probes": sum(line.probes for line in history),
        "bytes": last.sent,
        "seconds": round(last.seconds, 3),
    }


def tables(entries: Sequence[Entry]) -> list[Table]:
    """The policies of each setting, and the default problem by problem."""
    shown = longest(entries, KEY[:-1], lambda e: e["rounds"])
    settings = [s for s in SETTINGS if any(e["setting"] == s for e in shown)]
    return [*(scoreboard(shown, s) for s in settings), by_problem(shown, "natural")]


def scoreboard(entries: Sequence[Entry], setting: str) -> Table:
    """The policies on the problems and starts that all of them have run."""
    heads = ["policy", "runs", "to 1e-2", *(f"1e-6 in {k}" for k in (50, 100))]
    heads += ["1e-10 in 100", "rounds to 1e-6", "MB", "largest probe"]
    runs = grouped(select(entries, setting=setting), "policy")
    found = {p: {(e["problem"], e["seed"]): e for e in runs[p]} for p in runs}
    common = sorted(set.intersection(*(set(mine) for mine in found.values())))
    rows: list[list[Cell]] = []
    for policy in sorted(found, key=lambda p: (p not in POLICIES, _order(p), p)):
        mine = [found[policy][case] for case in common]
        if not mine:
            continue
        row: list[Cell] = [f"`{policy}`", len(mine)]
        row += [_share(mine, 1e-2, 100), _share(mine, 1e-6, 50)]
        row += [_share(mine, 1e-6, 100), _share(mine, 1e-10, 100)]
        costs = [e["reached"][TARGET] for e in mine]
        row += [_median(costs, "rounds")]
        row += ["" if setting == "central" else _median(costs, "bytes", 1e-6)]
        rows.append([*row, max(e["largest_probe"] for e in mine)])
    caption = setting if common else f"{setting}: no run of all these policies yet"
    page = PAGE if setting == "central" else ""
    return Table(f"scoreboard-{setting}", caption, heads, rows, page)


def by_problem(entries: Sequence[Entry], policy: str) -> Table:
    """A policy, problem by problem: median errors over the starts."""
    marks = ("20", "50", "100", "150", "200")
    heads = ["problem", "setting", "starts", "1e-6 in 100", "rounds to 1e-6"]
    heads += [*(f"at {k}" for k in marks), "worst at end", "mean rank", "s / round"]
    rows: list[list[Cell]] = []
    names = [*PROBLEMS, *sorted({e["problem"] for e in entries} - set(PROBLEMS))]
    for problem, setting in product(names, SETTINGS):
        mine = select(entries, problem=problem, setting=setting, policy=policy)
        if not mine:
            continue
        costs = [e["reached"][TARGET] for e in mine]
        row: list[Cell] = [problem, setting, len(mine), _share(mine, 1e-6, 100)]
        row.append(_median(costs, "rounds"))
        for mark in marks:
            values = [e["error_at"][mark] for e in mine if mark in e["error_at"]]
            row.append(f"{median(values):.1e}" if values else "")
        ends = [list(e["error_at"].values())[-1] for e in mine]
        row += [f"{max(ends):.1e}", f"{mean(e['mean_rank'] for e in mine):.0f}"]
        rows.append([*row, f"{median(e['seconds_per_round'] for e in mine):.2g}"])
    return Table(policy, f"{policy}, problem by problem", heads, rows, PAGE)


def _order(policy: str) -> int:
    return POLICIES.index(policy) if policy in POLICIES else 0


def _share(entries: Sequence[Entry], target: float, within: int) -> str:
    """Share of the runs of at least so many rounds that get to an error in them."""
    able = [e["reached"][str(target)] for e in entries if e["rounds"] >= within]
    good = sum(cost is not None and cost["rounds"] <= within for cost in able)
    return f"{100 * good / len(able):.0f} %" if able else ""


def _median(costs: Sequence[Any], key: str, unit: float = 1.0) -> str:
    value = median(unit * cost[key] if cost else inf for cost in costs)
    return "never" if value == inf else f"{value:.3g}"


def profiles(entries: Sequence[Entry]) -> plot.Figure:
    """Performance profiles of the policies."""
    found = {
        kind: {named(name): each for name, each in solvers.items()}
        for kind, solvers in costs(entries).items()
    }
    return plot.profile(found, "Problems and starts brought to an error of $10^{-6}$")


def costs(entries: Sequence[Entry]) -> dict[str, dict[str, list[float]]]:
    """Step policies, each at its best options, on the runs that all of them have."""
    found: dict[str, dict[tuple[Any, ...], Any]] = {}
    for entry in entries:
        case = tuple(entry[key] for key in ("problem", "setting", "seed"))
        cost = entry["reached"][TARGET]
        late = cost is not None and cost["rounds"] > WITHIN
        found.setdefault(entry["policy"], {})[case] = None if late else cost
    cases = sorted(set.intersection(*(set(runs) for runs in found.values())))

    def solved(policy: str) -> tuple[int, bool]:
        count = sum(found[policy][case] is not None for case in cases)
        return count, ":" not in policy  # of equals, that with the default options

    best: dict[str, str] = {}
    for policy in sorted(found, key=solved):
        best[policy.partition(":")[0]] = policy
    shown = sorted(best.values(), key=solved, reverse=True)
    # Not the seconds: the runs of the record were made on a more or less busy machine.
    kinds = {"rounds": "rounds", "candidate losses": "probes"}
    return {
        kind: {
            policy: [
                cost[field] if (cost := found[policy][case]) else inf for case in cases
            ]
            for policy in shown
        }
        for kind, field in kinds.items()
    }


EXPERIMENT = Experiment(
    "steps",
    __doc__,
    KEY,
    [
        (problem, policy, setting, seed, ROUNDS.get(problem, 100))
        for seed, policy, problem, setting in product(
            range(10), POLICIES, PROBLEMS, SETTINGS
        )
    ],
    measure,
    tables,
    {
        "steps-profile": Drawing(
            profiles,
            "Performance profiles of the step policies: the share of problems and "
            "starts solved within a factor of the best.",
        )
    },
    check=check,
    jobs=2,
)

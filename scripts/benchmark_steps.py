"""Scoreboard of step policies: which error, how fast, from how many starts.

Every policy on the problems of suite `fipa` from the same starts, centralised and
federated; for each run the rounds, probes, bytes and seconds to the errors 1e-2, 1e-4,
..., 1e-10. The error is the relative L2 error, of a regression the root of the mean
squared one. Finished runs are kept in the record and not run again. A run ends early
when it can only repeat itself: converged, or 30 rounds without a step.

    python scripts/benchmark_steps.py                            # hours: all of it
    python scripts/benchmark_steps.py --policies natural --problems sine8 --rounds 200
    python scripts/benchmark_steps.py --table                    # only print
"""

import argparse
from collections.abc import Sequence
from itertools import product
from math import inf
from pathlib import Path
from statistics import mean, median
from typing import Any

import _common  # before torch, see there
import torch
from _common import SUITE, Entry

import problems
from fedsciml import policies, run
from fedsciml.federation.history import Round
from fedsciml.methods.fipa import Fipa
from fedsciml.policies import Policy
from fedsciml.wrappers.balance import Balance, balanced

RECORD = Path(__file__).parents[1] / "figures" / "data" / "steps.json"
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
STANDSTILL = 30
"""Rounds without a step, or with no lower loss after convergence, that end a run."""


def error(line: Round, quantity: str) -> float:
    """Relative L2 error, or the root of the mean squared error."""
    value = float(getattr(line, quantity))
    return value**0.5 if quantity == "mse" else value


def finished(history: Sequence[Round], quantity: str) -> bool:
    """Whether the run can only repeat itself."""
    last = history[-STANDSTILL:]
    if len(last) < STANDSTILL:
        return False
    if not any(line.step for line in last):
        return True
    halved = min(line.loss for line in last) < last[0].loss / 2
    return error(last[-1], quantity) <= min(ERRORS) and not halved


def parsed(row: str) -> tuple[Policy[Any], Balance]:
    """The policy of a row of the scoreboard, and whose rows are scaled.

    A row is named by its policy, or by POLICY and BALANCE with " balance=" between.
    """
    word, _, balance = row.partition(" balance=")
    known: dict[str, Balance] = {"": "none", "terms": "terms", "clients": "clients"}
    if balance not in known:
        raise ValueError(f"A row's balance is terms or clients, got '{balance}'.")
    return policies.parse(word), known[balance]


def measured(problem: str, policy: str, setting: str, seed: int, rounds: int) -> Entry:
    """One run, and what the scoreboard needs of it."""
    central = setting == "central"
    made = problems.load(problem, **({} if central else {"clients": int(setting)}))
    steps, balance = parsed(policy)
    method = balanced(Fipa(steps, pooled=central), balance)
    quantity = _common.quantity(made)
    result = run(
        made, method, rounds, seed, stop=lambda history: finished(history, quantity)
    )
    history = result.history
    errors = [error(line, quantity) for line in history]
    reached = []
    for target in ERRORS:
        first = next((k for k, e in enumerate(errors) if e <= target), None)
        reached.append(None if first is None else spent(history[: first + 1]))
    ranks = [rank for line in history for rank in line.ranks]
    marks = [*(k for k in (20, 50, 100, 150, 200) if k < rounds), rounds]
    return {
        **dict(zip(KEY, (problem, policy, setting, seed, rounds), strict=True)),
        "ran": len(history),
        "error_at": {str(k): errors[min(k, len(errors)) - 1] for k in marks},
        "reached": dict(zip(map(str, ERRORS), reached, strict=True)),
        "largest_probe": max(line.probes for line in history),
        "mean_rank": mean(ranks),
        "seconds_per_round": history[-1].seconds / len(history),
        "bytes": history[-1].bytes_up + history[-1].bytes_down,
        "threads": torch.get_num_threads(),
    }


def spent(history: Sequence[Round]) -> dict[str, float]:
    """Rounds, candidate losses, bytes both ways and seconds."""
    last = history[-1]
    return {
        "rounds": len(history),
        "probes": sum(line.probes for line in history),
        "bytes": last.bytes_up + last.bytes_down,
        "seconds": round(last.seconds, 3),
    }


def table(entries: Sequence[Entry], setting: str) -> str:
    """Markdown: the policies on the problems and starts that all of them have run."""
    heads = ["policy", "runs", "to 1e-2", *(f"1e-6 in {k}" for k in (50, 100))]
    heads += ["1e-10 in 100", "rounds to 1e-6", "MB", "largest probe"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    found: dict[str, dict[tuple[str, int], Entry]] = {}
    for e in entries:
        if e["setting"] == setting:
            found.setdefault(e["policy"], {})[e["problem"], e["seed"]] = e
    if not found:
        return ""
    common = set.intersection(*(set(runs) for runs in found.values()))
    if not common:
        return "No run of all these policies yet.\n"
    order = [p for p in POLICIES if p in found]
    for policy in order + sorted(set(found) - set(order)):
        mine = [found[policy][case] for case in sorted(common)]
        shares = [_share(mine, 1e-2, 100), _share(mine, 1e-6, 50)]
        shares += [_share(mine, 1e-6, 100), _share(mine, 1e-10, 100)]
        costs = [e["reached"]["1e-06"] for e in mine]
        cells = [f"`{policy}`", str(len(mine)), *shares, _median(costs, "rounds")]
        cells += ["" if setting == "central" else _median(costs, "bytes", 1e-6)]
        cells.append(str(max(e["largest_probe"] for e in mine)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def errors_table(entries: Sequence[Entry], policy: str) -> str:
    """Markdown: a policy, problem by problem: median errors over the starts."""
    marks = ("20", "50", "100", "150", "200")
    heads = ["problem", "setting", "starts", "1e-6 in 100", "rounds to 1e-6"]
    heads += [f"at {k}" for k in marks]
    heads += ["worst at end", "mean rank", "s / round"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    names = [*PROBLEMS, *sorted({e["problem"] for e in entries} - set(PROBLEMS))]
    for problem, setting in product(names, SETTINGS):
        which = (problem, setting, policy)
        mine = [
            e for e in entries if (e["problem"], e["setting"], e["policy"]) == which
        ]
        if not mine:
            continue
        costs = [e["reached"]["1e-06"] for e in mine]
        cells = [problem, setting, str(len(mine)), _share(mine, 1e-6, 100)]
        cells.append(_median(costs, "rounds"))
        for mark in marks:
            values = [e["error_at"][mark] for e in mine if mark in e["error_at"]]
            cells.append(f"{median(values):.1e}" if values else "")
        ends = [list(e["error_at"].values())[-1] for e in mine]
        cells += [f"{max(ends):.1e}", f"{mean(e['mean_rank'] for e in mine):.0f}"]
        cells.append(f"{median(e['seconds_per_round'] for e in mine):.2g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def longest(entries: Sequence[Entry]) -> list[Entry]:
    """Of the runs that differ in the number of rounds alone, the longest."""
    found = {
        tuple(e[key] for key in KEY[:-1]): e
        for e in sorted(entries, key=lambda e: int(e["rounds"]))
    }
    return list(found.values())


def _share(entries: Sequence[Entry], target: float, within: int) -> str:
    """Share of the runs of at least so many rounds that get to an error in them."""
    able = [e["reached"][str(target)] for e in entries if e["rounds"] >= within]
    good = sum(cost is not None and cost["rounds"] <= within for cost in able)
    return f"{100 * good / len(able):.0f} %" if able else ""


def _median(costs: Sequence[Any], key: str, unit: float = 1.0) -> str:
    value = median(unit * cost[key] if cost else inf for cost in costs)
    return "never" if value == inf else f"{value:.3g}"


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, metavar="NAME")
    parser.add_argument(
        "--policies",
        nargs="+",
        default=POLICIES,
        metavar="POLICY",
        help=f"{policies.FORM}, or POLICY balance=terms or balance=clients as one "
        f"argument: scaled rows; default {' '.join(POLICIES)}",
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument(
        "--seeds", type=int, default=10, help="starts 0, 1, ... of each; default 10"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="default 0")
    usual = ", ".join(f"{name} {rounds}" for name, rounds in ROUNDS.items())
    parser.add_argument("--rounds", type=int, help=f"default 100, {usual}")
    _common.add_runs(parser, RECORD, jobs=2)
    parser.add_argument("--table", action="store_true", help="only print the tables")
    todo = parser.parse_args()
    try:
        for policy in todo.policies:
            parsed(policy)
        for problem in todo.problems:
            problems.summary(problem)
    except ValueError as wrong:
        parser.error(str(wrong))
    if todo.table and not todo.out.is_file():
        parser.error(f"There is no record {todo.out} to print; leave --table out.")
    keys = [
        (problem, policy, setting, seed, todo.rounds or ROUNDS.get(problem, 100))
        for seed in range(todo.first_seed, todo.first_seed + todo.seeds)
        for policy in todo.policies
        for problem in todo.problems
        for setting in todo.settings
    ]
    wanted = [] if todo.table else keys
    entries = _common.completed(
        todo.out, KEY, wanted, measured, todo.jobs, todo.threads, todo.fresh
    )
    if not todo.table or todo.policies == POLICIES:
        chosen = [e["policy"] for e in entries]
    else:
        chosen = todo.policies
    shown = longest(
        [
            e
            for e in entries
            if e["policy"] in chosen
            and e["problem"] in todo.problems
            and e["setting"] in todo.settings
        ]
    )
    for setting in todo.settings:
        print(f"\n{setting}\n\n{table(shown, setting)}")
    print(f"\nnatural, problem by problem\n\n{errors_table(shown, 'natural')}")


if __name__ == "__main__":
    main()

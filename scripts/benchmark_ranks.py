"""Rank schedules compared: error against bytes, from the same starts.

Every schedule with FIPA's default step policy on some problems; each run's record holds
error, bytes both ways, ranks and CPU seconds of every round. The error is the relative
L2 error, of a regression the root of the mean squared one. ``full`` truncates nothing:
the full SVD of every client's Jacobian. Finished runs are kept in the record and not
run again.

    python scripts/benchmark_ranks.py                            # an hour: all of it
    python scripts/benchmark_ranks.py --problems sine4 --schedules cutoff bytes:100000
    python scripts/benchmark_ranks.py --table                    # only print
"""

import argparse
import time
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import mean, median
from typing import Any

import _common  # before torch, see there
from _common import Entry, short
from experiments._runs import first
from experiments._runs import root as error

import problems
from fedsciml import run
from fedsciml.linalg import ranks
from fedsciml.methods.fipa import Fipa

RECORD = Path(__file__).parents[1] / "figures" / "data" / "ranks.json"
FULL = "full"
SCHEDULES = (
    *("5", "10", "20", "40"),
    *("energy:0.99", "energy:0.999999", "energy:0.9999999999"),
    *("cutoff", "published"),
    *("bytes:200000", "bytes:400000", "bytes:800000"),
    *("predictive:0.01", "predictive:0.1", "predictive:1"),
    FULL,
)
LARGER = (
    *("40", "100", "200", "energy:0.9999999999", "cutoff", "published"),
    *("bytes:2000000", "bytes:4000000", "bytes:8000000"),
    *("predictive:0.01", "predictive:0.1", "predictive:1"),
)
"""In two dimensions, where a sketch has ten times as many rows; a round of ``full``
would take half a minute."""

PROBLEMS = ("allen_cahn", "reaction_diffusion", "sine4", "poisson2d")
ROUNDS = 50
KEY = ("problem", "schedule", "seed", "rounds")


def usual(problem: str) -> tuple[Sequence[str], int]:
    """Schedules and number of starts."""
    return (LARGER, 1) if problem == "poisson2d" else (SCHEDULES, 3)


def method(schedule: str, parameters: int) -> Fipa:
    """FIPA with a rank schedule."""
    if schedule == FULL:
        return Fipa(rank=ranks.Fixed(parameters), sketch="svd")
    return Fipa(rank=ranks.parse(schedule))


def measured(problem: str, schedule: str, seed: int, rounds: int) -> Entry:
    """One run, round by round, to four digits."""
    made = problems.load(problem)
    quantity, p = _common.quantity(made), made.network.size
    fipa = method(schedule, p)
    history = run(made, fipa, rounds, seed, clock=time.process_time).history
    sent = [line.bytes_up + line.bytes_down for line in history]
    return {
        **dict(zip(KEY, (problem, schedule, seed, rounds), strict=True)),
        "quantity": quantity,
        "parameters": p,
        "clients": made.clients,
        "error": [short(error(line, quantity)) for line in history],
        "bytes": [int(short(both)) for both in sent],
        "ranks": [list(line.ranks) for line in history],
        "seconds": [short(line.seconds) for line in history],
    }


def floats(entry: Entry) -> float:
    """Numbers in a client's sketch, k (p + 1) + 1, mean over clients and rounds."""
    rank = mean(k for ranks_ in entry["ranks"] for k in ranks_)
    return float(rank * (entry["parameters"] + 1) + 1)


def megabytes(entry: Entry, target: float) -> float | None:
    """Both ways until the error is at a target; None if it never is."""
    sent = first(entry, "bytes", target)
    return sent / 1e6 if isfinite(sent) else None


def table(entries: Sequence[Entry], problem: str) -> str:
    """Markdown: the schedules on a problem, medians over the starts."""
    heads = ["schedule", "starts", "error at end", "worst", "MB to 1e-6", "MB to 1e-10"]
    heads += ["MB in all", "mean rank", "floats / p^2", "CPU s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry["problem"] == problem:
            found.setdefault(entry["schedule"], []).append(entry)
    order = [schedule for schedule in usual(problem)[0] if schedule in found]
    for schedule in order + sorted(set(found) - set(order)):
        mine = found[schedule]
        ends = [e["error"][-1] for e in mine]
        cells = [f"`{schedule}`", str(len(mine))]
        cells += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
        for target in (1e-6, 1e-10):
            costs = [megabytes(e, target) for e in mine]
            some = [cost for cost in costs if cost is not None]
            of = "" if len(some) == len(mine) else f" ({len(some)} of {len(mine)})"
            cells.append(f"{median(some):.3g}{of}" if some else "never")
        cells.append(f"{median(e['bytes'][-1] for e in mine) / 1e6:.3g}")
        cells.append(f"{mean(k for e in mine for r in e['ranks'] for k in r):.1f}")
        share = mean(floats(e) for e in mine) / mine[0]["parameters"] ** 2
        cells.append(f"1 / {1 / share:.0f}")
        cells.append(f"{median(e['seconds'][-1] for e in mine):.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, metavar="PROBLEM")
    parser.add_argument(
        "--schedules",
        nargs="+",
        metavar="SCHEDULE",
        help=f"{ranks.FORMS}, or {FULL}; default {' '.join(SCHEDULES)}, for poisson2d "
        f"{' '.join(LARGER)}",
    )
    parser.add_argument(
        "--seeds", type=int, help="starts 0, 1, ... of each; default 3, of poisson2d 1"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    _common.add_runs(parser, RECORD)
    parser.add_argument("--table", action="store_true", help="only print the tables")
    todo = parser.parse_args()
    try:
        for schedule in todo.schedules or ():
            method(schedule, 1)
        for problem in todo.problems:
            problems.summary(problem)
    except ValueError as wrong:
        parser.error(str(wrong))
    if todo.table and not todo.out.is_file():
        parser.error(f"There is no record {todo.out} to print; leave --table out.")
    keys: list[tuple[Any, ...]] = []
    for problem in todo.problems:
        schedules, seeds = usual(problem)
        for seed in range(todo.seeds or seeds):
            chosen = todo.schedules or schedules
            keys += [(problem, schedule, seed, todo.rounds) for schedule in chosen]
    wanted = [] if todo.table else keys
    entries = _common.completed(
        todo.out, KEY, wanted, measured, todo.jobs, todo.threads, todo.fresh
    )
    for problem in todo.problems:
        print(f"\n{problem}\n\n{table(entries, problem)}")


if __name__ == "__main__":
    main()

"""Suite `fipa`: every problem, several methods and starts; records and a table.

Finished runs are kept in the record and not run again, so an interrupted benchmark goes
on where it stopped. FedAvg and its kin take the options that tune_baselines.py found.

    python scripts/benchmark.py                                  # what is missing
    python scripts/benchmark.py --problems sine2 --methods fipa --seeds 5
    python scripts/benchmark.py --table                          # only print
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, median

import _common  # before torch, see there
import torch
from _common import SUITE, Entry

import problems
from fedsciml import methods, run

RECORD = Path(__file__).parents[1] / "figures" / "data" / "suite.json"
METHODS = ("fipa", "gauss_newton", *_common.TUNED)
CENTRAL: dict[str, dict[str, object]] = {"gauss_newton": {"sketch": "range"}}
"""As accurate as the full SVD, which takes minutes a step in three dimensions."""


def options_of(problem: str, method: str) -> dict[str, object]:
    """What a method runs with.

    Raises:
        ValueError: If it should be tuned and has not been.
    """
    if method in _common.TUNED:
        return _common.tuned(problem, method)
    return CENTRAL.get(method, {})


def measured(problem: str, method: str, seed: int, rounds: int) -> Entry:
    """One run and what the table needs of it."""
    options = options_of(problem, method)
    made = problems.load(problem)
    result = run(made, methods.load(method, **options), rounds, seed)
    last = result.history[-1]
    ranks = [rank for line in result.history for rank in line["ranks"]]
    relative_l2, mse = result.errors()
    quantity = _common.quantity(made)
    return {
        "problem": problem,
        "method": method,
        "seed": seed,
        "rounds": rounds,
        "options": options,
        "quantity": quantity,
        "relative_l2": relative_l2,
        "mse": mse,
        "errors": [line[quantity] for line in result.history],
        "mean_rank": mean(ranks) if ranks else None,
        "threads": torch.get_num_threads(),
        **{k: last[k] for k in ("bytes_up", "bytes_down", "messages", "seconds")},
    }


def table(entries: list[Entry], rounds: int) -> str:
    """Markdown: seed 0 of every method; median and worst over the starts of FIPA."""
    heads = ["problem", "error", *(f"`{m}`" for m in METHODS)]
    heads[3:3] = ["median of starts", "worst", "mean rank", "sent up", "s / round"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for problem in SUITE:
        mine = [e for e in entries if e["problem"] == problem and e["rounds"] == rounds]
        first = {e["method"]: e for e in mine if e["seed"] == 0}
        if "fipa" not in first:
            continue
        fipa, quantity = first["fipa"], first["fipa"]["quantity"]
        starts = [e[quantity] for e in mine if e["method"] == "fipa"]
        cells = [
            problem,
            "MSE" if quantity == "mse" else "relative L2",
            f"**{fipa[quantity]:.1e}**",
            f"{median(starts):.1e} ({len(starts)})",
            f"{max(starts):.1e}",
            f"{fipa['mean_rank']:.0f}",
            _common.size(fipa["bytes_up"]),
            f"{fipa['seconds'] / rounds:.2g}",
        ]
        for method in METHODS[1:]:
            entry = first.get(method)
            cells.append(f"{entry[quantity]:.1e}" if entry else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", choices=SUITE, default=SUITE)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument(
        "--seeds", type=int, default=1, help="starts 0, 1, ... of each; default 1"
    )
    parser.add_argument("--rounds", type=int, default=50, help="default 50")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs side by side; default 1"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of each run; default 2"
    )
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    keys = []
    for problem in todo.problems if not todo.table else ():
        for method in todo.methods:
            try:
                options_of(problem, method)
            except ValueError as error:
                print(f"Left out: {error}", file=sys.stderr)
            else:
                keys += [(problem, method, s, todo.rounds) for s in range(todo.seeds)]
    keys.sort(key=lambda k: k[2])  # the first start of everything first
    names = ("problem", "method", "seed", "rounds")
    entries = _common.completed(
        todo.out, names, keys, measured, todo.jobs, todo.threads, todo.fresh
    )
    print(table(entries, todo.rounds))


if __name__ == "__main__":
    main()

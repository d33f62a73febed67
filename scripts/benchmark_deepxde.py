"""DeepXDE scripts, trained by DeepXDE, by our Gauss-Newton and by federations.

Every script of scripts/deepxde_examples, unchanged, from the same start:

    deepxde        DeepXDE's Adam (rate 1e-3, 5000 iterations at most), then L-BFGS
    gauss_newton   the same data and network by fedsciml.deepxde, centralised
    fipa           and in strips, one for each of 2 or 4 clients

in float64 on one core, until --rounds rounds or --budget processor seconds are spent.
The record is figures/data/deepxde.json, the tables are those of docs/deepxde.md.

    python scripts/benchmark_deepxde.py            # half an hour of a core
    python scripts/benchmark_deepxde.py --examples burgers --fresh
    python scripts/benchmark_deepxde.py --table    # only write the tables
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import _common  # before torch, see there
import _examples
import _tables
from _common import Entry, short
from _deepxde_yardstick import as_a_script
from _tables import Cell, Table
from benchmark import publish, thinned

from fedsciml import deepxde, methods, run
from fedsciml.federation.history import Round

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "deepxde.json"

KEY = ("example", "method", "clients", "rounds", "budget")
RUNS = {
    "deepxde": ("DeepXDE", 1),
    "gauss_newton": ("Gauss-Newton", 1),
    "fipa:2": ("FIPA, 2 clients", 2),
    "fipa:4": ("FIPA, 4 clients", 4),
}
"""Heads of the table's columns and numbers of clients."""

OPTIONS: dict[str, dict[str, object]] = {"gauss_newton": {"sketch": "range"}}
"""The range finder has the digits of the full SVD and is faster."""


def measured(
    example: str, method: str, clients: int, rounds: int, budget: float
) -> Entry:
    """One run from start 0 and what the tables need of it."""
    if method == "deepxde":
        history = _examples.by_deepxde(example, 0, budget)
    else:
        history = trained(example, method, clients, rounds, budget)
    shown = [history[k] for k in thinned(len(history))]
    found: Entry = dict(
        zip(KEY, (example, method, clients, rounds, budget), strict=True)
    )
    found["round"] = [line["round"] for line in shown]
    for axis in ("error", "unknown", "seconds"):
        if shown[0][axis] is not None:
            found[axis] = [short(line[axis]) for line in shown]
    return found


def trained(
    name: str, method: str, clients: int, rounds: int, budget: float
) -> list[Entry]:
    """Rounds, seconds and worst errors of a run in this library."""
    with as_a_script(0):
        example = _examples.load(name)
        problem = deepxde.problem(
            example.data,
            example.net,
            example.weights,
            external_trainable_variables=example.variables,
            clients=clients,
            test_points=example.test[0],
            name=name,
        )
        problem = replace(problem, truth=example.truth)
        result = run(
            problem,
            methods.load(method, **OPTIONS.get(method, {})),
            rounds,
            clock=time.process_time,
            stop=lambda history: history[-1].seconds >= budget,
        )

    def worst(line: Round, names: Sequence[str]) -> float | None:
        found = line.errors or {"u": line.relative_l2}
        return max((found[name] for name in names), default=None)

    return [
        {
            "round": line.round,
            "seconds": line.seconds,
            "error": worst(line, problem.outputs),
            "unknown": worst(line, list(example.truth)),
        }
        for line in result.history
    ]


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Errors and seconds of the examples with all runs; errors of unknown numbers.

    Of DeepXDE the lowest error of the run counts, as if someone who knows the solution
    had stopped it there.
    """
    found = {tuple(e[key] for key in KEY[:3]): e for e in entries}
    rows: list[list[Cell]] = []
    inverse: list[list[Cell]] = []
    for name in sorted({e["example"] for e in entries}):
        keys = [(name, w.partition(":")[0], n) for w, (_, n) in RUNS.items()]
        if not all(key in found for key in keys):
            continue
        theirs, *ours = (found[key] for key in keys)
        best = min(theirs["error"])
        row: list[Cell] = [name, best, _seconds(theirs, best)]
        for entry in ours:
            last = entry["error"][-1]
            row += [last, _seconds(entry, last), _seconds(entry, best)]
        rows.append(row)
        if "unknown" in theirs:
            lasts = [entry["unknown"][-1] for entry in ours]
            inverse.append([name, min(theirs["unknown"]), *lasts])
    heads = [head for head, _ in RUNS.values()]
    wide = ["example", heads[0], "s"]
    for head in heads[1:]:
        wide += [head, "s", "s to DeepXDE's"]
    unknown = "Relative error of the unknown numbers, the worst one of each example."
    return [
        Table("deepxde", "Relative L2 error, of the worst output.", wide, rows),
        Table("deepxde-unknowns", unknown, ["example", *heads], inverse),
    ]


def _seconds(entry: Entry, error: float) -> str | None:
    """What a run took to an error; nothing if it never got there."""
    taken = _tables.first(entry, "seconds", error)
    return f"{taken:.2g}" if taken < inf else None


def main() -> None:
    """Run what is missing; write and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    known = _examples.names()
    add("--examples", nargs="+", choices=known, default=known, metavar="NAME")
    add("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN")
    add("--rounds", type=int, default=100, help="of ours; default 100")
    add("--budget", type=float, default=40.0, help="processor seconds; default 40")
    add("--fresh", action="store_true", help="run again what is there")
    add("--table", action="store_true", help="only write the tables")
    add("--out", type=Path, default=RECORD, help=f"the record; default {RECORD}")
    todo = parser.parse_args()
    keys = [
        (name, which.partition(":")[0], RUNS[which][1], todo.rounds, todo.budget)
        for which in todo.runs
        for name in todo.examples
    ]
    wanted = [] if todo.table else keys
    entries = _common.completed(todo.out, KEY, wanted, measured, 1, 1, todo.fresh)
    found = tables(entries)
    if todo.out == RECORD:
        publish(found)
    for table in found:
        print(f"\n{table.caption}\n\n{table.markdown()}")


if __name__ == "__main__":
    main()

"""DeepXDE scripts, trained by DeepXDE, by our Gauss-Newton and by federations.

Every script of scripts/deepxde_examples, unchanged, from the same start:

    deepxde        DeepXDE's Adam (rate 1e-3, 5000 iterations at most), then L-BFGS
    gauss_newton   the same data and network by fedsciml.deepxde, centralised
    fipa           and in strips, one for each of 2 or 4 clients

in float64 on one core, until 100 rounds or 40 processor seconds are spent. Half an hour
of a core.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf

from experiments import _examples
from experiments._experiment import Experiment
from experiments._record import Entry, short
from experiments._runs import first, thinned
from experiments._table import Cell, Table
from experiments._yardstick import as_a_script
from fedsciml import deepxde, methods, run
from fedsciml.federation.history import Round

KEY = ("example", "method", "clients", "rounds", "budget")
PAGE = "docs/deepxde.md"
RUNS = {
    "deepxde": ("DeepXDE", 1),
    "gauss_newton": ("Gauss-Newton", 1),
    "fipa:2": ("FIPA, 2 clients", 2),
    "fipa:4": ("FIPA, 4 clients", 4),
}
"""Heads of the table's columns and numbers of clients."""

OPTIONS: dict[str, dict[str, object]] = {"gauss_newton": {"sketch": "range"}}
"""The range finder has the digits of the full SVD and is faster."""


def measure(
    example: str, method: str, clients: int, rounds: int, budget: float
) -> Entry:
    """One run from start 0 and what the tables need of it."""
    if method == "deepxde":
        history = _examples.by_deepxde(example, 0, budget)
    else:
        history = trained(example, method, clients, rounds, budget)
    shown = [history[k] for k in thinned(len(history))]
    found: Entry = {"round": [line["round"] for line in shown]}
    for axis in ("error", "unknown", "seconds"):
        if shown[0][axis] is not None:
            found[axis] = [short(line[axis]) for line in shown]
    return found


def check(example: str, method: str, *others: object) -> None:
    """Raise ValueError if there is no such example or method."""
    if example not in _examples.names():
        raise ValueError(f"No example '{example}': {', '.join(_examples.names())}.")
    if method != "deepxde":
        methods.load(method)


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
            progress=False,
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
    worst = "Relative L2 error, of the worst output."
    unknown = "Relative error of the unknown numbers, the worst one of each example."
    return [
        Table("deepxde", worst, wide, rows, PAGE, tex=True),
        Table(
            "deepxde-unknowns", unknown, ["example", *heads], inverse, PAGE, tex=True
        ),
    ]


def _seconds(entry: Entry, error: float) -> str | None:
    """What a run took to an error; nothing if it never got there."""
    taken = first(entry, "seconds", error)
    return f"{taken:.2g}" if taken < inf else None


EXPERIMENT = Experiment(
    "deepxde",
    __doc__,
    KEY,
    [
        (name, which.partition(":")[0], clients, 100, 40.0)
        for which, (_, clients) in RUNS.items()
        for name in _examples.names()
    ],
    measure,
    tables,
    page=PAGE,
    check=check,
)

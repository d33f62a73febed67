"""DeepXDE scripts, trained by DeepXDE, by our Gauss-Newton and by federations.

Every script of scripts/deepxde_examples, unchanged, from the same three starts:

    deepxde        DeepXDE's Adam (rate 1e-3, 5000 iterations at most), then L-BFGS
    gauss_newton   the same data and network by fedsciml.deepxde, centralised
    fipa           and in strips, one for each of 2 or 4 clients

in float64 on one core, until 100 rounds or 40 processor seconds are spent. An hour of
a core.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments import _examples
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, short
from experiments._runs import first, middle, thinned
from experiments._table import Cell, Table
from experiments._yardstick import as_a_script
from fedsciml import deepxde, methods, run
from fedsciml.federation.history import Round

KEY = ("example", "method", "clients", "seed", "rounds", "budget")
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
    example: str, method: str, clients: int, seed: int, rounds: int, budget: float
) -> Entry:
    """One run and what the tables need of it; the seed draws the start."""
    if method == "deepxde":
        history = _examples.by_deepxde(example, seed, budget)
    else:
        history = trained(example, method, clients, seed, rounds, budget)
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
    name: str, method: str, clients: int, seed: int, rounds: int, budget: float
) -> list[Entry]:
    """Rounds, seconds and worst errors of a run in this library."""
    with as_a_script(seed):
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
            seed,
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

    Medians over the starts. Of DeepXDE the lowest error of a run counts, as if someone
    who knows the solution had stopped it there.
    """
    found = grouped(entries, *KEY[:3])
    rows: list[list[Cell]] = []
    inverse: list[list[Cell]] = []
    for name in sorted({e["example"] for e in entries}):
        keys = [(name, w.partition(":")[0], n) for w, (_, n) in RUNS.items()]
        if not all(key in found for key in keys):
            continue
        theirs, *ours = (found[key] for key in keys)
        best = {e["seed"]: min(e["error"]) for e in theirs}
        row: list[Cell] = [name, len(theirs), middle([*best.values()])]
        row.append(_seconds(theirs, best))
        for runs in ours:
            last = {e["seed"]: e["error"][-1] for e in runs}
            row += [middle([*last.values()]), _seconds(runs, last)]
            row.append(_seconds(runs, best))
        rows.append(row)
        if "unknown" in theirs[0]:
            least = middle([min(e["unknown"]) for e in theirs])
            lasts = [middle([e["unknown"][-1] for e in runs]) for runs in ours]
            inverse.append([name, least, *lasts])
    heads = [head for head, _ in RUNS.values()]
    wide = ["example", "starts", heads[0], "s"]
    for head in heads[1:]:
        wide += [head, "s", "s to DeepXDE's"]
    worst = "Relative L2 error, of the worst output, median over the starts."
    unknown = "Relative error of the unknown numbers, the worst one of each example."
    return [
        Table("deepxde", worst, wide, rows, PAGE, tex=True),
        Table(
            "deepxde-unknowns", unknown, ["example", *heads], inverse, PAGE, tex=True
        ),
    ]


def _seconds(runs: Sequence[Entry], errors: Mapping[int, float]) -> str | None:
    """Median of what runs took to errors by start; nothing if most never got there."""
    pairs = [(e, errors[e["seed"]]) for e in runs if e["seed"] in errors]
    taken = middle([first(e, "seconds", error) for e, error in pairs])
    return None if taken is None else f"{taken:.2g}"


EXPERIMENT = Experiment(
    "deepxde",
    __doc__,
    KEY,
    [
        (name, which.partition(":")[0], clients, seed, 100, 40.0)
        for seed in range(3)
        for which, (_, clients) in RUNS.items()
        for name in _examples.names()
    ],
    measure,
    tables,
    page=PAGE,
    check=check,
)

"""Every problem of a suite by every method, from several starts.

Each run makes its rounds; a method with a budget goes on until it has computed for so
many seconds, so that methods with cheap rounds are seen at as many bytes and seconds as
the others. On problems of other suites than `fipa` every method has the same seconds,
and FIPA and Gauss-Newton at most their rounds. Finished runs are kept also when their
options would now be others. Methods with options take those that experiment `tuning`
found.

A problem is NAME or NAME:KEY=VALUE,... with arguments of ``make``. The tables are those
of README, docs/results.md, docs/benchmark.md, docs/problems.md and figures/tables.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

import numpy as np
import torch

from experiments import _suite_tables
from experiments._drawing import Drawing, chosen, methods_of, spread, styled
from experiments._experiment import Experiment
from experiments._record import DATA, Entry, short
from experiments._runs import OURS, ROUNDS, Runs, longest, thinned
from experiments._suites import (
    BESIDE,
    DENSE,
    EXTRA,
    FEDPINN,
    HARD,
    RIVALS,
    ROWS,
    cases,
    longest_of,
    options_of,
    setting_of,
)
from experiments._table import Table
from experiments._words import title
from fedsciml import analysis, methods, plot, problems, run
from fedsciml.command.suite import LINES, SINES, SPACES, SUITE
from fedsciml.federation.history import Round
from fedsciml.plot import Panel
from fedsciml.problem import Problem

KEY = ("problem", "method", "seed", "rounds", "budget")
ERRORS = ("relative_l2", "mse")
AUTHORS = DATA / "published.json"
"""Best errors of the authors' own program, run on two cores."""

INVERSE = ("heat_inverse", "burgers_inverse", "terrain")
TIMES = tuple(name for name in EXTRA if name not in INVERSE)
SHOWN = "allen_cahn"
DEMO = ("fipa", "fedavg", "gauss_newton")
"""Problem and methods of the figure that README begins with."""
SYMBOLS = {"nu": r"\nu"}
"""Of unknown numbers."""

TALL = 4
"""Problems in a figure at most: a page is not taller than nine inches."""


def measure(problem: str, method: str, seed: int, rounds: int, budget: float) -> Entry:
    """One run and what tables and figures need of it."""
    made, setting = problems.parse(problem), setting_of(problem)
    # The other suites know one measure.
    quantity = "relative_l2" if setting else analysis.quantity(made)
    sought = setting.sought if setting else ""
    alone = method == "local_only"
    parts = [made.alone(m) for m in range(made.clients)] if alone else [made]
    found = [trained(p, method, seed, rounds, budget, problem) for p in parts]
    history = averaged(found) if alone else found[0]
    shown = [history[k] for k in thinned(len(history))]
    errors = [
        line.errors[sought] if sought else getattr(line, quantity) for line in shown
    ]
    return {
        "options": options_of(problem, method),
        "quantity": quantity,
        "parameters": made.network.size,
        "clients": made.clients,
        "threads": torch.get_num_threads(),
        "round": [line.round for line in shown],
        "error": [short(error) for error in errors],
        "bytes": [line.sent for line in shown],
        "seconds": [short(line.seconds) for line in shown],
        "epochs": epochs(history, shown),
        "rank": [short(mean(line.ranks)) for line in shown if line.ranks],
        "each": {
            k: short(v) for k, v in history[-1].errors.items() if math.isfinite(v)
        },
    }


def trained(
    problem: Problem, row: str, seed: int, rounds: int, budget: float, name: str
) -> list[Round]:
    """The history of a run: so many rounds at least, and so many seconds.

    Of a run that diverges, the rounds before.
    """
    found, least = ROWS[row], ROWS[row].rounds or rounds
    most = longest_of(name)
    if not found.method:
        return yardstick(name, row, seed, budget)
    method = methods.load(found.method, **options_of(name, row))

    def enough(history: list[Round]) -> bool:
        seconds = history[-1].seconds
        spent = seconds >= budget or found.rounds > 0
        return (len(history) >= least and spent) or seconds >= most

    longest = 10**6 if budget else least
    history: list[Round] = []
    try:
        run(
            problem,
            method,
            longest,
            seed,
            stop=enough,
            clock=time.process_time,
            progress=history.append,
        )
    except FloatingPointError as error:
        if not history:
            raise
        print(f"Diverged: {error}", file=sys.stderr)
    return history


def yardstick(problem: str, row: str, seed: int, budget: float) -> list[Round]:
    """DeepXDE's history; an epoch is an iteration, a round a hundred or of NNCG one."""
    from experiments._yardstick import trained as by_deepxde  # its import takes seconds

    lines = by_deepxde(problem, seed, budget, nncg=row == "deepxde_nncg")
    before = [0, *(line["iterations"] for line in lines)]
    return [
        Round(
            line["round"],
            line["loss"],
            epochs=line["iterations"] - done,
            relative_l2=line["relative_l2"],
            mse=line["mse"],
            errors=line["errors"],
            seconds=line["seconds"],
        )
        for line, done in zip(lines, before, strict=False)
    ]


def averaged(histories: Sequence[Sequence[Round]]) -> list[Round]:
    """The mean errors and ranks of parties that train alone, and their seconds' sum."""
    shortest = min(len(history) for history in histories)
    result = []
    for lines in zip(*(history[:shortest] for history in histories), strict=True):
        each = [line.errors for line in lines if line.errors]
        result.append(
            replace(
                lines[0],
                **{k: mean(getattr(line, k) for line in lines) for k in ERRORS},
                errors={k: mean(e[k] for e in each) for k in (each[0] if each else ())},
                ranks=tuple(rank for line in lines for rank in line.ranks),
                seconds=sum(line.seconds for line in lines),
            )
        )
    return result


def epochs(history: Sequence[Round], shown: Sequence[Round]) -> list[int]:
    """Local epochs of a client so far, at the rounds shown."""
    total, at = 0, {}
    for line in history:
        total += line.epochs
        at[line.round] = total
    return [at[line.round] for line in shown]


def counted(entries: Sequence[Entry]) -> list[Entry]:
    """Of the runs from the same start, the one that was to go on longest.

    By seconds, then by rounds: where seconds are bounded an older run may have more.
    """
    return longest(entries, KEY[:3], lambda e: (e["budget"], e["rounds"]))


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Those of suite ``fipa``."""
    runs, names = Runs(counted(entries)), list(ROWS)
    first = _suite_tables.overview(runs, RIVALS)
    found = [
        _suite_tables.matrix(runs, names),
        _suite_tables.against(runs),
        _suite_tables.published(runs, json.loads(AUTHORS.read_text())),
        *(_suite_tables.detail(runs, name, names) for name in runs.problems),
    ]
    return [
        replace(first, page="docs/results.md", tex=True),
        *(replace(table, page="docs/benchmark.md", tex=True) for table in found),
    ]


def reached(
    suite: str, problems: Sequence[str], entries: Sequence[Entry]
) -> list[Table]:
    """That of another suite."""
    asked = {name: s.asked for name, s in (FEDPINN | EXTRA | HARD).items()}
    found = _suite_tables.reached(suite, problems, counted(entries), asked, 100)
    return [replace(found, page="docs/problems.md", tex=True)]


def rows(
    entries: Sequence[Entry], names: Sequence[str], height: float = 1.6
) -> plot.Figure:
    """A row of three panels per problem: medians over the starts, and quartiles."""
    runs = [credited(e) for e in counted(chosen(entries, problem=names))]
    shown = [name for name in names if any(e["problem"] == name for e in runs)]
    parts = []
    for name in shown:
        bottom = name == shown[-1]
        parts += row([e for e in runs if e["problem"] == name], bottom)
    return plot.panels(parts, 3, height=height, legend="below", sharey="row")


def row(runs: Sequence[Entry], bottom: bool) -> list[Panel]:
    """The error of each method on one problem, against rounds, bytes and seconds."""
    mine = {m: [e for e in runs if e["method"] == m] for m in methods_of(runs)}
    sending = {m: found for m, found in mine.items() if found[0]["bytes"][-1]}
    quantity = runs[0]["quantity"]
    ylabel = "mean squared error" if quantity == "mse" else plot.QUANTITIES[quantity]
    if (setting := setting_of(runs[0]["problem"])) and setting.sought:
        ylabel = rf"relative error of ${SYMBOLS.get(setting.sought, setting.sought)}$"
    words = f"{title(runs[0]['problem'])}, {runs[0]['clients']} clients"
    parts = []
    for axis, word, drawn in (
        ("round", "round", mine),
        ("megabytes", "megabytes sent, both ways", sending),
        ("seconds", "seconds of one core", mine),
    ):
        first = axis == "round"
        parts.append(
            Panel(
                words if first else "",
                word if bottom else "",
                ylabel,
                [styled(m, spread(e, axis)) for m, e in drawn.items()],
            )
        )
    return parts


def credited(entry: Entry) -> Entry:
    """A run with megabytes, and errors as the tables count them (``_runs``)."""
    errors = entry["error"]
    if entry["method"] not in OURS:
        errors = np.fmin.accumulate(errors).tolist()
    return {**entry, "error": errors, "megabytes": [b / 1e6 for b in entry["bytes"]]}


def convergence(entries: Sequence[Entry]) -> plot.Figure:
    """Single runs of the demo's problem, for as many rounds as methods are compared."""
    seed = min(e["seed"] for e in chosen(entries, problem=SHOWN, method=DEMO))
    runs = counted(chosen(entries, problem=SHOWN, method=DEMO, seed=seed))
    runs = [credited(begun(run, ROUNDS)) for run in runs]
    first, sent, last = row(runs, bottom=True)
    parts = [replace(first, xscale="linear"), sent, last]
    return plot.panels(parts, 3, height=2.7, legend="below", sharey="row")


def begun(entry: Entry, rounds: int) -> Entry:
    """The first rounds of a run."""
    kept = sum(k <= rounds for k in entry["round"])
    series = ("round", "error", "bytes", "seconds")
    return {**entry, **{name: entry[name][:kept] for name in series}}


DRAWINGS = {
    "allen_cahn-convergence": Drawing(
        convergence,
        "One run each of FIPA, FedAvg and centralised Gauss-Newton on Allen-Cahn.",
    ),
    "suite-sine": Drawing(
        lambda entries: rows(entries, SINES),
        "Test error of all methods on three regressions against rounds, bytes and "
        "seconds; medians over the starts, quartiles shaded. Of baselines, the lowest "
        "error so far; a round of centralised descent is a block of iterations.",
    ),
    "suite-pde-1d": Drawing(
        lambda entries: rows(entries, LINES),
        "Relative L2 error of all methods on the equations in one dimension against "
        "rounds, bytes and seconds; medians over the starts, quartiles shaded.",
    ),
    "suite-2d-5d": Drawing(
        lambda entries: rows(entries, ("gaussians2d", *SPACES)),
        "The same in two, three and five dimensions, and for a regression in two.",
    ),
}


def pages(name: str, named: Sequence[str], shows: str) -> dict[str, Drawing]:
    """Figures of a suite with a few problems each: NAME-1, NAME-2, ...

    Args:
        name: Of the figures.
        named: The problems.
        shows: What the rows show; the problems of each figure are added.
    """
    parts = [named[k : k + TALL] for k in range(0, len(named), TALL)]
    drawings = [page(part, shows) for part in parts]
    if len(drawings) == 1:
        return {name: drawings[0]}
    return {f"{name}-{k}": drawing for k, drawing in enumerate(drawings, 1)}


def page(named: Sequence[str], shows: str) -> Drawing:
    """A row for each of these problems."""
    words = ", ".join(map(title, named))
    return Drawing(lambda entries: rows(entries, named), f"{shows}: {words}.")


FEDPINN_DRAWINGS = pages(
    "suite-fedpinn",
    tuple(FEDPINN),
    "Error of FIPA, of centralised Gauss-Newton and of rivals, FedAvg with its "
    "published setting, against rounds, bytes and seconds",
)
EXTRA_DRAWINGS = {
    **pages(
        "suite-extra",
        TIMES,
        "The same for equations in time, systems and other domains",
    ),
    **pages("suite-inverse", INVERSE, "The same for unknown numbers and measured data"),
}

MORE_DRAWINGS = {
    "suite-more": Drawing(
        lambda entries: rows(entries, tuple(HARD), 1.3),
        "Suite more: the same for solitons, waves, ten dimensions and a small square.",
    )
}


def check(problem: str, method: str, *others: object) -> None:
    """Raise ValueError if there is no such method, or it has no options there."""
    if method not in ROWS:
        raise ValueError(f"No method '{method}' here; choose one of {', '.join(ROWS)}.")
    options_of(problem, method)


PAPER = Experiment(
    "fipa",
    f"All methods, and DeepXDE, on the problems of the paper.\n\n{__doc__}",
    KEY,
    lambda entries: cases(SUITE),
    measure,
    tables,
    DRAWINGS,
    record="suite.json",
    check=check,
)


def _beside(
    name: str, about: str, named: Sequence[str], drawings: dict[str, Drawing]
) -> Experiment:
    """FIPA, Gauss-Newton, DeepXDE, published FedAvg and FIPA on other problems."""
    return replace(
        PAPER,
        name=name,
        about=f"FIPA, Gauss-Newton, DeepXDE and FedAvg on {about}.\n\n{__doc__}",
        cases=lambda entries: cases(named, BESIDE),
        tables=partial(reached, name, named),
        drawings=drawings,
        record=f"{name}.json",
    )


EXPERIMENTS = (
    PAPER,
    replace(
        PAPER,
        name="fipa-1d",
        about=f"The same on those in one dimension.\n\n{__doc__}",
        cases=lambda entries: cases((*SINES, *LINES)),
        drawings={},
    ),
    _beside(
        "fedpinn",
        "the problems of arXiv 2410.13141",
        (*FEDPINN, *DENSE),
        FEDPINN_DRAWINGS,
    ),
    _beside("extra", "other problems", tuple(EXTRA), EXTRA_DRAWINGS),
    _beside("more", "solitons, waves, ten dimensions", tuple(HARD), MORE_DRAWINGS),
)
